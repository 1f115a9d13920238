public import CloudMountVFS

/// `mounts.yaml`, checked and complete: every reference resolved, every default applied.
public struct Configuration: Sendable {
    /// The local disk that all mounts share.
    public struct Cache: Sendable, Equatable {
        /// Absolute path.
        public var directory: String
        /// Most bytes that the daemon takes there.
        public var size: Int
        /// Bytes that the daemon leaves free on that disk.
        public var keepFree: Int
    }

    public struct Log: Sendable, Equatable {
        public enum Format: String, Sendable, CaseIterable { case text, json }
        /// Name of a swift-log level.
        public var level: String
        public var format: Format
    }

    /// One entry of `mounts:`.
    public struct Mount: Sendable {
        public var name: String
        /// Absolute path.
        public var path: String
        public var provider: ProviderDescriptor
        /// What the provider is made of. Holds secrets.
        public var context: ProviderContext
        public var policy: CachePolicy
        /// Nil when the policy was given in place.
        public var policyName: String?
        public var uid: UInt32
        public var gid: UInt32
        public var umask: UInt32 = 0o022
        public var readOnly = false
        public var allowOther = false
        /// POSIX ACLs.
        public var acl = false
        /// What everything is shown with, whatever is stored.
        public var forceUID: UInt32?
        public var forceGID: UInt32?
        public var fileMode: UInt32?
        public var directoryMode: UInt32?
        public var symlinks = SymlinkRule.follow
        public var exec = true
        public var noSymlinkFollow = false

        /// Owner and modes are the mount's, not the store's.
        public var forcesAttributes: Bool {
            forceUID != nil || forceGID != nil || fileMode != nil || directoryMode != nil
        }
    }

    /// As it was named to `load`.
    public var file: String
    public var cache: Cache
    /// Most bytes of memory for what is read ahead.
    public var memory: Int
    /// Path of the Unix socket of the control protocol.
    public var controlSocket: String
    public var log: Log
    /// In the order of the file; never empty.
    public var mounts: [Mount]
    /// What is risky but not wrong.
    public var warnings: [ConfigurationProblem]
}
