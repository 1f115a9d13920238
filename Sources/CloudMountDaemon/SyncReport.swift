import CloudMountFilesystem
import CloudMountVFS

/// How far a `cloudmount sync` is, and what `--json` prints of its end. Members are added to it, never renamed or taken away.
public struct SyncReport: Codable, Sendable, Equatable {
    /// That held something when it began, and their bytes.
    public var files = 0
    public var bytes = 0
    public var storedFiles = 0
    public var storedBytes = 0
    /// Bytes that the mounts have sent since it began, for whatever.
    public var sentBytes = 0
    /// Its time was over.
    public var isTimedOut = false
    public var unstored: [File] = []
    /// How many are not stored and not named, for want of room.
    public var unnamed = 0

    public struct File: Codable, Sendable, Equatable {
        public var mount: String
        /// From the root of the mount on.
        public var path: String
        public var bytes: Int
        public var error: String
        /// Where the bytes lie, if they are on disk.
        public var stagedPath: String
        /// It will never be stored by itself.
        public var isFinal: Bool
    }

    /// What another daemon says, of other mounts.
    public mutating func add(_ other: SyncReport) {
        files += other.files
        bytes = bytes.addingSaturated(other.bytes)
        storedFiles += other.storedFiles
        storedBytes = storedBytes.addingSaturated(other.storedBytes)
        sentBytes = sentBytes.addingSaturated(other.sentBytes)
        isTimedOut = isTimedOut || other.isTimedOut
        unstored += other.unstored
        unnamed += other.unnamed
    }

    public init() {}

    /// Files named at most.
    static let mostNamed = 1000
}

extension SyncReport.File {
    init(_ mount: String, _ told: MountStatistics.FailedCommit) {
        self.init(
            mount: mount, path: told.path, bytes: told.bytes, error: told.error, stagedPath: told.stagedPath,
            isFinal: told.isFinal)
    }
}
