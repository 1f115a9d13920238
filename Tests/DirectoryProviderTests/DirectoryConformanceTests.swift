import DirectoryProvider
import ProviderConformance
import TestServers
import Testing

@Suite("The directory provider") struct DirectoryConformanceTests {
    static let folder = Result { try TemporaryFolder("directory") }
    static let subject = Subject(missingBucket: { try DirectoryProvider(path: folder.get().path + "/absent") }) {
        try DirectoryProvider(path: folder.get().path)
    }

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
