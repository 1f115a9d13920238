import ProviderConformance
import TestServers
import Testing

@Suite("The S3 provider on moto") struct MotoConformanceTests {
    static let subject = Subject(
        s3: { try await Moto.shared() }, checksSignatures: false,
        deviations: [
            KnownDeviation("key with a newline", "PutObject: 404 with a page of its web framework"),
            KnownDeviation("an aborted upload is gone and leaves nothing", "UploadPart and ListParts then: 500"),
            KnownDeviation("an upload that never began is uploadNotFound", "UploadPart: 500"),
        ])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
