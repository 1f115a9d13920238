import CloudMountCache
import CloudMountPlatform
import CloudMountVFS

/// Writes down what a mount knows of names, at its clean end: directory by directory, what is below first, so that each knows where that
/// lies. What nobody has looked at in this life is carried over as it was.
struct NamesSaver {
    private let context: MountContext
    private let tree: Tree
    private let isSettled: Bool
    private var writer: NamesWriter
    /// Where the directories lie that are written already.
    private var places: [InodeID: NamesFile.Place] = [:]

    /// Blocks on local disk. Nothing is asked for any more meanwhile.
    /// - Parameter isSettled: nothing that was sent can still change anything in the store; else nothing is believed at the next start.
    /// - Throws: `noSpace`, `permissionDenied`, `io`; `stale` when a later life of the mount has begun.
    static func save(_ context: MountContext, _ tree: Tree, isSettled: Bool) throws(VFSError) {
        guard let own = context.savedNames, context.savesNames else { return }
        var saver = NamesSaver(context: context, tree: tree, isSettled: isSettled, writer: try own.begin())
        do throws(VFSError) {
            guard let tail = try saver.write() else { return own.giveUp(saver.writer) }
            try own.finish(&saver.writer, tail: tail.bytes)
        } catch {
            own.giveUp(saver.writer)
            throw error
        }
    }

    private init(context: MountContext, tree: Tree, isSettled: Bool, writer: NamesWriter) {
        (self.context, self.tree, self.isSettled, self.writer) = (context, tree, isSettled, writer)
    }

    /// Nil when nothing is known.
    private mutating func write() throws(VFSError) -> SavedTail? {
        for inode in directories().reversed() {
            if let place = try save(inode) { places[inode] = place }
        }
        guard let root = places[Namespace.root] else { return nil }
        let identity = SavedNames.identity(context)
        return tree.withNames { names in
            SavedTail(
                identity: identity, head: root, evidenceSeen: names.evidenceSeen,
                sampledDirectories: names.sampledDirectories, hidden: names.hidden.all)
        }
    }

    /// All directories, each after the one that it is in.
    private func directories() -> [InodeID] {
        var all = [Namespace.root]
        var next = 0
        while next < all.count {
            let inode = all[next]
            var position: Int? = 0
            while let from = position {
                let below: [InodeID]
                (below, position) = tree.withNames { names in
                    guard let directory = names[inode]?.directory else { return ([], nil) }
                    let (nodes, next) = directory.children.slice(from: from)
                    return (nodes.compactMap { $0.directory == nil ? nil : $0.id }, next)
                }
                all += below
            }
            next += 1
        }
        return all
    }

    // MARK: One directory

    private enum Beginning: Sendable {
        case nothing
        /// Nobody has looked at it.
        case asItWas(SavedDirectory.Source, isBelieved: Bool)
        case known(SavedHead)
    }

    private mutating func save(_ inode: InodeID) throws(VFSError) -> NamesFile.Place? {
        let now = tree.now()
        let wall = context.clock.now().milliseconds
        switch tree.withNames({ names in begin(names[inode], now, wall) }) {
        case .nothing: return nil
        case .asItWas(let source, let isBelieved): return try copy(source, isBelieved: isBelieved && isSettled)
        case .known(var head):
            var position: Int? = 0
            var layout: Int?
            var waiting: [SavedEntry] = []
            while let from = position {
                let slice = tree.withNames { names in self.slice(names[inode]?.directory, from, now) }
                if slice.leavesOut || layout ?? slice.layout != slice.layout {
                    (head.remaining, head.isWhole, head.tellsAbsence) = (0, false, false)
                }
                (position, layout) = (slice.next, slice.layout)
                waiting += slice.entries
                while waiting.count >= SavedBlock.most || position == nil && !waiting.isEmpty {
                    let some = Array(waiting.prefix(SavedBlock.most))
                    waiting.removeFirst(some.count)
                    let block = SavedBlock(at: wall, entries: some)
                    head.blocks.append(try writer.append(block.bytes(origin: writer.position)).count)
                    head.count += some.count
                }
            }
            return try writer.append(head.bytes)
        }
    }

    /// Milliseconds that a moment is ahead.
    private func left(_ moment: UInt64, _ now: UInt64) -> Int {
        isSettled && moment > now ? Int(clamping: (moment - now) / 1_000_000) : 0
    }

    /// Under the tree's lock.
    private func begin(_ node: Node?, _ now: UInt64, _ wall: Int) -> Beginning {
        guard let directory = node?.directory else { return .nothing }
        if let saved = directory.saved, !saved.isBeingRead, saved.changed.isEmpty, directory.children.isEmpty {
            return .asItWas(saved.source, isBelieved: saved.isBelieved)
        }
        guard !directory.children.isEmpty || directory.isWhole else { return .nothing }
        var head = SavedHead()
        head.at = wall
        head.isWhole = directory.isWhole && directory.saved == nil
        head.tellsAbsence = head.isWhole && directory.tellsAbsence && isSettled
        head.remaining = head.isWhole ? left(directory.completeUntil, now) : 0
        head.age = Int(clamping: now.elapsed(since: directory.completeSince) / 1_000_000) + 1
        head.isTooLong = directory.tooLongToList
        (head.evidence, head.emptySamples) = (directory.evidence, directory.emptySamples)
        return .known(head)
    }

    private struct Slice: Sendable {
        var entries: [SavedEntry] = []
        /// Something that the store has not as it is here.
        var leavesOut = false
        var next: Int?
        var layout = 0
    }

    /// Under the tree's lock.
    private func slice(_ directory: Directory?, _ from: Int, _ now: UInt64) -> Slice {
        guard let directory else { return Slice(leavesOut: true) }
        var slice = Slice()
        let nodes: [Node]
        (nodes, slice.next) = directory.children.slice(from: from)
        slice.layout = directory.children.layout
        slice.entries.reserveCapacity(nodes.count)
        for node in nodes {
            guard var entry = SavedEntry(node, left: { left($0, now) }) else {
                slice.leavesOut = true
                continue
            }
            entry.below = places[node.id]
            slice.entries.append(entry)
        }
        return slice
    }

    // MARK: What was saved before

    /// Carries over what lies at a place of an earlier file, and all below it; what is damaged is left out.
    private mutating func copy(
        _ source: SavedDirectory.Source, isBelieved: Bool
    ) throws(VFSError) -> NamesFile.Place? {
        // What this life has seen has room in any case.
        guard writer.position < writer.limit / 2 else { return nil }
        let rules = tree.withNames { $0.rules }
        var found = [source.place]
        var seen: Set<NamesFile.Place> = [source.place]
        var next = 0
        while next < found.count {
            for block in Self.blocks(source.file, found[next], rules) {
                for entry in block?.entries ?? [] {
                    if let below = entry.below, seen.insert(below).inserted { found.append(below) }
                }
            }
            next += 1
        }
        var copies: [NamesFile.Place: NamesFile.Place] = [:]
        for place in found.reversed() {
            guard var head = try? SavedNames.head(SavedDirectory.Source(file: source.file, place: place)) else {
                continue
            }
            head.blocks = []
            for block in Self.blocks(source.file, place, rules) {
                guard var block else {
                    (head.remaining, head.isWhole, head.tellsAbsence) = (0, false, false)
                    continue
                }
                for index in block.entries.indices {
                    block.entries[index].below = block.entries[index].below.flatMap { copies[$0] }
                    if !isBelieved { block.entries[index].remaining = 0 }
                }
                head.blocks.append(try writer.append(block.bytes(origin: writer.position)).count)
            }
            if !isBelieved { (head.remaining, head.tellsAbsence) = (0, false) }
            copies[place] = try writer.append(head.bytes)
        }
        return copies[source.place]
    }

    /// The names at a place, block by block; nil for one that is damaged.
    private static func blocks(
        _ file: NamesFile, _ place: NamesFile.Place, _ rules: TreeRules
    ) -> some Sequence<SavedBlock?> {
        let head = try? SavedNames.head(SavedDirectory.Source(file: file, place: place))
        return (head?.places(before: place) ?? []).lazy.map { place in
            file.block(place).flatMap { try? SavedBlock($0, origin: place.offset, rules: rules) }
        }
    }
}
