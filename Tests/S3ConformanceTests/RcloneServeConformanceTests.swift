import ProviderConformance
import TestServers
import Testing

private let folderObjects = "the key is stored as a file of the same name, which no key can be below"
private let expires = "the header Expires is lost"
private let race = "PutObject: 500 when several writers make the same folder at once"

/// The stand-in for poorer stores: what it lacks, the probe finds; what is left is here.
@Suite("The S3 provider on rclone serve s3") struct RcloneServeConformanceTests {
    static let subject = Subject(
        s3: { try await RcloneServe.shared() }, checksSignatures: true,
        deviations: [
            // A file tree underneath.
            KnownDeviation("key with two slashes", "PutObject: 400 InvalidArgument"),
            KnownDeviation("key with a leading slash", "PutObject: 400 InvalidArgument"),
            KnownDeviation("key with a dot segment", "PutObject: 400 InvalidArgument"),
            KnownDeviation("key with a dot-dot segment", "PutObject: 400 InvalidArgument"),
            KnownDeviation("key with a trailing dot segment", "PutObject: 400 InvalidArgument"),
            KnownDeviation("key with a segment of 300 bytes", "PutObject: 500 InternalError"),
            KnownDeviation("key beside keys below it", "PutObject: 500 InternalError"),
            KnownDeviation("key below an existing key, put in the other order", "PutObject: 500 InternalError"),
            KnownDeviation("key with a slash at the end", folderObjects),
            KnownDeviation("key with a slash at the end, and a body", folderObjects),
            KnownDeviation("key with a slash at the end, empty", folderObjects),
            KnownDeviation("delete takes one key and leaves its neighbours", folderObjects),
            // Metadata.
            KnownDeviation("standard headers come back as given", expires),
            KnownDeviation("an upload in parts keeps its metadata", expires),
            KnownDeviation(
                "as much metadata as is allowed, with a nonce and a time", "PutObject: 400 MetadataTooLarge below 2 KB"),
            KnownDeviation("copy replaces all metadata when some is given", "old and new metadata are merged"),
            // Uploads are streamed on as they come.
            KnownDeviation("part numbers with gaps", "CompleteMultipartUpload: 400 InvalidPart"),
            KnownDeviation("a part sent again replaces the one before", "UploadPart: 501 NotImplemented"),
            // Races.
            KnownDeviation("small pages give every key and prefix once", race, isIntermittent: true),
            KnownDeviation("paging over 2,500 keys", race, isIntermittent: true),
            KnownDeviation("delete of many keys at once", race, isIntermittent: true),
            KnownDeviation("64 operations at once", race, isIntermittent: true),
            KnownDeviation(
                "bytes are never mixed while an object is overwritten", "a GET under way is cut short",
                isIntermittent: true),
        ])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
