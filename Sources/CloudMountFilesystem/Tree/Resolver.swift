import CloudMountCommit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Asks the store for names that the tree does not know.
final class Resolver: Sendable {
    private let context: MountContext
    private let tree: Tree
    private let lister: Lister
    private let revalidator: Revalidator
    private let sweeper: Sweeper
    private let saved: SavedNames
    private let questions: SingleFlight<Place, InodeID?>
    private let unanswered = Mutex<[Place: Unanswered]>([:])

    init(
        context: MountContext, tree: Tree, revalidator: Revalidator, lister: Lister, sweeper: Sweeper,
        saved: SavedNames
    ) {
        self.context = context
        self.tree = tree
        self.revalidator = revalidator
        self.lister = lister
        self.sweeper = sweeper
        self.saved = saved
        questions = SingleFlight(executor: context.provider.executor)
    }

    private var provider: any ObjectProvider { context.provider }
    private var capabilities: Capabilities { context.capabilities }

    // MARK: Names

    /// What memory says of a name, counted as looked up; nil when the store has to be asked.
    func entryNow(_ place: Place) throws(VFSError) -> Entry? {
        if let entry = try knownEntry(place) { return entry }
        guard saved.isPending(place.parent), saved.takeUpNow(place.parent) else { return nil }
        return try knownEntry(place)
    }

    private func knownEntry(_ place: Place) throws(VFSError) -> Entry? {
        let now = tree.now()
        return try tree.withNames { names throws(VFSError) in
            let known = names.known(place.name, in: try names.directory(place.parent), now)
            names.isUsed(place.parent, now)
            switch known {
            case .node(let id):
                let node = try names.node(id)
                if names.isHiddenLink(node) { return names.absentEntry(names.rules.negativeTTL) }
                return names.entry(for: node, now)
            case .absent(let time): return names.absentEntry(time)
            case .unknown: return nil
            }
        }
    }

    /// The entry of a name, as the store has it; where it cannot be reached, or says nothing for a second, what is known may stand.
    func entry(_ place: Place) async throws(VFSError) -> Entry {
        let began = tree.now()
        if await saved.takeUp(place.parent), let known = try knownEntry(place) { return known }
        let id: InodeID?
        do throws(VFSError) {
            if remembered(place) == nil {
                id = try await resolve(place)
            } else {
                id = try await revalidator.silence.ask { () async throws(VFSError) in try await self.resolve(place) }
            }
        } catch {
            guard revalidator.servesStale(error), let remembered = remembered(place, showing: true) else { throw error }
            guard case .node(let known) = remembered else {
                return tree.withNames { $0.absentEntry(Namespace.staleTime) }
            }
            id = known
        }
        let now = tree.now()
        return tree.withNames { names in
            // Who asked at the same time as it was made has an older answer.
            let made = names[place.parent]?.directory?.children[place.name].flatMap { $0.touched > began ? $0 : nil }
            guard let node = made ?? id.flatMap({ names[$0] }), !node.isOrphan, !names.isHiddenLink(node) else {
                return names.absentEntry(names.rules.negativeTTL)
            }
            return names.entry(for: node, now)
        }
    }

    func entry(of inode: InodeID) throws(VFSError) -> Entry {
        let now = tree.now()
        return try tree.withNames { names throws(VFSError) in names.entry(for: try names.node(inode), now) }
    }

    /// The inode of a name: as memory has it, else as the store does; nil when there is none.
    /// - Throws: whatever keeps the store from answering; never `notFound`.
    func find(_ place: Place) async throws(VFSError) -> InodeID? {
        let now = tree.now()
        let known = try tree.withNames { names throws(VFSError) in
            names.known(place.name, in: try names.directory(place.parent), now)
        }
        switch known {
        case .node(let id): return id
        case .absent: return nil
        case .unknown: return try await resolve(place)
        }
    }

    /// As `find`, for who is to take what has the name away: a link that nobody sees is not there.
    func findVisible(_ place: Place) async throws(VFSError) -> InodeID? {
        guard let inode = try await find(place), !tree.stored.isHiddenLink(inode) else { return nil }
        return inode
    }

    /// As `find`, for who is to give the name to something else: what nobody sees is not replaced.
    func findReplaceable(_ place: Place) async throws(VFSError) -> InodeID? {
        guard let inode = try await find(place) else { return nil }
        if tree.stored.isHiddenLink(inode) {
            throw VFSError(.alreadyExists, "\(place.name) is the name of a symbolic link, which the mount hides")
        }
        return inode
    }

    /// What `resolve` has to find out.
    private struct Question: Sendable {
        let key: ObjectKey
        let kind: FileKind?
    }

    /// What the store said of a name.
    private struct Finding: Sendable {
        var object: ObjectInfo?
        var isDirectory = false
        var marker: ObjectInfo?
    }

    /// The inode of a name, as the store has it; nil when it has none.
    /// - Throws: whatever keeps the store from answering; never `notFound`.
    func resolve(_ place: Place) async throws(VFSError) -> InodeID? {
        try await questions.run(place) { () async throws(VFSError) -> InodeID? in
            if await self.saved.takeUp(place.parent) {
                let now = self.tree.now()
                let known = try self.tree.withNames { names throws(VFSError) in
                    names.known(place.name, in: try names.directory(place.parent), now)
                }
                switch known {
                case .node(let id): return id
                case .absent: return nil
                case .unknown: break
                }
            }
            let now = self.tree.now()
            if let failure = self.lastFailure(place, now) { throw failure }
            do throws(VFSError) {
                return try await self.revalidated(place, now)
            } catch {
                self.note(error, place, since: now)
                throw error
            }
        }
    }

    /// A question that the store has kept waiting, and for how long that stands for its answer.
    private struct Unanswered: Sendable {
        let failure: VFSError
        let until: UInt64
    }

    /// The kernel asks twice for a name that it knows when the first time ends in an error, and nobody is to wait out the deadline twice.
    private func lastFailure(_ place: Place, _ now: UInt64) -> VFSError? {
        unanswered.withLock { all in all[place].flatMap { $0.until > now ? $0.failure : nil } }
    }

    private func note(_ failure: VFSError, _ place: Place, since began: UInt64) {
        let now = tree.now()
        let waited = now.elapsed(since: began)
        guard failure.code.isUnreachable, waited > 500_000_000 else { return }
        unanswered.withLock { all in
            if all.count >= 256 { all = all.filter { $0.value.until > now } }
            if all.count >= 256 { all = [:] }
            all[place] = Unanswered(failure: failure, until: now + min(waited / 10, 200_000_000))
        }
    }

    private func revalidated(_ place: Place, _ now: UInt64) async throws(VFSError) -> InodeID? {
        let known: InodeID? = try tree.withNames { names throws(VFSError) in
            let child = try names.directory(place.parent).directory?.children[place.name]
            return child.flatMap { names.isValid($0, now) ? $0.id : nil }
        }
        guard let known else { return try await ask(place) }
        // The name is valid; only its attributes are wanted.
        do throws(VFSError) { try await revalidator.revalidate(known) } catch {
            if error.code != .notFound { throw error }
        }
        return tree.withNames { names in names[place.parent]?.directory?.children[place.name]?.id }
    }

    /// Asks the store, whatever memory says; not while something is about to get the name.
    func ask(_ place: Place) async throws(VFSError) -> InodeID? {
        for _ in 0..<2 {
            // What is being moved away has the name until it has another.
            if let (inode, isDoomed) = changing(place), !isDoomed { return inode }
            await tree.unclaimed(place)
            if case .known(let inode) = try await askOnce(place) { return inode }
        }
        // What is being replaced has it so long.
        if let (inode, _) = changing(place) { return inode }
        throw VFSError(.timedOut, "others are working with the name")
    }

    /// What has the name while that changes.
    private func changing(_ place: Place) -> (InodeID, isDoomed: Bool)? {
        tree.withNames { names in
            guard let child = names[place.parent]?.directory?.children[place.name],
                names.gate.changing.contains(child.id)
            else { return nil }
            return (child.id, names.gate.isDoomed(child.id))
        }
    }

    private enum Told: Sendable {
        case known(InodeID?)
        /// Something is about to get the name.
        case claimed
    }

    private func askOnce(_ place: Place) async throws(VFSError) -> Told {
        // Under the name that the directory has once a rename that is under way has ended.
        try await tree.holding(place.parent) { () async throws(VFSError) in
            let asked = tree.now()
            let question: Question? = try tree.withNames { names throws(VFSError) in
                let directory = try names.directory(place.parent)
                return names.key(of: place.name, in: directory).map {
                    Question(key: $0, kind: directory.directory?.children[place.name]?.kind)
                }
            }
            guard let question else { return .known(nil) }
            return fold(try await answer(question), place, question.key, asked)
        }
    }

    private func answer(_ question: Question) async throws(VFSError) -> Finding {
        var finding = Finding()
        switch question.kind {
        case .directory:
            finding = try await below(question.key)
            if !finding.isDirectory { finding.object = try await seen(question.key) }
        case .some:
            finding.object = try await seen(question.key)
            if finding.object == nil { finding = try await below(question.key) }
        case nil where capabilities.listingCarriesMetadata && capabilities.sortedListing && !capabilities.cheapLooks:
            finding = try await answerOnce(question.key)
        case nil:
            async let object = attempt { () async throws(VFSError) in
                try await self.seen(question.key)
            }
            async let directory = attempt { () async throws(VFSError) in try await self.below(question.key) }
            let results = await (object, directory)
            finding = try results.1.get()
            finding.object = try results.0.get()
        }
        if let marker = finding.marker, marker.metadata == nil, capabilities.folderObjects {
            finding.marker = try await provider.headIfThere(marker.key) ?? marker
        }
        return finding
    }

    private func seen(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo? {
        try await provider.seenIfThere(key, capabilities)
    }

    /// Entries asked for to see a name and the directory of that name beside it; what sorts between them, `name.txt` or
    /// `name-1`, comes along.
    private static let lookupListKeys = 100

    /// One listing where it says all: the object with its metadata, and whether there is anything below.
    private func answerOnce(_ key: ObjectKey) async throws(VFSError) -> Finding {
        let directory = ObjectKey(key.string + "/")
        let page = try await provider.list(ListRequest(prefix: key, delimited: true, limit: Self.lookupListKeys))
        var finding = Finding()
        if page.commonPrefixes.contains(directory) {
            finding.isDirectory = true
            finding.marker = try await provider.headIfThere(directory)
        } else if page.continuation != nil, !page.objects.contains(where: { $0.key > directory }),
            !page.commonPrefixes.contains(where: { $0 > directory })
        {
            finding = try await below(key)
        }
        finding.object = page.objects.first { $0.key == key }
        return finding
    }

    /// Whether there is anything below `key` + "/", its marker included.
    private func below(_ key: ObjectKey) async throws(VFSError) -> Finding {
        let prefix = ObjectKey(key.string + "/")
        let page = try await provider.list(
            ListRequest(prefix: prefix, delimited: false, limit: 1, takesUnreadable: true))
        var finding = Finding()
        finding.isDirectory = !page.isEmpty
        finding.marker = page.objects.first { $0.key == prefix }
        return finding
    }

    /// Makes the tree say what the store said.
    private func fold(_ finding: Finding, _ place: Place, _ key: ObjectKey, _ asked: UInt64) -> Told {
        let now = tree.now()
        let time = context.clock.now()
        let name = place.name
        let (told, list): (Told, UInt32?) = tree.withNames { names in
            if names.gate.isClaimed(place) { return (.claimed, nil) }
            guard let parent = names[place.parent], let directory = parent.directory else { return (.known(nil), nil) }
            let list = lister.countMiss(directory, names, now)
            // Made, renamed or removed here while the question was on its way.
            if let child = directory.children[name], child.touched >= asked { return (.known(child.id), list) }
            if let since = directory.absent[name]?.since, since >= asked { return (.known(nil), list) }
            if finding.isDirectory {
                var isOldMarker = false
                if let object = finding.object {
                    isOldMarker = names.isOldMarker(object)
                    if !isOldMarker { names.hidden.insert(key) }
                }
                let node = names.showDirectory(name, in: parent, now, time)
                if let marker = finding.marker ?? (isOldMarker ? finding.object : nil) {
                    names.describeMarker(node, marker)
                } else {
                    node.directory?.marker = .absent
                    node.isKnown = true
                }
                names.isSeen(node)
                return (.known(node.id), list)
            }
            if let object = finding.object {
                let node = names.show(object, name: name, in: parent, asked: asked, now)
                names.isSeen(node)
                return (.known(node.id), list)
            }
            if let old = directory.children[name] {
                // What was written here below it stays, and is committed to where it was.
                if names.isNeeded(old) { return (.known(old.id), list) }
                names.orphan(old)
            }
            directory.setAbsent(name, names.rules.absence(now))
            return (.known(nil), list)
        }
        if let list { lister.begin(place.parent, generation: list, pages: Lister.unreadPages) }
        sweeper.tidy()
        return told
    }

    private enum Remembered: Sendable {
        case node(InodeID)
        /// The last listing lacked it.
        case absent
    }

    /// What may stand for an answer of a store that cannot be reached: a name as it was last seen, or that the whole directory lacked it.
    /// - Parameter showing: it is shown so.
    /// - Returns: nil when nothing is known, or the policy shows nothing so.
    private func remembered(_ place: Place, showing: Bool = false) -> Remembered? {
        guard context.policy().offline == .serve else { return nil }
        return tree.withNames { names in
            guard let directory = names[place.parent]?.directory else { return nil }
            guard let child = directory.children[place.name] else {
                return directory.tellsAbsence && directory.saved == nil && !names.gate.isClaimed(place) ? .absent : nil
            }
            let isShown = showing ? revalidator.showStale(child, &names) : revalidator.canShowStale(child, names)
            return isShown ? .node(child.id) : nil
        }
    }

    /// As `resolve`, for a file that is to be made or replaced and reaches the store later, under its precondition (`write: back`): where the store
    /// cannot be reached what is known stands.
    func resolveOrRemember(_ place: Place) async throws(VFSError) -> InodeID? {
        let isLater = context.policy().write == .back
        do throws(VFSError) {
            if isLater, context.isCutOff(), remembered(place) != nil {
                throw VFSError(.unavailable, "the store cannot be reached")
            }
            return try await resolve(place)
        } catch {
            guard isLater, revalidator.servesStale(error), let remembered = remembered(place, showing: true) else {
                throw error
            }
            if case .node(let known) = remembered { return known }
            return nil
        }
    }
}
