import CloudMountPlatform
import CloudMountVFS
import Synchronization

extension MountedBucket {
    /// Marks a directory as being listed. Under the namespace lock; `startLoading` follows outside it.
    func beginListing(_ directory: Directory) -> UInt32 {
        directory.generation += 1
        directory.usedAt = SystemClock.monotonic()
        directory.isFading = false
        directory.listing = Listing()
        directory.removed = []
        directory.misses = 0
        directory.shadowed = [:]
        return directory.generation
    }

    /// Lists a directory in the background, page after page, as fast as the store answers.
    /// - Parameter pages: gives up after so many, for a listing that only speeds lookups up.
    func startLoading(_ id: InodeID, generation: UInt32, pages: Int? = nil) {
        Task(executorPreference: provider.executor) {
            let listing = self.namespace.withLock { names in names[id]?.directory?.listing }
            var result = Result<Loaded, VFSError>.success(.moved)
            while case .success(.moved) = result {
                result = await attempt { () async throws(VFSError) in try await self.load(id, generation, pages) }
            }
            let now = SystemClock.monotonic()
            let gone: [FileName] = self.namespace.withLock { names in
                guard let node = names[id], let directory = node.directory, directory.generation == generation,
                    directory.listing != nil
                else { return [] }
                directory.listing = nil
                directory.removed = []
                if case .failure(let error) = result, let known = self.rememberedNames(node, error) {
                    result = .success(.remembered)
                    listing?.append(known)
                }
                guard case .success(.whole) = result else { return [] }
                return self.finishListing(node, directory, listing, &names, now)
            }
            if case .failure(let error) = result { listing?.finish(error) } else { listing?.finish() }
            if !gone.isEmpty { self.tellKernel { for name in gone { $0.invalidateEntry(parent: id, name: name) } } }
        }
    }

    /// The listing is whole: what it did not show has gone. Under the namespace lock.
    /// - Returns: the names that have gone.
    private func finishListing(
        _ node: Node, _ directory: Directory, _ listing: Listing?, _ names: inout Namespace, _ now: UInt64
    ) -> [FileName] {
        var gone: [FileName] = []
        var local: [FileName] = []
        for child in directory.children where child.listedIn != directory.generation {
            if child.isHeld || child.seenIn == directory.generation {
                local.append(child.name)
            } else {
                gone.append(child.name)
            }
        }
        for name in gone {
            if let child = directory.children[name] { names.orphan(child) }
        }
        for (name, info) in directory.shadowed {
            if directory.children[name] != nil {
                names.hide(info.key)
            } else {
                show(info, name: name, in: node, asked: now, &names, now)
                local.append(name)
            }
        }
        directory.shadowed = [:]
        listing?.append(local)
        directory.completeUntil = expiry(now)
        directory.isWhole = true
        node.staleSince = 0
        directory.forgetAbsent()
        directory.tooLongToList = false
        if directory.marker == .unknown { directory.marker = .absent }
        return gone
    }

    private enum Loaded {
        case whole
        /// Nobody reads it, and it is longer than lookups are worth.
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

    private func load(_ id: InodeID, _ generation: UInt32, _ pages: Int?) async throws(VFSError) -> Loaded {
        let found: ObjectKey? = namespace.withLock { names in names[id].flatMap { names.key(of: $0) } }
        guard let prefix = found else { throw VFSError(.stale, "the directory is gone") }
        var continuation: String?
        var count = 0
        var ahead: Ahead?
        defer { ahead?.page.cancel() }
        repeat {
            if let pages, count >= pages, giveUp(id, generation) { return .givenUp }
            let request = ListRequest(prefix: prefix, delimited: true, continuation: continuation)
            let goesOn = pages.map { count + 1 < $0 } ?? true
            let begun = ahead
            let answer: (ListPage, Ahead?, wantsMarker: Bool, Sampling)? = try await holding(
                [id], verify: { names in names[id].flatMap { names.key(of: $0) } == prefix },
                { () async throws(VFSError) in
                    let (page, asked) = try await self.page(request, begun)
                    let ahead = goesOn ? self.follow(request, page) : nil
                    let isFirst = request.continuation == nil
                    if !isFirst, page.objects.count > Self.sliceCount {
                        let wantsMarker = await self.applySlices(page, to: id, generation, prefix, asked: asked)
                        return (page, ahead, wantsMarker, Sampling())
                    }
                    let (wantsMarker, sampling) = self.apply(
                        page, to: id, generation, prefix, asked: asked, isFirst: isFirst)
                    return (page, ahead, wantsMarker, sampling)
                })
            guard let (page, following, wantsMarker, sampling) = answer else { return .moved }
            ahead = following
            if wantsMarker { try? await learn(id) }
            if !sampling.ids.isEmpty {
                if sampling.awaited {
                    await sample(sampling.ids, of: id)
                } else {
                    Task(executorPreference: provider.executor) { await self.sampleLater(sampling.ids, of: id) }
                }
            }
            publish(page, prefix, id, generation)
            tidy()
            continuation = page.continuation
            count += 1
        } while continuation != nil
        return .whole
    }

    /// The page that was fetched ahead, unless directories have got other names since: it may lie about their contents.
    private func page(_ request: ListRequest, _ ahead: Ahead?) async throws(VFSError) -> (ListPage, asked: UInt64) {
        let moves = namespace.withLock { $0.gate.moves }
        if let ahead, ahead.moves == moves { return (try await ahead.page.value.get(), ahead.asked) }
        ahead?.page.cancel()
        let asked = SystemClock.monotonic()
        return (try await provider.list(request), asked)
    }

    private func follow(_ request: ListRequest, _ page: ListPage) -> Ahead? {
        guard let continuation = page.continuation else { return nil }
        var request = request
        request.continuation = continuation
        let next = request
        return Ahead(
            page: Task(executorPreference: provider.executor) {
                await attempt { () async throws(VFSError) in try await self.provider.list(next) }
            },
            asked: SystemClock.monotonic(), moves: namespace.withLock { $0.gate.moves })
    }

    /// Ends a listing that nobody reads along.
    private func giveUp(_ id: InodeID, _ generation: UInt32) -> Bool {
        namespace.withLock { names in
            guard let directory = names[id]?.directory, directory.generation == generation else { return true }
            if directory.listing?.isWanted ?? false { return false }
            directory.listing = nil
            directory.removed = []
            directory.tooLongToList = true
            return true
        }
    }

    /// Longer pages are worked in piece by piece, so that nobody waits long for the namespace.
    private static let sliceCount = 1000

    /// Makes nodes of a long page and gives their names to those who read along, away from the thread that all transfers
    /// share.
    /// - Returns: whether the directory's marker is to be looked at.
    private func applySlices(
        _ page: ListPage, to id: InodeID, _ generation: UInt32, _ prefix: ObjectKey, asked: UInt64
    ) async -> Bool {
        await Task.detached {
            var wantsMarker = false
            // Directories first: an object of the same name knows then that it is to be hidden.
            var slice = ListPage(commonPrefixes: page.commonPrefixes)
            for start in stride(from: 0, to: page.objects.count, by: Self.sliceCount) {
                slice.objects = Array(page.objects[start..<min(start + Self.sliceCount, page.objects.count)])
                wantsMarker =
                    self.apply(slice, to: id, generation, prefix, asked: asked, isFirst: false).wantsMarker
                self.publish(slice, prefix, id, generation)
                slice.commonPrefixes = []
            }
            return wantsMarker
        }.value
    }

    private struct Sampling: Sendable {
        var ids: [InodeID] = []
        /// The entries are shown only after the samples are in.
        var awaited = false
    }

    /// Makes nodes of a page.
    private func apply(
        _ page: ListPage, to id: InodeID, _ generation: UInt32, _ prefix: ObjectKey, asked: UInt64, isFirst: Bool
    ) -> (wantsMarker: Bool, Sampling) {
        let now = SystemClock.monotonic()
        return namespace.withLock { names in
            guard let node = names[id], let directory = node.directory, directory.generation == generation else {
                return (false, Sampling())
            }
            for info in page.objects {
                if info.key.byteCount == prefix.byteCount {
                    if id != Namespace.root { describeMarker(node, info, &names) }
                    continue
                }
                guard let name = name(of: info.key, prefix, isDirectory: false) else {
                    names.hide(info.key)
                    continue
                }
                if directory.removed.contains(name) { continue }
                // Beside a directory it is hidden; whether that is still there, the listing's end tells.
                if let child = directory.children[name], child.kind == .directory {
                    directory.shadowed[name] = info
                    continue
                }
                show(info, name: name, in: node, asked: asked, &names, now).seenIn = generation
            }
            for key in page.commonPrefixes {
                guard let name = name(of: key, prefix, isDirectory: true) else {
                    names.hide(key)
                    continue
                }
                if directory.removed.contains(name) { continue }
                if let child = directory.children[name], child.kind != .directory, child.seenIn == generation,
                    !child.isHeld
                {
                    names.hide(ObjectKey(prefix.string + name.string))
                }
                showDirectory(name, in: node, &names, now).seenIn = generation
            }
            let wantsMarker = directory.marker == .present && !node.isKnown
            return (wantsMarker, isFirst ? chooseSamples(page, prefix, directory, &names) : Sampling())
        }
    }

    /// Gives the names of a page to those who read the directory.
    private func publish(_ page: ListPage, _ prefix: ObjectKey, _ id: InodeID, _ generation: UInt32) {
        let (listing, fresh): (Listing?, [FileName]) = namespace.withLock { names in
            guard let directory = names[id]?.directory, directory.generation == generation else { return (nil, []) }
            var fresh: [FileName] = []
            fresh.reserveCapacity(page.objects.count + page.commonPrefixes.count)
            func add(_ key: ObjectKey, _ isDirectory: Bool) {
                guard let name = name(of: key, prefix, isDirectory: isDirectory), let child = directory.children[name],
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

    /// The name that a listed key has in the directory; nil when no path can say it.
    private func name(of key: ObjectKey, _ prefix: ObjectKey, isDirectory: Bool) -> FileName? {
        var rest = key.string.utf8.dropFirst(prefix.byteCount)
        if isDirectory { rest = rest.dropLast() }
        let text = String(Substring(rest))
        return FileName.isLegal(text) ? FileName(unchecked: text) : nil
    }

    // MARK: Evidence of attributes

    /// S3 listings show neither mode nor mtime, and no listing shows those of a directory below. Whether the objects of a
    /// directory have any is learnt from a few of them: where a tool that keeps attributes has been at work, all of its
    /// objects have them.
    private func chooseSamples(
        _ page: ListPage, _ prefix: ObjectKey, _ directory: Directory, _ names: inout Namespace
    ) -> Sampling {
        guard capabilities.metadata else {
            directory.evidence = .absent
            return Sampling()
        }
        guard directory.evidence == .unknown else { return Sampling() }
        let objects = page.objects.filter { $0.key.byteCount > prefix.byteCount }
        var keys: [(ObjectKey, Bool)] = []
        if !objects.isEmpty {
            var picks = [objects[0], objects[objects.count - 1], objects[objects.count / 2]]
            if let newest = objects.max(by: { $0.stored < $1.stored }) { picks.append(newest) }
            keys += picks.map { ($0.key, false) }
        }
        if let first = page.commonPrefixes.first, let last = page.commonPrefixes.last {
            keys += [(first, true), (last, true)]
        }
        var sampling = Sampling()
        for (key, isDirectory) in keys {
            guard let name = name(of: key, prefix, isDirectory: isDirectory), let child = directory.children[name],
                !child.isKnown, !sampling.ids.contains(child.id)
            else { continue }
            sampling.ids.append(child.id)
        }
        sampling.awaited = directory.marker == .present || names.evidenceSeen || names.sampledDirectories < 3
        names.sampledDirectories += 1
        if sampling.ids.isEmpty { directory.evidence = objects.isEmpty ? .unknown : .absent }
        return sampling
    }

    /// Looks at the metadata of some nodes, and settles the evidence of their directory by it.
    private func sample(_ ids: [InodeID], of directory: InodeID) async {
        await fillAttributes(ids)
        namespace.withLock { names in
            guard let directory = names[directory]?.directory, directory.evidence == .unknown else { return }
            directory.evidence = .absent
        }
    }

    /// As `sample`, while the entries are being shown already: if they were shown wrong, the kernel is told.
    private func sampleLater(_ ids: [InodeID], of id: InodeID) async {
        await sample(ids, of: id)
        let stale: [InodeID] = namespace.withLock { names in
            guard let directory = names[id]?.directory, directory.evidence == .present else { return [] }
            return directory.children.filter { $0.lookups > 0 }.map(\.id)
        }
        if !stale.isEmpty { tellKernel { for id in stale { $0.invalidateInode(id, extent: nil) } } }
    }

    /// Fetches the metadata of many nodes side by side. One that fails stays undescribed.
    func fillAttributes(_ ids: [InodeID]) async {
        _ = await attempt { () async throws(VFSError) in
            try await inParallel(ids, width: 64) { id async throws(VFSError) in try? await self.learn(id) }
        }
    }
}
