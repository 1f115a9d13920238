import CloudMountVFS

/// One listing of a directory, page after page, held against what is believed of its names.
struct Look: Sendable {
    typealias Change = (key: ObjectKey, etag: ETag?)

    let inode: InodeID
    /// Monotonic nanoseconds when its first page was asked for; 0: it is to be.
    var began: UInt64 = 0
    /// There are pages to come.
    var isUnderWay = true
    var continuation: String?
    /// The directory's key, and how often names of directories had changed then.
    private var place: (key: ObjectKey, moves: UInt64)?
    /// Those of its children that the store has.
    private var seen: Set<InodeID> = []

    init(_ inode: InodeID) { self.inode = inode }

    /// Before each page.
    /// - Returns: false when names have changed on the way there, so that the pages might be of another directory.
    mutating func begins(at key: ObjectKey, _ tree: Tree) -> Bool {
        let moves = tree.withNames { $0.gate.moves }
        if let place, place.key != key || place.moves != moves { return false }
        place = (key, moves)
        return true
    }

    /// - Parameter asked: when the page was asked for: what is known of a name since is newer.
    /// - Returns: what the page, and if it is the last one the whole, says otherwise than is believed.
    mutating func take(_ page: ListPage, asked: UInt64, _ tree: Tree) async -> [Change] {
        let isFirst = continuation == nil
        continuation = page.continuation
        isUnderWay = continuation != nil
        guard let place else { return [] }
        let (look, isLast) = (self, !isUnderWay)
        let (changes, seen) = await LongWork.run(page.objects.count + page.commonPrefixes.count) {
            var (look, changes) = (look, [Change]())
            for slice in page.slices {
                changes += tree.withNames { names in look.compare(slice, place.key, asked, names, tree.now()) }
            }
            if isLast { changes += look.gone(place.key, tree) }
            if isFirst, isLast, page.isEmpty { changes += tree.withNames { names in look.itself(place.key, names) } }
            return (changes, look.seen)
        }
        self.seen = isLast ? [] : seen
        // Meanwhile something has got another name.
        return begins(at: place.key, tree) ? changes : []
    }

    /// Under the lock.
    private mutating func compare(
        _ page: ListPage, _ prefix: ObjectKey, _ asked: UInt64, _ names: borrowing Namespace, _ now: UInt64
    ) -> [Change] {
        guard let directory = names[inode]?.directory else { return [] }
        var changes: [Change] = []
        func isClaimed(_ name: FileName) -> Bool { names.gate.isClaimed(Place(parent: inode, name: name)) }
        for info in page.objects where info.key.byteCount > prefix.byteCount {
            guard let name = FileName.listed(info.key, prefix, isDirectory: false), !isClaimed(name) else { continue }
            guard let child = directory.children[name] else {
                if Self.isBelievedAbsent(name, directory, asked, now) { changes.append((info.key, info.etag)) }
                continue
            }
            seen.insert(child.id)
            guard child.kind != .directory, isOlder(child, than: asked, names) else { continue }
            let known = child.info(info.key, size: child.size)
            if known?.etag != info.etag || child.openCount == 0 && child.size != info.size {
                changes.append((info.key, known?.etag == info.etag ? nil : info.etag))
            } else if !child.keepsAttributes, info.stored.seconds > child.stored.seconds + 2 {
                // Its metadata was written anew.
                changes.append((info.key, nil))
            }
        }
        for key in page.unreadable {
            guard let name = FileName.listed(key, prefix, isDirectory: false) else { continue }
            if let child = directory.children[name] { seen.insert(child.id) }
        }
        for key in page.commonPrefixes {
            guard let name = FileName.listed(key, prefix, isDirectory: true), !isClaimed(name) else { continue }
            guard let child = directory.children[name] else {
                if Self.isBelievedAbsent(name, directory, asked, now) { changes.append((key.withoutSlash, nil)) }
                continue
            }
            seen.insert(child.id)
            if child.kind != .directory, isOlder(child, than: asked, names) { changes.append((key.withoutSlash, nil)) }
        }
        return changes
    }

    /// What is believed of a name says that it is there, the store does not. Piece by piece.
    private func gone(_ prefix: ObjectKey, _ tree: Tree) -> [Change] {
        var changes: [Change] = []
        var (position, layout): (Int?, Int?) = (0, nil)
        while let from = position {
            let (gone, next, now): ([Change], Int?, Int) = tree.withNames { names in
                guard let children = names[inode]?.directory?.children else { return ([], nil, 0) }
                let (nodes, next) = children.slice(from: from)
                let gone = nodes.filter {
                    !seen.contains($0.id) && isOlder($0, than: began, names)
                        && !names.gate.isClaimed(Place(parent: inode, name: $0.name))
                }
                return (gone.map { (ObjectKey(prefix.string + $0.name.string), nil) }, next, children.layout)
            }
            if let layout, layout != now {
                // Nodes have got other slots: from the start.
                (position, changes) = (0, [])
            } else {
                position = next
                changes += gone
            }
            layout = now
        }
        return changes
    }

    /// The store has nothing in the directory: it may have gone itself.
    private func itself(_ prefix: ObjectKey, _ names: borrowing Namespace) -> [Change] {
        guard !prefix.isEmpty, let node = names[inode], isOlder(node, than: began, names) else { return [] }
        return [(prefix.withoutSlash, nil)]
    }

    /// Whether what is believed of a node was so already at that moment, and is the store's to say. What is to be asked for anyway is not.
    private func isOlder(_ node: Node, than asked: UInt64, _ names: borrowing Namespace) -> Bool {
        node.validUntil > 0 && node.validUntil <= names.rules.expiry(asked) && node.touched < asked
            && !names.isNeeded(node)
    }

    private static func isBelievedAbsent(
        _ name: FileName, _ directory: Directory, _ asked: UInt64, _ now: UInt64
    ) -> Bool {
        if let absence = directory.absent[name], absence.until > now { return absence.since < asked }
        return directory.completeUntil > now && directory.completeSince < asked
            && !directory.removed.contains(name)
    }
}
