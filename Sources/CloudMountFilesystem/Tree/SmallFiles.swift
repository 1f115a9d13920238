import CloudMountCommit
import CloudMountVFS

/// The names, as those see them who fetch small files before they are opened.
struct SmallFiles: Sendable {
    let tree: Tree

    /// A file of which a reader has got the first bytes.
    struct FirstRead: Sendable {
        /// 0 when it has none any more.
        let directory: InodeID
        let size: Int
        /// The kernel had bytes of it before, and asks again.
        let isAgain: Bool
    }

    /// A reader has got its first bytes: the time of access follows as with `relatime`, in memory; it is stored along with whatever is
    /// stored next.
    func wasRead(_ inode: InodeID) -> FirstRead? {
        let time = tree.context.clock.now()
        return tree.withNames { names in
            guard let node = names[inode] else { return nil }
            let read = FirstRead(directory: node.parent, size: node.size, isAgain: node.hasPages)
            node.hasPages = true
            guard node.isKnown || node.version == nil else { return read }
            let accessed = node.details?.accessed ?? node.modified
            guard accessed <= node.modified || accessed.seconds < time.seconds - 86_400 else { return read }
            var details = node.details ?? StoredAttributes()
            details.accessed = time
            node.details = details
            return read
        }
    }

    /// A file as it is to be fetched; nil for one that need not be or may not be.
    /// - Parameter again: also those that the kernel may have in its pages.
    func fetchable(_ inode: InodeID, largest: Int, again: Bool) -> ObjectInfo? {
        let now = tree.now()
        return tree.withNames { names in
            guard let node = names[inode], node.kind == .regular, node.size > 0, node.size <= largest,
                node.validUntil > now, node.openCount == 0, node.content == nil, node.relocated == nil, !node.isHeld,
                !node.isOrphan, again || !node.hasPages || node.lookups == 0, names.isFree([inode])
            else { return nil }
            return names.key(of: node).flatMap { node.info($0, size: node.size) }
        }
    }

    /// The small files of a directory, when it is known whole; nil also when there are more than `most`. Piece by piece: nobody waits long
    /// for the lock.
    func orders(of inode: InodeID, largest: Int, most: Int) async -> FileOrders? {
        var files: [(inode: InodeID, name: FileName)] = []
        var position: Int? = 0
        var layout: Int?
        while let from = position {
            let now = tree.now()
            let piece: ([(InodeID, FileName)], next: Int?, layout: Int)? = tree.withNames { names in
                guard let directory = names[inode]?.directory, directory.completeUntil > now,
                    layout == nil || layout == directory.children.layout
                else { return nil }
                let (nodes, next) = directory.children.slice(from: from)
                let small = nodes.filter { $0.kind == .regular && $0.size > 0 && $0.size <= largest }
                return (small.map { ($0.id, $0.name) }, next, directory.children.layout)
            }
            guard let piece, files.count + piece.0.count <= most else { return nil }
            files += piece.0.map { (inode: $0.0, name: $0.1) }
            (position, layout) = (piece.next, piece.layout)
            await Task.yield()
        }
        return FileOrders(files)
    }

    /// The store has given a file's content, and told its metadata with it: nobody has to ask for that any more.
    func describe(_ inode: InodeID, _ info: ObjectInfo, asked: UInt64) {
        // Where old versions can be read, the answer does not say that this one is current.
        guard info.metadata != nil, !tree.context.capabilities.readsOldVersions else { return }
        let now = tree.now()
        tree.withNames { names in
            guard let node = names[inode], !node.isKnown, node.version == info.etag, !node.isHeld, !node.isOrphan,
                let parent = names[node.parent], parent.directory?.evidence == .present, names.isFree([inode]),
                names.key(of: node) == info.key
            else { return }
            names.isSeen(names.show(info, name: node.name, in: parent, asked: asked, now))
        }
    }
}
