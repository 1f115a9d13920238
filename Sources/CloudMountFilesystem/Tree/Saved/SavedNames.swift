import CloudMountCache
import CloudMountCommit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Takes up what an earlier process knew of names, directory by directory, when somebody first asks in one. What is taken up is what it
/// would be if this process had run all the time: what has passed its time is there too, and is asked for again.
final class SavedNames: Sendable {
    private let context: MountContext
    private let tree: Tree
    private let sweeper: Sweeper
    /// There was something; spares all others the look.
    private let hasAny = Atomic(false)
    /// Monotonic nanoseconds.
    private let start: Atomic<UInt64>
    private let ended = Waiters()

    init(context: MountContext, tree: Tree, sweeper: Sweeper) {
        (self.context, self.tree, self.sweeper) = (context, tree, sweeper)
        start = Atomic(context.clock.monotonic())
    }

    /// Names what was saved is good for: another bucket, or a store that can do other things, shows other names.
    static func identity(_ context: MountContext) -> String {
        "\(context.name)\0\(context.settings().store)\0\(context.capabilities)"
    }

    // MARK: The start

    /// Takes what an earlier process has left away from the disk, and the root's names up when they are first asked for. Blocks; before the kernel
    /// asks for anything.
    func begin() {
        guard let file = context.savedNames?.take(), context.savesNames else { return }
        guard let tail = try? SavedTail(file.tail), tail.identity == Self.identity(context) else { return }
        let source = SavedDirectory.Source(file: file, place: tail.head)
        start.store(tree.now(), ordering: .relaxed)
        tree.withNames { names in
            guard let root = names[Namespace.root]?.directory, root.children.isEmpty, root.completeUntil == 0 else {
                return
            }
            root.saved = SavedDirectory(source, isBelieved: true)
            names.evidenceSeen = names.evidenceSeen || tail.evidenceSeen
            names.sampledDirectories = max(names.sampledDirectories, tail.sampledDirectories)
            for key in tail.hidden { names.hidden.insert(ObjectKey(key)) }
            hasAny.store(true, ordering: .releasing)
        }
    }

    // MARK: Taking up

    private enum Turn: Sendable {
        /// There is nothing to be taken up.
        case none
        case own(SavedDirectory.Source, TreeRules)
        case others
    }

    private func turn(_ inode: InodeID) -> Turn {
        tree.withNames { names in
            guard let node = names[inode], !node.isOrphan, let saved = node.directory?.saved else { return .none }
            if saved.isBeingRead { return .others }
            saved.isBeingRead = true
            return .own(saved.source, names.rules)
        }
    }

    /// Whether there is something to be taken up.
    func isPending(_ inode: InodeID) -> Bool {
        guard hasAny.load(ordering: .acquiring) else { return false }
        return tree.withNames { names in names[inode].map { !$0.isOrphan && $0.directory?.saved != nil } ?? false }
    }

    /// Takes up what is known of a directory, on the calling thread when that is little; reads local disk.
    /// - Returns: false when it is not there yet.
    func takeUpNow(_ inode: InodeID) -> Bool {
        guard hasAny.load(ordering: .acquiring) else { return true }
        switch turn(inode) {
        case .none: return true
        case .others: return false
        case .own(let source, let rules):
            guard let head = try? Self.head(source) else {
                end(inode, source, SavedHead(), rules, isAll: false)
                return true
            }
            if head.blocks.count > 1 {
                context.begin { await self.takeUp(inode, source, head, rules) }
                return false
            }
            let isAll = takeUpAll(inode, source, head, rules)
            end(inode, source, head, rules, isAll: isAll)
            return true
        }
    }

    /// The same, whatever it is.
    /// - Returns: whether there was anything.
    @discardableResult
    func takeUp(_ inode: InodeID) async -> Bool {
        guard isPending(inode) else { return false }
        if !takeUpNow(inode) { _ = await context.wait(on: ended, until: { !self.isPending(inode) }) }
        return true
    }

    /// The same for who may block and waits for nobody: before the kernel asks.
    func takeUpBlocking(_ inode: InodeID) {
        guard hasAny.load(ordering: .acquiring), case .own(let source, let rules) = turn(inode) else { return }
        let head = (try? Self.head(source)) ?? SavedHead()
        let isAll = takeUpAll(inode, source, head, rules)
        end(inode, source, head, rules, isAll: isAll)
    }

    private func takeUp(
        _ inode: InodeID, _ source: SavedDirectory.Source, _ head: SavedHead, _ rules: TreeRules
    ) async {
        let room = context.names.room()
        // As much as a listing of them.
        let isCovered = await attempt { () async throws(VFSError) in
            try await room.cover(min(head.count, self.context.mostOfDirectory) * 256)
        }
        var isAll = true
        if case .success = isCovered {
            tree.withNames { names in
                if let directory = names[inode]?.directory, directory.room == nil { directory.room = room }
            }
            for place in head.places(before: source.place) {
                let isDone = await BlockingPool.shared.run(context.name) {
                    self.takeUp(inode, source, place, rules)
                }
                isAll = isAll && isDone
            }
        } else {
            isAll = false
        }
        end(inode, source, head, rules, isAll: isAll)
    }

    private func takeUpAll(
        _ inode: InodeID, _ source: SavedDirectory.Source, _ head: SavedHead, _ rules: TreeRules
    ) -> Bool {
        var isAll = true
        for place in head.places(before: source.place) {
            isAll = takeUp(inode, source, place, rules) && isAll
        }
        return isAll
    }

    static func head(_ source: SavedDirectory.Source) throws(VFSError) -> SavedHead {
        guard let bytes = source.file.block(source.place) else { throw PackedReader.damage }
        return try SavedHead(bytes)
    }

    private func clock(_ rules: TreeRules) -> SavedClock {
        SavedClock(
            wall: context.clock.now().milliseconds, monotonic: tree.now(),
            latest: rules.expiry(start.load(ordering: .relaxed)))
    }

    /// Makes nodes of one block.
    /// - Returns: false when it is damaged, or the directory has gone.
    private func takeUp(
        _ inode: InodeID, _ source: SavedDirectory.Source, _ place: NamesFile.Place, _ rules: TreeRules
    ) -> Bool {
        guard let bytes = source.file.block(place),
            let block = try? SavedBlock(bytes, origin: place.offset, rules: rules)
        else { return false }
        let clock = clock(rules)
        return tree.withNames { names in
            guard let node = names[inode], let directory = node.directory, let saved = directory.saved,
                saved.source.file === source.file, saved.source.place == source.place,
                let prefix = names.key(of: node)
            else { return false }
            // What comes now changes nothing of what was saved.
            directory.saved = nil
            defer { directory.saved = saved }
            for entry in block.entries where directory.children[entry.name] == nil {
                if saved.changed.contains(entry.name) { continue }
                let until = saved.isBelieved ? clock.moment(entry.remaining, after: block.at) : 0
                let child = entry.show(in: node, prefix.string, until: until, &names)
                if let below = entry.below {
                    child.directory?.saved = SavedDirectory(
                        SavedDirectory.Source(file: source.file, place: below), isBelieved: saved.isBelieved)
                }
            }
            return true
        }
    }

    /// The directory knows what was saved of it.
    private func end(
        _ inode: InodeID, _ source: SavedDirectory.Source, _ head: SavedHead, _ rules: TreeRules, isAll: Bool
    ) {
        let clock = clock(rules)
        tree.withNames { names in
            guard let node = names[inode], let directory = node.directory, let saved = directory.saved,
                saved.source.file === source.file, saved.source.place == source.place
            else { return }
            directory.saved = nil
            if directory.listing == nil, node.openCount == 0 { directory.room = nil }
            if directory.evidence == .unknown {
                (directory.evidence, directory.emptySamples) = (head.evidence, head.emptySamples)
            }
            // A listing that has ended since knows better.
            guard directory.completeSince == 0, isAll else { return }
            directory.tooLongToList = head.isTooLong
            directory.isWhole = head.isWhole
            directory.tellsAbsence = saved.isBelieved && head.isWhole && head.tellsAbsence
            guard saved.isBelieved, head.isWhole, let since = clock.moment(head.age, before: head.at) else { return }
            directory.completeUntil = clock.moment(head.remaining, after: head.at)
            directory.completeSince = since
            directory.usedAt = tree.now()
            if directory.marker == .unknown { directory.marker = .absent }
        }
        sweeper.tidy()
        ended.resume()
    }

    // MARK: For listings

    /// The names of a directory that is to be listed, where nothing has to be asked for them: the listing is over then.
    /// - Returns: nil when the store is to be asked.
    func answer(_ inode: InodeID, generation: UInt32) async -> [FileName]? {
        guard hasAny.load(ordering: .acquiring) else { return nil }
        await takeUp(inode)
        // A listing is begun of what is not believed: if it is by now, that has come from what was saved.
        let now = tree.now()
        return tree.withNames { names in
            guard let node = names[inode], let directory = node.directory, directory.generation == generation,
                directory.listing != nil, directory.completeUntil > now, !directory.hasPassedOver
            else { return nil }
            Lister.end(node, directory)
            return directory.children.map(\.name)
        }
    }
}
