import ProviderConformance
import TestServers
import Testing

@Suite("The S3 provider on SeaweedFS") struct SeaweedFSConformanceTests {
    static let subject = Subject(
        s3: { try await SeaweedFS.shared() }, checksSignatures: true, deviations: [])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
