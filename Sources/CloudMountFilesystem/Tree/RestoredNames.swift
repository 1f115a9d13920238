import CloudMountCommit
import CloudMountStaging
import CloudMountVFS

/// A file of an earlier process.
struct RestoredFile {
    let inode: InodeID
    /// Of names and attributes, and of bytes, before anybody could change them.
    let generations: [UInt64]
}

/// Names of what an earlier process could not store.
struct RestoredNames: Sendable {
    let context: MountContext
    let tree: Tree
    let saved: SavedNames

    /// A file that an earlier process could not store has its name again, with folders above it as far as they are not known.
    /// - Returns: nil when it cannot have the name, or something that is not only what the store has.
    func restore(_ write: SealedWrite, _ staged: StagedFile?, unseen: Unseen?) -> RestoredFile? {
        let now = tree.now()
        let time = context.clock.now()
        let names = write.key.names.compactMap { try? FileName(validating: $0.utf8) }
        guard names.count == write.key.names.count, let last = names.last, !write.key.endsWithSlash,
            write.attributes.kind ?? .regular == .regular
        else { return nil }
        takeUp(path(of: write.key))
        var shown: Place?
        let restored = tree.restore(write.layers, staged) { names in
            guard var parent = names[Namespace.root] else { return nil }
            for name in path(of: write.key) {
                parent = names.showDirectory(name, in: parent, now, time)
                guard parent.directory != nil else { return nil }
            }
            guard !names.gate.isClaimed(Place(parent: parent.id, name: last)) else { return nil }
            if let there = parent.directory?.children[last] {
                guard there.kind == .regular, !there.isDirty, !there.isHeld, there.openCount == 0 else { return nil }
                names.orphan(there)
                shown = Place(parent: parent.id, name: last)
            }
            let node = names.insert(
                name: last, in: parent, kind: .regular, permissions: names.rules.filePermissions,
                uid: names.rules.uid, gid: names.rules.gid, time: time, isNew: true)
            node.adopt(write.attributes, defaults: names.rules)
            node.size = write.size
            node.version = write.replaces
            (node.isKnown, node.lacksDetails) = (unseen != .all, unseen == .details)
            node.touched = now
            names.weights.add(node)
            names.soil(node)
            guard names.key(of: node) == write.key else {
                names.orphan(node)
                return nil
            }
            return node
        }
        if let shown { context.invalidate([shown]) }
        return restored
    }

    /// What is known of the directories on the way comes first, so that what is given back is not missing in it.
    private func takeUp(_ path: [FileName]) {
        var inode = Namespace.root
        saved.takeUpBlocking(inode)
        for name in path {
            let next = tree.withNames { names in
                names[inode]?.directory?.children[name].flatMap { $0.directory == nil ? nil : $0.id }
            }
            guard let next else { return }
            inode = next
            saved.takeUpBlocking(inode)
        }
    }

    private func path(of key: ObjectKey) -> [FileName] { key.names.dropLast().map { FileName(unchecked: $0) } }
}
