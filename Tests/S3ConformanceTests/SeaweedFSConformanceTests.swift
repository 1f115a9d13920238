import ProviderConformance
import TestServers
import Testing

@Suite("The S3 provider on SeaweedFS") struct SeaweedFSConformanceTests {
    static let subject = Subject(
        s3: { try await SeaweedFS.shared() }, checksSignatures: true,
        deviations: [
            // A file tree underneath.
            KnownDeviation("key with a backslash", "'\\' becomes '/' in listings"),
            KnownDeviation("key with two slashes", "'//' is folded to '/' in listings"),
            KnownDeviation("key with a leading slash", "'//' is folded to '/' in listings"),
            KnownDeviation("key with a dot segment", "PutObject: 400 InvalidRequest"),
            KnownDeviation("key with a dot-dot segment", "PutObject: 400 InvalidRequest"),
            KnownDeviation("key with a trailing dot segment", "PutObject: 400 InvalidRequest"),
            KnownDeviation(
                "key with a segment of 300 bytes", "PutObject: 400 KeyTooLongError, a segment has 255 bytes"),
            KnownDeviation("key with a slash at the end", "a folder object loses its body"),
            KnownDeviation("key with a slash at the end, and a body", "a folder object loses its body"),
            KnownDeviation("delete takes one key and leaves its neighbours", "'a' and 'a/': 409 ExistingObjectIsFile"),
            KnownDeviation("no folder is left when the last key in it is deleted", "its common prefix is still listed"),
            KnownDeviation("the part of a key before a slash is no object", "HEAD 'p/' is 200 when there is 'p/q'"),
            KnownDeviation("an empty metadata value comes back", "the header is dropped"),
        ])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
