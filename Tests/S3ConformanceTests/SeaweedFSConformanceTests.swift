import ProviderConformance
import TestServers
import Testing

@Suite("The S3 provider on SeaweedFS") struct SeaweedFSConformanceTests {
    static let subject = Subject(
        s3: { try await SeaweedFS.shared() }, checksSignatures: true,
        deviations: [
            KnownDeviation(
                "an empty metadata value comes back",
                "an entry with an empty value is dropped"),
            KnownDeviation(
                "delete takes one key and leaves its neighbours",
                "it is a tree of files inside: 'a' and 'a/' cannot both be"),
            KnownDeviation(
                "key with a backslash",
                "it is taken for a slash"),
            KnownDeviation(
                "key with a dot segment",
                "refused as an invalid path"),
            KnownDeviation(
                "key with a dot-dot segment",
                "refused as an invalid path"),
            KnownDeviation(
                "key with a trailing dot segment",
                "refused as an invalid path"),
            KnownDeviation(
                "key with a leading slash",
                "slashes in a row are folded"),
            KnownDeviation(
                "key with two slashes",
                "slashes in a row are folded"),
            KnownDeviation(
                "key with a segment of 300 bytes",
                "a segment has 255 bytes at most"),
            KnownDeviation(
                "key with a slash at the end",
                "the body of a folder object is lost"),
            KnownDeviation(
                "key with a slash at the end, and a body",
                "the body of a folder object is lost"),
            KnownDeviation(
                "no folder is left when the last key in it is deleted",
                "an empty folder stays as a common prefix"),
            KnownDeviation(
                "the part of a key before a slash is no object",
                "HEAD of a folder is 200"),
        ])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
