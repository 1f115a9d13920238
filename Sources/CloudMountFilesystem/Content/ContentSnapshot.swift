import CloudMountCommit
import CloudMountStaging
import CloudMountVFS

/// What a commit of a file's content begins with.
struct ContentSnapshot: Sendable {
    var size: Int
    var image: FileImage
    var base: ObjectInfo?
    var staged: StagedFile?
    var stream: StreamingUpload?
    /// What was staged in memory by then; nil when it was on disk.
    var stagedVersion: Int?
    /// Of the staged bytes, wherever they are, as the file has them; nil when that is not known.
    var bytesVersion: Int?
    var generation: UInt64
    /// It went up while it was written.
    var isStreamed: Bool

    /// What tells later which state of the file it was; it holds nothing in memory or on disk.
    var withoutBytes: ContentSnapshot {
        var snapshot = self
        (snapshot.staged, snapshot.stream) = (nil, nil)
        return snapshot
    }
}
