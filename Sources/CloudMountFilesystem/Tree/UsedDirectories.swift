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
        guard let node = self[inode], !node.isOrphan, let directory = node.directory else {
            used.remove(inode)
            return false
        }
        if node.openCount > 0 || directory.lookedInAt + rules.usedFor > now { return true }
        used.remove(inode)
        return false
    }
}
