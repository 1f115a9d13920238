import CloudMountCommit
import CloudMountVFS

/// Asks the store for the versions that the tree shows: whether they are current, and what their metadata says.
final class Revalidator: Sendable {
    private let context: MountContext
    private let tree: Tree
    private let sweeper: Sweeper
    let silence: Silence
    private let revalidations: SingleFlight<InodeID, Void>
    private let departures: SingleFlight<Departure, Bool>

    /// A version that an open file reads is gone.
    private struct Departure: Hashable {
        let inode: InodeID
        let version: ETag
    }

    init(context: MountContext, tree: Tree, sweeper: Sweeper) {
        self.context = context
        self.tree = tree
        self.sweeper = sweeper
        silence = Silence(context: context)
        revalidations = SingleFlight(executor: context.provider.executor)
        departures = SingleFlight(executor: context.provider.executor)
    }

    private var provider: any ObjectProvider { context.provider }

    /// Fetches the metadata of a node's current version, once for all who ask at the same time.
    /// - Throws: `notFound` when the object has gone.
    func revalidate(_ inode: InodeID) async throws(VFSError) {
        try await revalidations.run(inode) { () async throws(VFSError) in
            // Not before a rename that is under way has ended.
            try await self.tree.holding(inode) { () async throws(VFSError) in try await self.look(inode) }
            self.sweeper.tidy()
        }
    }

    private func look(_ inode: InodeID) async throws(VFSError) {
        let asked = tree.now()
        let (found, isDirectory): (ObjectKey?, Bool) = tree.withNames { names in
            guard let node = names[inode], !node.isHeld || !node.isKnownInFull else { return (nil, false) }
            if let marker = node.directory?.markerObject { return (marker.key, true) }
            let isDirectory = node.kind == .directory
            return (node.version == nil && !isDirectory ? nil : names.key(of: node), isDirectory)
        }
        guard let key = found, !key.isEmpty else { return }
        // A marker is written anew from what is known of it, which must be all.
        let info =
            isDirectory
            ? try await provider.headIfThere(key) : try await provider.seenIfThere(key, context.capabilities)
        let now = tree.now()
        try tree.withNames { names throws(VFSError) in
            guard let node = names[inode], !node.isOrphan, let parent = names[node.parent] else { return }
            if node.kind == .directory {
                // Stored here while the question was on its way: what is known is newer.
                if node.touched >= asked { return }
                if let info {
                    names.describeMarker(node, info)
                    names.isSeen(node)
                } else {
                    node.directory?.marker = .absent
                    node.directory?.markerObject = nil
                }
                node.isKnown = true
                return
            }
            if node.isHeld {
                guard let info, node.version == info.etag, let metadata = info.metadata else { return }
                names.complete(node, AttributeCodec.decode(metadata, key: key))
                return
            }
            if node.touched >= asked { return }
            guard let info else {
                let name = node.name
                if node.openCount == 0 { names.orphan(node) } else { node.validUntil = 0 }
                if node.isOrphan { parent.directory?.setAbsent(name, names.rules.absence(now)) }
                throw VFSError(.notFound, "\(key) is not there any more")
            }
            names.isSeen(names.show(info, name: node.name, in: parent, asked: asked, now))
        }
    }

    /// Makes sure that a node's metadata has been seen, before it is changed or shown in full.
    func describeFully(_ inode: InodeID) async throws(VFSError) {
        let isKnown = try tree.withNames { names throws(VFSError) in
            let node = try names.node(inode)
            return node.isDescribedInFull
        }
        if isKnown { return }
        try await revalidate(inode)
        let isRefused = try tree.withNames { names throws(VFSError) in
            let node = try names.node(inode)
            return !node.isKnown && node.version != nil && !node.isOrphan && !node.isHeld
        }
        if isRefused { throw VFSError(.permissionDenied, "the store does not tell the metadata of the object") }
    }

    /// As `revalidate`; where the store cannot be reached, or says nothing for a second, what is known of the node may stand.
    func revalidateOrRemember(_ inode: InodeID) async throws(VFSError) {
        let remembers =
            context.policy().offline == .serve
            && tree.withNames { names in names[inode].map { canShowStale($0, names) } ?? false }
        guard remembers else { return try await revalidate(inode) }
        do throws(VFSError) {
            try await silence.ask { () async throws(VFSError) in try await self.revalidate(inode) }
        } catch {
            guard servesStale(error),
                tree.withNames({ names in names[inode].map { showStale($0, &names) } ?? false })
            else { throw error }
        }
    }

    /// The metadata of what a commit is going to replace: what it holds of others is carried over.
    func describeForCommit(_ inode: InodeID, _ key: ObjectKey) async throws(VFSError) {
        guard let info = try await provider.headIfThere(key), let metadata = info.metadata else { return }
        tree.withNames { names in
            guard let node = names[inode], node.version == info.etag else { return }
            names.complete(node, AttributeCodec.decode(metadata, key: key))
        }
    }

    /// The version that an open file reads is gone, and not by this mount's doing: what is under its name now?
    /// - Returns: whether the file goes on with that, because nobody has seen a byte of the version before.
    func versionIsGone(_ inode: InodeID, _ base: ObjectInfo) async -> Bool {
        let isGone = await attempt { () async throws(VFSError) in
            // Each of its reads may find it.
            try await departures.run(Departure(inode: inode, version: base.etag)) { () async throws(VFSError) in
                await self.goOn(inode, base)
            }
        }
        return (try? isGone.get()) ?? false
    }

    private func goOn(_ inode: InodeID, _ base: ObjectInfo) async -> Bool {
        guard let place = tree.stored.place(of: inode) else { return false }
        let key: ObjectKey? = tree.withNames { names in
            // One that is getting another name is not gone: that is known when it has it.
            names[inode].flatMap {
                $0.isHeld || $0.version != base.etag || !names.isFree([inode]) ? nil : names.key(of: $0)
            }
        }
        guard let key, key == base.key else {
            tree.stored.distrust([place])
            return false
        }
        let found = await attempt { () async throws(VFSError) in try await provider.headIfThere(key) }
        guard case .success(let info) = found else { return false }
        if let info, info.etag == base.etag { return false }
        let kind = info?.metadata.map { AttributeCodec.decode($0, key: key).kind ?? .regular }
        if let info, kind == .regular, let content = contentOfUnchanged(inode, base.etag) {
            let isSwitched = content.switchUnread(to: info) {
                if !adopt(info, inode) {
                    // What is under the name is that version, and who has the file open has none.
                    _ = content.strand(VFSError(.stale, "\(key) was changed by somebody else"))
                    if let place = tree.stored.strand(inode) { context.invalidate([place]) }
                }
                context.tellKernel { $0.expireAttributes(inode) }
            }
            if isSwitched { return true }
        }
        // Who has it open keeps the inode; who opens the name from now on gets another.
        _ = tree.stored.strand(inode, unlessHeld: true)
        context.invalidate([place])
        return false
    }

    /// The content of a file that is open, at `version`, and that nobody can write to.
    private func contentOfUnchanged(_ inode: InodeID, _ version: ETag) -> FileContent? {
        tree.withNames { names in names[inode].flatMap { !$0.isHeld && $0.version == version ? $0.content : nil } }
    }

    /// The inode goes on as another version, of which nobody has seen a byte yet.
    /// - Returns: false when somebody has just opened it to write, to the end perhaps that the kernel knows.
    private func adopt(_ info: ObjectInfo, _ inode: InodeID) -> Bool {
        let now = tree.now()
        return tree.withNames { names in
            guard let node = names[inode], !node.isHeld else { return false }
            names.become(info, node, now)
            // Who has it open reads on, so the kernel will have pages of this version that nobody else asks for.
            node.hasPages = true
            return true
        }
    }

    // MARK: While the store cannot be reached

    /// `offline: serve`: whether what is known may stand in for the answer that `error` has kept from coming. Only what has been seen is
    /// ever said of a name: that it is absent, or that a listing ends, is said by the store alone.
    func servesStale(_ error: VFSError) -> Bool { error.code.isUnreachable && context.policy().offline == .serve }

    /// Whether a node's attributes were ever seen.
    func canShowStale(_ node: Node, _ names: borrowing Namespace) -> Bool {
        node.isKnown || node.isOrphan || names[node.parent]?.directory?.evidence != .present
    }

    /// Whether the names of a directory were told whole once, and may be shown where the store cannot be reached.
    func remembersNames(of inode: InodeID) -> Bool {
        context.policy().offline == .serve && tree.withNames { $0[inode]?.directory?.isWhole ?? false }
    }

    /// Marks a node as shown past its time. False when its attributes were never seen.
    func showStale(_ node: Node, _ names: inout Namespace) -> Bool {
        guard canShowStale(node, names) else { return false }
        names.markStale(node, tree.now())
        return true
    }

    /// The names of a directory that was listed whole once, as they are known, for a listing that could not be finished.
    /// Under the tree's lock.
    /// - Returns: those that its readers have not been given; nil when the directory is not known whole.
    func remembered(_ node: Node, _ names: inout Namespace, _ error: VFSError) -> [FileName]? {
        guard servesStale(error), let directory = node.directory, directory.isWhole else { return nil }
        let now = tree.now()
        names.markStale(node, now)
        for child in directory.children { names.markStale(child, now) }
        // A listing that goes on behind still has to find out which of them are gone.
        return directory.children.compactMap { $0.listedIn == directory.generation ? nil : $0.name }
    }

    /// Fetches the metadata of many nodes side by side. One that fails stays undescribed.
    func describe(_ ids: [InodeID]) async {
        _ = await attempt { () async throws(VFSError) in
            try await inParallel(ids, width: 64) { id async throws(VFSError) in try? await self.revalidate(id) }
        }
    }
}

extension ObjectProvider {
    /// The object as HEAD has it. One that the store lists and tells nothing more of (denied, encrypted with a key of its owner's, archived)
    /// is as the listing has it, without metadata.
    func seenIfThere(_ key: ObjectKey, _ capabilities: Capabilities) async throws(VFSError) -> ObjectInfo? {
        do throws(VFSError) {
            return try await headIfThere(key)
        } catch {
            guard error.code == .permissionDenied || error.code == .archived, error.retry == .never else { throw error }
            let request = ListRequest(prefix: key, delimited: true, limit: capabilities.sortedListing ? 1 : nil)
            let page = await attempt { () async throws(VFSError) in try await list(request) }
            guard case .success(let page) = page, let info = page.objects.first(where: { $0.key == key }) else {
                throw error
            }
            return info
        }
    }
}
