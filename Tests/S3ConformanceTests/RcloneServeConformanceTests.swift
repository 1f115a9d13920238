import ProviderConformance
import TestServers
import Testing

@Suite("The S3 provider on RcloneServe") struct RcloneServeConformanceTests {
    static let subject = Subject(
        s3: { try await RcloneServe.shared() }, checksSignatures: true,
        deviations: [
            KnownDeviation(
                "a part sent again replaces the one before",
                "parts are streamed to the file as they come"),
            KnownDeviation(
                "almost as much metadata as is allowed",
                "less than 2 KB of metadata is refused"),
            KnownDeviation(
                "an upload in parts keeps its metadata",
                "the Expires header is not kept"),
            KnownDeviation(
                "standard headers come back as given",
                "the Expires header is not kept"),
            KnownDeviation(
                "copy replaces all metadata when some is given",
                "the old metadata is merged with the new"),
            KnownDeviation(
                "delete of an absent key counts as done",
                "an absent folder is an internal error"),
            KnownDeviation(
                "delete takes one key and leaves its neighbours",
                "it is a tree of files inside: 'a' and 'a/b' cannot both be"),
            KnownDeviation(
                "key below an existing key, put in the other order",
                "it is a tree of files inside: 'x' and 'x/y' cannot both be"),
            KnownDeviation(
                "key beside keys below it",
                "it is a tree of files inside: 'x' and 'x/y' cannot both be"),
            KnownDeviation(
                "key with a dot segment",
                "refused as an invalid name"),
            KnownDeviation(
                "key with a dot-dot segment",
                "refused as an invalid name"),
            KnownDeviation(
                "key with a trailing dot segment",
                "refused as an invalid name"),
            KnownDeviation(
                "key with a leading slash",
                "refused as an invalid name"),
            KnownDeviation(
                "key with two slashes",
                "refused as an invalid name"),
            KnownDeviation(
                "key with a segment of 300 bytes",
                "the local file system has 255 bytes at most"),
            KnownDeviation(
                "key with a slash at the end",
                "folder objects are not kept"),
            KnownDeviation(
                "key with a slash at the end, and a body",
                "folder objects are not kept"),
            KnownDeviation(
                "key with a slash at the end, empty",
                "folder objects are not listed"),
            KnownDeviation(
                "part numbers with gaps",
                "the upload is refused as InvalidPart"),
        ])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
