package import CloudMountVFS

/// Drops what is believed of keys that have, or may have, changed in the store without this mount: whoever looks next asks the store.
/// `cloudmount refresh` comes here, as will whatever else learns of changes.
package struct Invalidator: Sendable {
    let context: MountContext
    let tree: Tree

    /// What is open stays the version that it is, and so does what holds what the store has not. Of a name that a complete listing lacked the kernel
    /// asks again within ten seconds by itself.
    /// - Parameters:
    ///   - key: of a file, or of a directory and all below it, without a slash at its end; empty: all of the mount.
    ///   - etag: of the version that is there by now: nothing is done where that is the one that is known here. Nil: not known.
    package func invalidate(_ key: ObjectKey, etag: ETag? = nil) async {
        let (below, forgotten) = tree.withNames { names in find(key, etag, &names) }
        tell(forgotten)
        if let below { await LongWork.run(.max) { self.distrustAll(below: below) } }
    }

    /// Drops what is believed of the name itself. Under the lock.
    /// - Returns: the directory that the key is of, if it is known as one; what the kernel has to be told.
    private func find(_ key: ObjectKey, _ etag: ETag?, _ names: inout Namespace) -> (InodeID?, Tree.Forgotten) {
        var forgotten = Tree.Forgotten()
        var parent = names[Namespace.root]
        var left = key.names[...]
        while let name = left.popFirst(), let above = parent, let directory = above.directory {
            let name = FileName(unchecked: name)
            let child = directory.children[name]
            if child?.directory != nil, !left.isEmpty {
                parent = child
                continue
            }
            // As far as it is known here: a folder above may have come, or have gone.
            if let child, left.isEmpty, child.directory == nil, let etag, child.version == etag {
                return (nil, forgotten)
            }
            directory.distrust()
            directory.setAbsent(name, nil)
            forgotten.entries.append((above.id, name, child?.directory != nil))
            guard let child else { return (nil, forgotten) }
            Self.distrust(child, &forgotten)
            return (child.directory == nil ? nil : child.id, forgotten)
        }
        return (parent?.id, forgotten)
    }

    private static func distrust(_ node: Node, _ forgotten: inout Tree.Forgotten) {
        (node.validUntil, node.staleSince) = (0, 0)
        if node.lookups > 0 { forgotten.inodes.append(node.id) }
    }

    /// The same of all names in a directory, and below. Piece by piece, so that nobody waits long for the lock.
    private func distrustAll(below top: InodeID) {
        var open = [top]
        while let inode = open.popLast() {
            var position: Int? = 0
            var layout: Int?
            while let from = position {
                let piece = tree.withNames { names -> (Tree.Forgotten, [InodeID], next: Int?, layout: Int) in
                    var forgotten = Tree.Forgotten()
                    guard let directory = names[inode]?.directory else { return (forgotten, [], nil, 0) }
                    if from == 0 {
                        directory.distrust()
                        forgotten.entries += directory.absent.keys.map { (inode, $0, false) }
                        directory.clearAbsent()
                    }
                    let (nodes, next) = directory.children.slice(from: from)
                    for child in nodes {
                        Self.distrust(child, &forgotten)
                        if child.lookups > 0 { forgotten.entries.append((inode, child.name, child.directory != nil)) }
                    }
                    return (
                        forgotten, nodes.compactMap { $0.directory == nil ? nil : $0.id }, next,
                        directory.children.layout
                    )
                }
                tell(piece.0)
                open += piece.1
                // Nodes have got other slots, since somebody has asked for names: what has come so is new.
                position = layout ?? piece.layout == piece.layout ? piece.next : 0
                layout = piece.layout
            }
        }
    }

    private func tell(_ forgotten: Tree.Forgotten) {
        if forgotten.isEmpty { return }
        context.tellKernel { kernel in
            for entry in forgotten.entries {
                kernel.expireEntry(parent: entry.parent, name: entry.name, isDirectory: entry.isDirectory)
            }
            for inode in forgotten.inodes { kernel.invalidateInode(inode, extent: nil) }
        }
    }
}
