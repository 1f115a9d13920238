import CloudMountVFS

/// What the tree goes by: the settings that matter to it, and what the store can do.
struct TreeRules: Sendable {
    /// Nanoseconds that names and attributes are valid.
    var metadataTTL: UInt64
    /// Nanoseconds that a name which was not there counts as absent.
    var negativeTTL: UInt64
    /// Nanoseconds that the kernel believes anything, and a directory in which nobody looks counts as in use.
    var longestTold: UInt64
    var usedFor: UInt64
    var polls: Bool { usedFor > 0 }
    var uid: UInt32
    var gid: UInt32
    var filePermissions: UInt32
    var directoryPermissions: UInt32
    var forced: ForcedAttributes
    var symlinks: SymlinkRule
    var mostNodes: Int
    var mostMetadata: Int
    /// New files get what the default access control list of their directory says.
    var acl: Bool
    let capabilities: Capabilities

    init(_ settings: MountSettings, _ capabilities: Capabilities) {
        metadataTTL = settings.policy.effectiveMetadataTTL
        negativeTTL = settings.policy.effectiveNegativeTTL
        let poll = settings.policy.poll.nanoseconds
        // The kernel asks again, from memory, before a directory that somebody watches counts as unused.
        (longestTold, usedFor) = poll > 0 ? (poll * 5, poll * 10) : (.max, 0)
        uid = settings.uid
        gid = settings.gid
        filePermissions = settings.filePermissions
        directoryPermissions = settings.directoryPermissions
        forced = settings.forced
        symlinks = settings.symlinks
        mostNodes = settings.mostNodes
        mostMetadata = settings.mostMetadata
        acl = settings.acl
        self.capabilities = capabilities
    }

    func expiry(_ now: UInt64) -> UInt64 { now + metadataTTL }
    func told(_ time: UInt64) -> Duration { .nanoseconds(min(time, longestTold)) }
    func absence(_ now: UInt64) -> Directory.Absence { Directory.Absence(since: now, until: now + negativeTTL) }

    /// Owner and modes of what has none.
    func hasOtherDefaults(than other: TreeRules) -> Bool {
        uid != other.uid || gid != other.gid || filePermissions != other.filePermissions
            || directoryPermissions != other.directoryPermissions
    }
}

extension CachePolicy {
    /// Nanoseconds.
    var effectiveMetadataTTL: UInt64 { freshness == .always ? 0 : metadataTTL.nanoseconds }
    var effectiveNegativeTTL: UInt64 { freshness == .always ? 0 : negativeTTL.nanoseconds }
    var effectivePrefetch: Int { data == .off ? 0 : prefetch }
}

extension Node {
    /// Gives what the metadata does not say the mount's defaults.
    func applyDefaults(_ rules: TreeRules) {
        if defaulted.contains(.permissions) {
            permissions = kind == .directory ? rules.directoryPermissions : rules.filePermissions
        }
        if defaulted.contains(.uid) { uid = rules.uid }
        if defaulted.contains(.gid) { gid = rules.gid }
    }
}
