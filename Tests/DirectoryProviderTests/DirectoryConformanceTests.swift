import DirectoryProvider
import ProviderConformance
import Testing

@Suite("The directory provider") struct DirectoryConformanceTests {
    static let folder = TemporaryFolder()
    static let subject = Subject(missingBucket: { DirectoryProvider(path: folder.path + "/absent") }) {
        DirectoryProvider(path: folder.path, isDurable: false)
    }

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
