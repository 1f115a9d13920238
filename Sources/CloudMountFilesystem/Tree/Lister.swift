import CloudMountCommit
import CloudMountVFS

/// Lists directories, page after page, into the tree and to who reads them.
final class Lister: Sendable {
    private let context: MountContext
    private let tree: Tree
    private let revalidator: Revalidator
    private let sampler: Sampler
    private let sweeper: Sweeper
    private let saved: SavedNames
    private let held = HeldNames()

    /// How many pages a directory may have to be listed while nobody reads it.
    static let unreadPages = 10
    /// Pages that are listed of a directory before somebody reads it.
    private static let pagesAhead = 2
    /// Fewer questions than this are cheaper than a listing and the samples that come with it.
    private static let missesBeforeListing = 4

    init(context: MountContext, tree: Tree, revalidator: Revalidator, sweeper: Sweeper, saved: SavedNames) {
        self.context = context
        self.tree = tree
        self.revalidator = revalidator
        self.sweeper = sweeper
        self.saved = saved
        sampler = Sampler(context: context, tree: tree, revalidator: revalidator)
    }

    // MARK: When

    /// A directory is opened: lists it, and what whoever walks the tree opens next.
    func opened(_ inode: InodeID) throws(VFSError) {
        _ = saved.takeUpNow(inode)
        let now = tree.now()
        let (own, ahead) = try tree.withNames { names throws(VFSError) -> (UInt32?, [(InodeID, UInt32)]) in
            let node = try names.directory(inode)
            node.openCount += 1
            names.isUsed(inode, now)
            node.directory?.usedAt = now
            node.directory?.isFading = false
            let ahead = walked(into: node, names, now)
            guard let directory = node.directory, directory.completeUntil <= now, directory.listing == nil,
                !node.isOrphan
            else { return (nil, ahead) }
            return (mark(directory, now), ahead)
        }
        if let own { begin(inode, generation: own, pages: Self.unreadPages) }
        for (next, generation) in ahead { begin(next, generation: generation, pages: Self.pagesAhead) }
    }

    func closed(_ inode: InodeID) {
        tree.withNames { names in
            guard let node = names[inode] else { return }
            node.openCount -= 1
            if node.openCount == 0, node.directory?.listing == nil { node.directory?.room = nil }
            names.dropIfUnused(node)
        }
    }

    /// Under the lock.
    /// - Returns: the listings that are begun ahead of who walks.
    private func walked(into node: Node, _ names: Namespace, _ now: UInt64) -> [(InodeID, UInt32)] {
        guard names.rules.metadataTTL > 0, let parent = names[node.parent]?.directory, parent.completeUntil > now,
            parent.listing == nil
        else { return [] }
        var walk: Walk
        if let known = parent.walk, known.generation == parent.generation {
            walk = known
        } else {
            walk = Walk(
                parent.children.compactMap { $0.kind == .directory ? $0.name : nil }, generation: parent.generation)
        }
        parent.walk = nil
        let ahead = walk.opened(node.name)
        parent.walk = walk
        return ahead.compactMap { name in
            guard let next = parent.children[name], let directory = next.directory, directory.completeUntil <= now,
                directory.listing == nil, !directory.tooLongToList
            else { return nil }
            return (next.id, mark(directory, now))
        }
    }

    /// Several names of one directory were asked for: listing it is cheaper than asking for each. Under the lock.
    /// - Returns: the generation of the listing to begin.
    func countMiss(_ directory: Directory, _ names: borrowing Namespace, _ now: UInt64) -> UInt32? {
        directory.misses += 1
        let known = min(directory.completeUntil, directory.completeSince + names.rules.negativeTTL)
        guard directory.misses >= Self.missesBeforeListing, names.rules.metadataTTL > 0, known <= now,
            directory.listing == nil, !directory.tooLongToList
        else { return nil }
        return mark(directory, now)
    }

    /// The names that a stream reads; begun now when it is at its start.
    func listing(of open: OpenDirectory) throws(VFSError) -> Listing {
        if let listing = open.listing() { return listing }
        let now = tree.now()
        let (listing, start) = try tree.withNames { names throws(VFSError) -> (Listing, UInt32?) in
            let node = try names.directory(open.inode)
            guard let directory = node.directory else { throw VFSError(.stale, "the directory is gone") }
            if let listing = directory.listing {
                // Before it can be given up as nobody's.
                listing.want()
                return (listing, nil)
            }
            if directory.completeUntil > now || node.isOrphan {
                return (try directory.names(held), nil)
            }
            try held.requireRoom()
            let generation = mark(directory, now)
            guard let listing = directory.listing else { throw VFSError(.io, "a listing was lost") }
            return (listing, generation)
        }
        listing.want()
        open.read(listing)
        if let start { begin(open.inode, generation: start, pages: Self.unreadPages) }
        return listing
    }

    // MARK: The listing

    /// Marks a directory as being listed. Under the lock; `begin` follows outside it.
    func mark(_ directory: Directory, _ now: UInt64) -> UInt32 {
        directory.generation += 1
        directory.usedAt = now
        directory.isFading = false
        directory.listing = Listing(held)
        directory.removed = []
        directory.arrived = nil
        directory.hasPassedOver = false
        directory.misses = 0
        directory.shadowed = [:]
        return directory.generation
    }

    /// Lists a directory in the background, page after page, as fast as the store answers.
    /// - Parameter pages: after so many it goes on only while somebody has the directory open and reads it.
    func begin(_ id: InodeID, generation: UInt32, pages: Int) {
        context.begin {
            let listing = self.tree.withNames { names in names[id]?.directory?.listing }
            if let known = await self.saved.answer(id, generation: generation) {
                listing?.append(known)
                listing?.finish()
                return
            }
            var result = Result<Loaded, VFSError>.success(.moved)
            while case .success(.moved) = result {
                result = await attempt { () async throws(VFSError) in try await self.load(id, generation, pages) }
                if case .success(.whole(let prefix)) = result,
                    await !self.finish(Ending(id: id, generation: generation, prefix: prefix, listing: listing))
                {
                    result = .success(.moved)
                }
            }
            self.tree.withNames { names in
                guard let node = names[id], let directory = node.directory, directory.generation == generation,
                    directory.listing != nil
                else { return }
                Self.end(node, directory)
                guard case .failure(let error) = result else { return }
                if error.code == .tooLarge { directory.tooLongToList = true }
                if let known = self.revalidator.remembered(node, &names, error) {
                    result = .success(.remembered)
                    listing?.append(known)
                }
            }
            switch result {
            case .failure(let error): listing?.finish(error)
            // Nobody waits for it; it must not look whole to who might all the same.
            case .success(.givenUp): listing?.finish(VFSError(.io, "the listing was given up"))
            case .success: listing?.finish()
            }
        }
    }

    /// The listing is not under way any more. Under the lock.
    static func end(_ node: Node, _ directory: Directory) {
        directory.listing = nil
        directory.removed = []
        directory.arrived = nil
        if node.openCount == 0 { directory.room = nil }
    }

    // MARK: Its end

    /// A listing that has told all that the store has.
    private struct Ending: Sendable {
        let id: InodeID
        let generation: UInt32
        /// What was listed.
        let prefix: ObjectKey
        let listing: Listing?
        /// Where the directory's children are gone through; nil: all have been.
        var position: Int? = 0
        /// Of its table, when it was begun to be gone through.
        var layout = -1
    }

    private enum Step: Sendable {
        /// With the names that have gone.
        case goesOn([FileName])
        case isDone([FileName])
        /// The directory has another name by now.
        case moved
    }

    /// The listing is whole: what it did not show has gone. Piece by piece, so that nobody waits long for the lock, and away from the
    /// thread that all transfers share; what comes and goes meanwhile is heeded, since the listing counts as under way until its last step.
    /// - Returns: false when the directory has another name by now, and is to be listed under that.
    private func finish(_ ending: Ending) async -> Bool {
        let isShort = tree.withNames { names in
            guard let directory = names[ending.id]?.directory else { return true }
            if directory.generation == ending.generation, directory.listing != nil { directory.arrived = [] }
            return directory.children.isShort && directory.shadowed.count <= LongWork.slice
        }
        let work = { @Sendable () async -> Bool in
            var ending = ending
            while true {
                let now = self.tree.now()
                switch self.tree.withNames({ names in self.step(&ending, &names, now) }) {
                case .goesOn(let gone):
                    self.tell(gone, in: ending.id)
                    await Task.yield()
                case .isDone(let gone):
                    self.tell(gone, in: ending.id)
                    return true
                case .moved: return false
                }
            }
        }
        return isShort ? await work() : await Task.detached { await work() }.value
    }

    private func tell(_ gone: [FileName], in id: InodeID) {
        if !gone.isEmpty { context.tellKernel { for name in gone { $0.invalidateEntry(parent: id, name: name) } } }
    }

    /// One piece. Under the lock.
    private func step(_ ending: inout Ending, _ names: inout Namespace, _ now: UInt64) -> Step {
        guard let node = names[ending.id], let directory = node.directory, directory.generation == ending.generation,
            directory.listing != nil
        else { return .isDone([]) }
        guard node.isOrphan || names.key(of: node) == ending.prefix else {
            directory.arrived = nil
            return .moved
        }
        var gone: [FileName] = []
        var local: [FileName] = []
        func settle(_ child: Node) {
            if child.listedIn == ending.generation { return }
            if child.seenIn == ending.generation || names.isNeeded(child) {
                child.listedIn = ending.generation
                local.append(child.name)
            } else {
                gone.append(child.name)
                names.orphan(child)
                // Nothing is listed any more that could bring it back.
                directory.removed.remove(child.name)
            }
        }
        if let position = ending.position {
            // Nodes have got other slots: from the start. Those that have been settled are passed over.
            let from = directory.children.layout == ending.layout ? position : 0
            ending.layout = directory.children.layout
            let (nodes, next) = directory.children.slice(from: from)
            for child in nodes { settle(child) }
            ending.position = directory.children.layout == ending.layout ? next : 0
        }
        if ending.position == nil {
            showShadowed(node, directory, &names, now, &local)
            if directory.shadowed.isEmpty {
                for name in directory.arrived ?? [] { if let child = directory.children[name] { settle(child) } }
                ending.listing?.append(local)
                complete(node, directory, names, now)
                return .isDone(gone)
            }
        }
        ending.listing?.append(local)
        return .goesOn(gone)
    }

    /// Objects that had the name of a directory, a piece of them: it is there still, or they are shown. Under the lock.
    private func showShadowed(
        _ node: Node, _ directory: Directory, _ names: inout Namespace, _ now: UInt64, _ local: inout [FileName]
    ) {
        for (name, info) in Array(directory.shadowed.prefix(LongWork.slice)) {
            directory.shadowed[name] = nil
            if directory.removed.contains(name) {
                directory.hasPassedOver = true
            } else if directory.children[name] != nil {
                names.hidden.insert(info.key)
            } else {
                names.show(info, name: name, in: node, asked: now, now).listedIn = directory.generation
                local.append(name)
            }
        }
    }

    /// Under the lock.
    private func complete(_ node: Node, _ directory: Directory, _ names: borrowing Namespace, _ now: UInt64) {
        Self.end(node, directory)
        directory.completeUntil = directory.hasPassedOver ? 0 : names.rules.expiry(now)
        directory.completeSince = now
        directory.isWhole = true
        directory.tellsAbsence = !directory.hasPassedOver
        node.staleSince = 0
        directory.clearAbsent()
        directory.tooLongToList = false
        if directory.marker == .unknown { directory.marker = .absent }
    }

    private enum Loaded {
        /// With the key of what was listed.
        case whole(ObjectKey)
        /// Nobody reads it, and it is longer than that is worth.
        case givenUp
        /// The store could not be reached; the names that are known were given.
        case remembered
        /// The directory has another name by now: once more from the start.
        case moved
    }

    /// A page that is fetched while the one before is made nodes of.
    private struct Ahead: Sendable {
        var page: Task<Result<ListPage, VFSError>, Never>
        var asked: UInt64
        var moves: UInt64
    }

    private func load(_ id: InodeID, _ generation: UInt32, _ pages: Int) async throws(VFSError) -> Loaded {
        let found: (ObjectKey, NameRoom)? = tree.withNames { names in
            guard let node = names[id], let directory = node.directory, let key = names.key(of: node) else {
                return nil
            }
            let room = directory.room ?? context.names.room()
            directory.room = room
            return (key, room)
        }
        guard let (prefix, room) = found else { throw VFSError(.stale, "the directory is gone") }
        var continuation: String?
        var count = 0
        var weight = 0
        var ahead: Ahead?
        var order = PageOrder(context.capabilities)
        defer { ahead?.page.cancel() }
        repeat {
            if count >= pages, giveUp(id, generation) { return .givenUp }
            let request = ListRequest(
                prefix: prefix, delimited: true, continuation: continuation, takesUnreadable: true)
            let goesOn = count + 1 < pages || isRead(id, generation)
            let begun = ahead
            let answer: (ListPage, Ahead?, wantsMarker: Bool, Sampler.Choice)? = try await tree.holding(
                Tree.Hold(used: [id]), verify: { names in names[id].flatMap { names.key(of: $0) } == prefix },
                { () async throws(VFSError) in
                    let (page, asked) = try await self.page(request, begun, of: id, generation)
                    let ahead = goesOn ? self.follow(request, page) : nil
                    let isFirst = request.continuation == nil
                    if page.objects.count + page.commonPrefixes.count > LongWork.slice {
                        let (wantsMarker, sampling) = await self.applySlices(
                            page, to: id, generation, prefix, asked: asked, isFirst: isFirst)
                        return (page, ahead, wantsMarker, sampling)
                    }
                    let (wantsMarker, sampling) = self.apply(
                        page, to: id, generation, prefix, asked: asked, isFirst: isFirst)
                    return (page, ahead, wantsMarker, sampling)
                })
            guard let (page, following, wantsMarker, sampling) = answer else { return .moved }
            ahead = following
            weight += page.weight
            guard weight <= context.mostOfDirectory else {
                throw VFSError(.tooLarge, "the directory '\(prefix)' has more entries than can be listed")
            }
            try await room.cover(weight)
            if wantsMarker { try? await revalidator.revalidate(id) }
            if !sampling.ids.isEmpty {
                if sampling.awaited {
                    await sampler.sample(sampling.ids, of: id)
                } else {
                    let sampler = sampler
                    context.begin { await sampler.sampleLater(sampling.ids, of: id) }
                }
            }
            if page.objects.count + page.commonPrefixes.count <= LongWork.slice {
                publish(page, prefix, id, generation)
            } else if request.continuation == nil {
                let first = page
                await LongWork.run(first.objects.count + first.commonPrefixes.count) {
                    for slice in first.slices { self.publish(slice, prefix, id, generation) }
                }
            }
            sweeper.tidy()
            try order.check(page)
            continuation = page.continuation
            count += 1
        } while continuation != nil
        return .whole(prefix)
    }

    /// The page that was fetched ahead, unless directories have got other names since: it may lie about their contents.
    /// Where the names are known, who reads them is given those when the page does not come within a second; it is waited for behind that.
    private func page(
        _ request: ListRequest, _ ahead: Ahead?, of id: InodeID, _ generation: UInt32
    ) async throws(VFSError) -> (ListPage, asked: UInt64) {
        guard revalidator.remembersNames(of: id) else { return try await self.page(request, ahead) }
        let silence = revalidator.silence
        try silence.requireStore()
        guard silence.showsEarly, request.continuation == nil else { return try await self.page(request, ahead) }
        let alarm = Task(executorPreference: context.provider.executor) {
            await silence.patience()
            guard !Task.isCancelled else { return }
            silence.fall()
            self.showRemembered(id, generation)
        }
        let answer = await attempt { () async throws(VFSError) in try await self.page(request, ahead) }
        alarm.cancel()
        silence.hear(answer)
        return try answer.get()
    }

    private func showRemembered(_ id: InodeID, _ generation: UInt32) {
        let silent = VFSError(.timedOut, "the store has not answered for a second")
        let (listing, names): (Listing?, [FileName]) = tree.withNames { names in
            guard let node = names[id], let directory = node.directory, directory.generation == generation,
                let listing = directory.listing, let known = revalidator.remembered(node, &names, silent)
            else { return (nil, []) }
            return (listing, known)
        }
        listing?.append(names)
        listing?.finish()
    }

    private func page(_ request: ListRequest, _ ahead: Ahead?) async throws(VFSError) -> (ListPage, asked: UInt64) {
        let moves = tree.withNames { $0.gate.moves }
        if let ahead, ahead.moves == moves { return (try await ahead.page.value.get(), ahead.asked) }
        ahead?.page.cancel()
        let asked = tree.now()
        return (try await context.provider.list(request), asked)
    }

    private func follow(_ request: ListRequest, _ page: ListPage) -> Ahead? {
        guard let continuation = page.continuation else { return nil }
        var request = request
        request.continuation = continuation
        let next = request
        return Ahead(
            page: Task(executorPreference: context.provider.executor) {
                await attempt { () async throws(VFSError) in try await self.context.provider.list(next) }
            },
            asked: tree.now(), moves: tree.withNames { $0.gate.moves })
    }

    /// Whether somebody has the directory open and has begun to read this listing of it. Who reads it is not asked again whether
    /// he still does: he closes it.
    private func isRead(_ id: InodeID, _ generation: UInt32) -> Bool {
        tree.withNames { names in names[id].map { Self.isRead($0, generation) } ?? false }
    }

    private static func isRead(_ node: Node, _ generation: UInt32) -> Bool {
        guard node.openCount > 0, let directory = node.directory, directory.generation == generation else {
            return false
        }
        return directory.listing?.isWanted ?? false
    }

    /// Ends a listing that nobody reads along.
    private func giveUp(_ id: InodeID, _ generation: UInt32) -> Bool {
        tree.withNames { names in
            guard let node = names[id], let directory = node.directory, directory.generation == generation else {
                return true
            }
            if Self.isRead(node, generation) { return false }
            Self.end(node, directory)
            directory.tooLongToList = true
            return true
        }
    }

    /// Makes nodes of a long page and gives their names to those who read along, away from the thread that all transfers
    /// share. Of the first page the names are given when its samples are in.
    /// - Returns: whether the directory's marker is to be looked at; what is to be sampled.
    private func applySlices(
        _ page: ListPage, to id: InodeID, _ generation: UInt32, _ prefix: ObjectKey, asked: UInt64, isFirst: Bool
    ) async -> (wantsMarker: Bool, Sampler.Choice) {
        await Task.detached {
            var wantsMarker = false
            for slice in page.slices {
                wantsMarker =
                    self.apply(slice, to: id, generation, prefix, asked: asked, isFirst: false).wantsMarker
                if !isFirst { self.publish(slice, prefix, id, generation) }
            }
            let sampling = self.tree.withNames { names -> Sampler.Choice in
                guard isFirst, let directory = names[id]?.directory, directory.generation == generation else {
                    return Sampler.Choice()
                }
                return self.sampler.choose(page, prefix, directory, &names)
            }
            return (wantsMarker, sampling)
        }.value
    }

    /// Makes nodes of a page.
    private func apply(
        _ page: ListPage, to id: InodeID, _ generation: UInt32, _ prefix: ObjectKey, asked: UInt64, isFirst: Bool
    ) -> (wantsMarker: Bool, Sampler.Choice) {
        let now = tree.now()
        let time = context.clock.now()
        return tree.withNames { names in
            guard let node = names[id], let directory = node.directory, directory.generation == generation else {
                return (false, Sampler.Choice())
            }
            for info in page.objects {
                if info.key.byteCount == prefix.byteCount {
                    if id != Namespace.root, node.touched < asked { names.describeMarker(node, info) }
                    continue
                }
                guard isPossible(info.key), let name = FileName.listed(info.key, prefix, isDirectory: false) else {
                    names.hidden.insert(info.key)
                    continue
                }
                if directory.removed.contains(name) || isClaimed(name, directory, id, names) { continue }
                // Beside a directory it is hidden; whether that is still there, the listing's end tells.
                if let child = directory.children[name], child.kind == .directory {
                    if child.directory?.markerObject.map({ $0.isSameVersion(as: info) }) ?? false {
                        child.seenIn = generation
                        child.validUntil = names.rules.expiry(now)
                    } else {
                        directory.shadowed[name] = info
                    }
                    continue
                }
                names.show(info, name: name, in: node, asked: asked, now).seenIn = generation
            }
            for key in page.unreadable where key.byteCount > prefix.byteCount {
                names.hidden.insert(key)
                // The name is not free: who asks for it asks the store.
                directory.hasPassedOver = true
                if let name = FileName.listed(key, prefix, isDirectory: false), let child = directory.children[name],
                    child.kind != .directory
                {
                    child.seenIn = generation
                }
            }
            for key in page.commonPrefixes {
                guard isPossible(key), let name = FileName.listed(key, prefix, isDirectory: true) else {
                    names.hidden.insert(key)
                    continue
                }
                if directory.removed.contains(name) || isClaimed(name, directory, id, names) { continue }
                if let child = directory.children[name], child.kind != .directory, child.seenIn == generation,
                    !child.isHeld
                {
                    names.hidden.insert(ObjectKey(prefix.string + name.string))
                }
                names.showDirectory(name, in: node, now, time).seenIn = generation
            }
            let wantsMarker = directory.marker == .present && !node.isKnown
            return (wantsMarker, isFirst ? sampler.choose(page, prefix, directory, &names) : Sampler.Choice())
        }
    }

    /// Nobody could ask for a longer key; and a store that has one more folder in each would be a tree without end.
    private func isPossible(_ key: ObjectKey) -> Bool { key.byteCount <= context.capabilities.maxKeyBytes }

    /// What has the name when the work that gives it to something has ended, that work tells.
    private func isClaimed(
        _ name: FileName, _ directory: Directory, _ id: InodeID, _ names: borrowing Namespace
    ) -> Bool {
        guard names.gate.isClaimed(Place(parent: id, name: name)) else { return false }
        directory.hasPassedOver = true
        return true
    }

    /// Gives the names of a page to those who read the directory.
    private func publish(_ page: ListPage, _ prefix: ObjectKey, _ id: InodeID, _ generation: UInt32) {
        let (listing, fresh): (Listing?, [FileName]) = tree.withNames { names in
            guard let directory = names[id]?.directory, directory.generation == generation else { return (nil, []) }
            var fresh: [FileName] = []
            fresh.reserveCapacity(page.objects.count + page.commonPrefixes.count)
            func add(_ key: ObjectKey, _ isDirectory: Bool) {
                guard let name = FileName.listed(key, prefix, isDirectory: isDirectory),
                    let child = directory.children[name],
                    child.listedIn != generation
                else { return }
                child.listedIn = generation
                fresh.append(name)
            }
            for info in page.objects { add(info.key, false) }
            for key in page.commonPrefixes { add(key, true) }
            return (directory.listing, fresh)
        }
        listing?.append(fresh)
    }
}
