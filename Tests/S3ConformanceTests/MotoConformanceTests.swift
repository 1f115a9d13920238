import ProviderConformance
import TestServers
import Testing

@Suite("The S3 provider on Moto") struct MotoConformanceTests {
    static let subject = Subject(
        s3: { try await Moto.shared() }, checksSignatures: false,
        deviations: [
            KnownDeviation(
                "an aborted upload is gone and leaves nothing",
                "ListParts of an upload that is gone is 500"),
            KnownDeviation(
                "an upload that never began is uploadNotFound",
                "ListParts of an upload that never was is 500"),
            KnownDeviation(
                "key with a newline",
                "a path with %0A is 404 from its web framework"),
        ])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
