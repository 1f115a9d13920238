import CloudMountCommit
import CloudMountVFS
import Logging
import Synchronization

/// The objects that keep directories and their attributes.
final class Markers: Sendable {
    private let context: MountContext
    private let tree: Tree
    /// A round of `storeTimes` is coming.
    private let isDue = Atomic(false)
    /// Directories whose markers are being stored.
    private let storing = Mutex<Set<InodeID>>([])
    private let stored = Waiters()
    /// How long the time of a directory may differ from what the store has.
    private static let delay = Duration.seconds(5)

    init(context: MountContext, tree: Tree) {
        self.context = context
        self.tree = tree
    }

    private var provider: any ObjectProvider { context.provider }

    /// Stores the marker of a directory that was made, or whose attributes were changed, here: one after the other, so that an
    /// older state never comes over a newer one.
    /// - Parameter isNew: nothing may be there yet.
    func store(_ inode: InodeID, isNew: Bool = false) async throws(VFSError) {
        try await inTurn(inode) { () async throws(VFSError) in try await self.storeNow(inode, isNew: isNew) }
    }

    private func inTurn(_ inode: InodeID, _ work: () async throws(VFSError) -> Void) async throws(VFSError) {
        while !storing.withLock({ $0.insert(inode).inserted }) {
            if Task.isCancelled { throw .cancelled }
            await stored.wait(unless: { !self.storing.withLock { $0.contains(inode) } })
        }
        let result = await attempt(work)
        storing.withLock { _ = $0.remove(inode) }
        stored.resume()
        try result.get()
    }

    private func storeNow(_ inode: InodeID, isNew: Bool) async throws(VFSError) {
        guard var seal = tree.stored.sealMarker(inode) else { return }
        guard context.capabilities.emptyFolders else {
            return tree.stored.storedMarker(inode, nil, seal)
        }
        var known = isNew ? nil : seal.object
        if known == nil, !isNew, seal.isPresent { known = try await provider.headIfThere(seal.key) }
        // One of an old tool, whose key has no slash, is replaced by one that has.
        let old = known.flatMap { $0.key == seal.key ? nil : $0 }
        var here = old == nil ? known : nil
        for attempt in 1...2 {
            do throws(VFSError) {
                let info = try await put(seal, over: here)
                tree.stored.storedMarker(inode, info, seal)
                break
            } catch {
                guard error.code == .preconditionFailed || error.code == .stale, !isNew, attempt == 1 else {
                    throw error
                }
                // It holds no bytes that could be lost: what somebody else has noted of the directory is replaced knowingly, by
                // what is noted here now.
                here = try await provider.headIfThere(seal.key)
                guard let now = tree.stored.sealMarker(inode) else { return }
                seal = now
            }
        }
        if let old { _ = try await provider.delete([DeleteRequest(old.key, version: old.etag)]) }
    }

    private func put(_ seal: StoredNames.MarkerSeal, over here: ObjectInfo?) async throws(VFSError) -> ObjectInfo {
        var metadata = try AttributeCodec.encodeWhatFits(
            seal.attributes, limit: context.capabilities.maxMetadataBytes
        ).metadata
        metadata.contentType = AttributeCodec.directoryType
        metadata.nonce = ObjectMetadata.newNonce()
        var condition: Precondition = here.map { .match($0.etag) } ?? .absent
        // A folder that the store makes by itself has no version to be held to.
        if here != nil, !context.capabilities.folderObjects { condition = .none }
        if let here, here.size > 0 {
            // A folder object with a body is somebody's file: its bytes stay.
            return try await provider.copy(
                CopyRequest(source: here, destination: seal.key, metadata: metadata, precondition: condition))
        }
        return try await provider.putOnce(
            PutRequest(key: seal.key, metadata: metadata, precondition: condition), from: BytesSource([]))
    }

    /// A directory that was there without a marker ends with its last object; one that is emptied here stays. What has been done is done:
    /// where the marker cannot be stored, the directory is shown while the mount lives.
    func keepIfEmpty(_ inode: InodeID) async {
        if context.capabilities.realFolders { return }
        guard let (key, isCertain) = tree.stored.emptied(inode) else { return }
        let result = await attempt { () async throws(VFSError) in
            if !isCertain {
                let page = try await self.provider.list(
                    ListRequest(prefix: key, delimited: false, limit: 1, takesUnreadable: true))
                if !page.isEmpty { return }
            }
            try await self.store(inode)
        }
        guard case .failure(let error) = result else { return }
        tree.stored.keepHere(inode)
        context.log.warning(
            "a directory that was emptied could not be kept in the store",
            metadata: ["key": "\(key)", "error": "\(error)"])
    }

    /// A file has come into a directory, which keeps it. Other names leave the marker: its times may be meant, as rsync sets them.
    func arrived(in inode: InodeID) {
        guard context.capabilities.visibleFolders, let marker = tree.uselessMarker(inode) else { return }
        context.begin { await self.remove(inode, marker) }
    }

    /// The directory has something in it, which keeps it.
    private func remove(_ inode: InodeID, _ marker: ObjectInfo) async {
        _ = await attempt { () async throws(VFSError) in
            try await self.tree.holding(inode) { () async throws(VFSError) in
                try await self.inTurn(inode) { () async throws(VFSError) in
                    // Another marker keeps what the folder has got of its own since.
                    guard self.tree.uselessMarker(inode)?.isSameVersion(as: marker) ?? false else { return }
                    let failures = try await self.provider.delete([DeleteRequest(marker.key, version: marker.etag)])
                    if failures.isEmpty { self.tree.stored.markerIsGone(inode) }
                }
                // It may have been emptied meanwhile, and is not removed or renamed before that is told.
                await self.keepIfEmpty(inode)
            }
        }
    }

    // MARK: Times

    /// Names in directories have changed: their times are stored a little later, many changes by one request.
    func timesChanged() {
        guard tree.stored.hasUnstoredTimes(), !isDue.exchange(true, ordering: .relaxed) else { return }
        let clock = context.clock
        Task(executorPreference: provider.executor) { [weak self] in
            await clock.sleep(Self.delay)
            await self?.storeTimes()
        }
    }

    func storeTimes() async {
        isDue.store(false, ordering: .relaxed)
        let directories = tree.stored.takeUnstoredTimes()
        _ = await attempt { () async throws(VFSError) in
            try await inParallel(directories, width: 8) { inode async throws(VFSError) in
                _ = await attempt { () async throws(VFSError) in
                    try await self.tree.holding(inode) { () async throws(VFSError) in try await self.storeTime(inode) }
                }
            }
        }
    }

    /// Of all that the marker says only the time is this mount's to tell: the rest stays as somebody else may have stored it.
    private func storeTime(_ inode: InodeID) async throws(VFSError) {
        guard let known = tree.stored.sealMarker(inode)?.object else { return }
        let asked = tree.now()
        guard let there = try await provider.headIfThere(known.key) else { return tree.stored.markerIsGone(inode) }
        tree.stored.sawMarker(inode, there, asked: asked)
        try await store(inode)
    }
}
