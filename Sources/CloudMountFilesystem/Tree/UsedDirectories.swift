import CloudMountVFS

/// Which directories are in use, so that the mount looks at them: those that are open, that have an open file, or in which somebody has
/// looked of late.
extension Namespace {
    /// Somebody looks in the directory.
    mutating func isUsed(_ inode: InodeID, _ now: UInt64) {
        guard rules.polls, let directory = self[inode]?.directory else { return }
        directory.lookedInAt = now
        used.insert(inode)
    }

    /// Whether it is so still; else it is not told of any more.
    mutating func isStillUsed(_ inode: InodeID, _ now: UInt64) -> Bool {
        let node = self[inode].flatMap { $0.isOrphan ? nil : $0 }
        let isUsed = node.map { $0.openCount > 0 || ($0.directory?.lookedInAt ?? 0) + rules.usedFor > now } ?? false
        if !isUsed { used.remove(inode) }
        return isUsed
    }
}
