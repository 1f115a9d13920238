import CloudMountVFS

/// Directories that are shown while the mount lives, though the store keeps nothing of them.
struct FoldersHere {
    /// Some may be stored by now.
    private var ids: Set<InodeID> = []
    /// When they may be counted anew, which takes a while.
    private var countedAt: UInt64 = 0

    mutating func keep(_ node: Node) {
        node.directory?.isOnlyHere = true
        ids.insert(node.id)
    }

    mutating func remove(_ id: InodeID) { ids.remove(id) }

    /// - Throws: `noSpace` when there are as many as may be.
    mutating func requireRoom(most: Int, in nodes: NodeTable<InodeID>, _ now: UInt64) throws(VFSError) {
        if ids.count < most { return }
        if now >= countedAt {
            ids = ids.filter { nodes[$0].map(Self.isOnlyHere) ?? false }
            countedAt = now + 1_000_000_000
            if ids.count < most { return }
        }
        throw VFSError(.noSpace, "the store keeps no empty folders, and this mount keeps no more than \(most) of them")
    }

    /// One that has something of the store in it is let go of: that keeps it.
    private static func isOnlyHere(_ node: Node) -> Bool {
        guard !node.isOrphan, let directory = node.directory, directory.isOnlyHere else { return false }
        let isKept = directory.children.contains { child in
            child.directory.map { !$0.isOnlyHere && !child.isBeingMade } ?? (child.version != nil)
        }
        if isKept { directory.isOnlyHere = false }
        return !isKept
    }
}
