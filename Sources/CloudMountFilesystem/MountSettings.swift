package import CloudMountCommit
public import CloudMountVFS

/// What one mounted file system is told about itself.
public struct MountSettings: Sendable {
    public var name: String
    /// What is mounted, so that nothing that was written to it goes to another store that has the name later.
    public var store = ""
    /// Owner of everything whose metadata names none.
    public var uid: UInt32
    public var gid: UInt32
    /// Permissions of files whose metadata has none; 0o666 less the umask.
    public var filePermissions: UInt32 = 0o644
    public var directoryPermissions: UInt32 = 0o755
    public var forced = ForcedAttributes()
    /// Stays as it is while the mount lives.
    public var symlinks = SymlinkRule.follow
    /// Told at the start; afterwards `MountedBucket.setReadOnly` changes it.
    public var readOnly = false
    /// `system.posix_acl_access` and `system.posix_acl_default` are kept; the kernel enforces them.
    public var acl = false
    public var policy = CachePolicy()
    /// Names kept in memory beyond those in use, more or less: what is over it and was not used for some seconds is
    /// forgotten, by the kernel too.
    public var mostNodes = 200_000
    /// Bytes kept in memory of what the store says of files beyond stat(2), and of long names, more or less.
    public var mostMetadata = 64 << 20
    /// Extents of one file that differ from what is stored, until they are. They are kept in memory, and a commit goes through them.
    public var mostPieces = 1 << 20
    /// Bytes that the names and nodes of one directory may take while it is listed: some three million entries.
    public var mostOfDirectory = 1 << 30
    /// What listings and moves of all mounts take together.
    package var names = NameBudget.shared
    /// Empty directories that are shown while the mount lives, though the store keeps none.
    public var mostFoldersHere = 100_000

    public init(name: String, uid: UInt32, gid: UInt32) {
        self.name = name
        self.uid = uid
        self.gid = gid
    }
}

/// A snapshot for `cloudmount status`.
public struct MountStatistics: Sendable {
    /// A file whose commit failed: its bytes are where `stagedPath` says until a later commit succeeds.
    public struct FailedCommit: Sendable {
        public var path: String
        public var stagedPath: String
        public var bytes: Int
        public var error: String
        public var since: Timestamp
        /// Nothing will be tried again: the bytes are for people to fetch.
        public var isFinal = false
        /// In the journal, of one that is final; nil: there is none.
        public var record: Int64?

        public init(path: String, stagedPath: String, bytes: Int, error: String, since: Timestamp) {
            self.path = path
            self.stagedPath = stagedPath
            self.bytes = bytes
            self.error = error
            self.since = since
        }
    }

    public var inodes = 0
    /// Bytes of memory that nodes take beyond what each takes: metadata, link targets, long names.
    public var metadataBytes = 0
    public var openFiles = 0
    /// Files with bytes that the store does not have yet.
    public var dirtyFiles = 0
    public var dirtyBytes = 0
    /// Bytes of stored versions on the local disk.
    public var keptBytes = 0
    public var failedCommits: [FailedCommit] = []
    /// Files and directories last shown past their time, because the store could not be reached.
    public var staleNodes = 0
    /// Keys that no path can name, counted since the mount began; the first few of them.
    public var hiddenKeys = 0
    public var hiddenKeyExamples: [String] = []
    /// Nil where the policy has no `poll`.
    public var poll: PollReport?

    public init() {}
}
