import CloudMountPlatform
import CloudMountVFS
import Synchronization

extension MountedBucket {
    enum Known {
        case node(InodeID)
        /// Certainly not there, for so many nanoseconds more.
        case absent(UInt64)
        case unknown
    }

    /// For so long at most the kernel is told that a complete listing lacks a name. Nobody remembers which names those were,
    /// so it cannot be told otherwise when a reload shortens the times.
    private static let longestUntold: UInt64 = 10_000_000_000

    /// What memory says of a name.
    func known(_ name: FileName, in parent: Node, _ now: UInt64) -> Known {
        guard let directory = parent.directory else { return .absent(0) }
        if let node = directory.children[name] {
            return isFresh(node, now) && isDescribed(node, in: directory) ? .node(node.id) : .unknown
        }
        if directory.completeUntil > now { return .absent(min(directory.completeUntil - now, Self.longestUntold)) }
        if let until = directory.absent[name]?.until, until > now { return .absent(until - now) }
        return .unknown
    }

    public func lookup(parent: InodeID, name: FileName, reply: consuming Reply<Entry>) {
        let now = SystemClock.monotonic()
        let answer: Result<Entry?, VFSError> = namespace.withLock { names in
            do throws(VFSError) {
                switch known(name, in: try names.directory(parent), now) {
                case .node(let id): return .success(entry(for: try names.node(id), now))
                case .absent(let time): return .success(absentEntry(time))
                case .unknown: return .success(nil)
                }
            } catch {
                return .failure(error)
            }
        }
        switch answer {
        case .success(let entry?): reply.send(entry)
        case .failure(let error): reply.fail(error)
        case .success(nil):
            slow(reply, discard: { self.discard($0) }) { () async throws(VFSError) -> Entry in
                let began = now
                let id = try await self.resolveOrRemember(name, in: parent)
                let now = SystemClock.monotonic()
                return self.namespace.withLock { names in
                    // Who asked at the same time as it was made has an older answer.
                    let made = names[parent]?.directory?.children[name].flatMap { $0.touched > began ? $0 : nil }
                    guard let node = made ?? id.flatMap({ names[$0] }), !node.isOrphan else {
                        return self.absentEntry(self.negativeTTL)
                    }
                    return self.entry(for: node, now)
                }
            }
        }
    }

    func absence(_ now: UInt64) -> Directory.Absence { Directory.Absence(since: now, until: now + negativeTTL) }

    private func absentEntry(_ time: UInt64) -> Entry {
        let valid: Duration = .nanoseconds(min(time, metadataTTL))
        return Entry(attributes: nil, validFor: valid, attributesValidFor: valid)
    }

    public func forget(_ inode: InodeID, count: UInt64) {
        namespace.withLock { $0.forget(inode, count: count) }
    }

    // MARK: Asking the store

    /// As `resolve`; where the store cannot be reached, what is known of the name may stand.
    private func resolveOrRemember(_ name: FileName, in parent: InodeID) async throws(VFSError) -> InodeID? {
        do throws(VFSError) {
            return try await resolve(name, in: parent)
        } catch {
            guard servesStale(error), let id = remembered(name, in: parent) else { throw error }
            return id
        }
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

    /// The inode of a name: as memory has it, else as the store does; nil when there is none.
    /// - Throws: whatever keeps the store from answering; never `notFound`.
    func find(_ name: FileName, in parent: InodeID) async throws(VFSError) -> InodeID? {
        let now = SystemClock.monotonic()
        let answer: Known = try namespace.withLock { names throws(VFSError) in
            known(name, in: try names.directory(parent), now)
        }
        switch answer {
        case .node(let id): return id
        case .absent: return nil
        case .unknown: return try await resolve(name, in: parent)
        }
    }

    /// The inode of a name, as the store has it; nil when it has none.
    /// - Throws: whatever keeps the store from answering; never `notFound`.
    func resolve(_ name: FileName, in parent: InodeID) async throws(VFSError) -> InodeID? {
        try await lookups.run(LookupKey(parent: parent, name: name)) { () async throws(VFSError) -> InodeID? in
            let now = SystemClock.monotonic()
            let known: InodeID? = try self.namespace.withLock { names throws(VFSError) in
                let child = try names.directory(parent).directory?.children[name]
                return child.flatMap { self.isFresh($0, now) ? $0.id : nil }
            }
            if let known {
                // The name is believed; only its attributes are wanted.
                do throws(VFSError) { try await self.learn(known) } catch { if error.code != .notFound { throw error } }
                return self.namespace.withLock { names in names[parent]?.directory?.children[name]?.id }
            }
            // Under the name that the directory has once a rename that is under way has ended.
            let found: InodeID?? = try await self.holding([parent]) { () async throws(VFSError) in
                let asked = SystemClock.monotonic()
                let question: Question? = try self.namespace.withLock { names throws(VFSError) in
                    let directory = try names.directory(parent)
                    return names.key(of: name, in: directory).map {
                        Question(key: $0, kind: directory.directory?.children[name]?.kind)
                    }
                }
                guard let question else { return nil }
                return self.settle(try await self.ask(question), name, parent, question.key, asked)
            }
            return found ?? nil
        }
    }

    private func ask(_ question: Question) async throws(VFSError) -> Finding {
        var finding = Finding()
        switch question.kind {
        case .directory:
            finding = try await below(question.key)
            if !finding.isDirectory { finding.object = try await headIfThere(question.key) }
        case .some:
            finding.object = try await headIfThere(question.key)
            if finding.object == nil { finding = try await below(question.key) }
        case nil where capabilities.listingCarriesMetadata && capabilities.sortedListing:
            finding = try await askOnce(question.key)
        case nil:
            async let object = attempt { () async throws(VFSError) in try await self.headIfThere(question.key) }
            async let directory = attempt { () async throws(VFSError) in try await self.below(question.key) }
            let results = await (object, directory)
            finding = try results.1.get()
            finding.object = try results.0.get()
        }
        if let marker = finding.marker, marker.metadata == nil, capabilities.folderObjects {
            finding.marker = try await headIfThere(marker.key) ?? marker
        }
        return finding
    }

    /// Entries asked for to see a name and the directory of that name beside it; what sorts between them, `name.txt` or
    /// `name-1`, comes along.
    static let lookupListKeys = 100

    /// One listing where it says all: the object with its metadata, and whether there is anything below.
    private func askOnce(_ key: ObjectKey) async throws(VFSError) -> Finding {
        let directory = ObjectKey(key.string + "/")
        let page = try await provider.list(ListRequest(prefix: key, delimited: true, limit: Self.lookupListKeys))
        var finding = Finding()
        if page.commonPrefixes.contains(directory) {
            finding.isDirectory = true
            finding.marker = try await headIfThere(directory)
        } else if page.continuation != nil, !page.objects.contains(where: { $0.key > directory }),
            !page.commonPrefixes.contains(where: { $0 > directory })
        {
            finding = try await below(key)
        }
        finding.object = page.objects.first { $0.key == key }
        return finding
    }

    func headIfThere(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo? {
        do throws(VFSError) {
            return try await provider.head(key)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
    }

    /// Whether there is anything below `key` + "/", its marker included.
    private func below(_ key: ObjectKey) async throws(VFSError) -> Finding {
        let prefix = ObjectKey(key.string + "/")
        let page = try await provider.list(ListRequest(prefix: prefix, delimited: false, limit: 1))
        var finding = Finding()
        finding.isDirectory = !page.objects.isEmpty
        finding.marker = page.objects.first { $0.key == prefix }
        return finding
    }

    /// Makes the tree say what the store said.
    private func settle(
        _ finding: Finding, _ name: FileName, _ parent: InodeID, _ key: ObjectKey, _ asked: UInt64
    ) -> InodeID? {
        let now = SystemClock.monotonic()
        let (id, list): (InodeID?, UInt32?) = namespace.withLock { names in
            guard let directory = names[parent], directory.directory != nil else { return (nil, nil) }
            let list = countMiss(directory, now)
            // Made, renamed or removed here while the question was on its way.
            if let child = directory.directory?.children[name], child.touched >= asked { return (child.id, list) }
            if let since = directory.directory?.absent[name]?.since, since >= asked { return (nil, list) }
            if finding.isDirectory {
                if finding.object != nil { names.hide(key) }
                let node = showDirectory(name, in: directory, &names, now)
                if let marker = finding.marker {
                    describeMarker(node, marker, &names)
                } else {
                    node.directory?.marker = .absent
                    node.isKnown = true
                }
                return (node.id, list)
            }
            if let object = finding.object {
                return (show(object, name: name, in: directory, asked: asked, &names, now).id, list)
            }
            if let old = directory.directory?.children[name] {
                if old.isHeld { return (old.id, list) }
                names.orphan(old)
            }
            directory.directory?.setAbsent(name, absence(now))
            return (nil, list)
        }
        if let list { startLoading(parent, generation: list, pages: Self.lookupListPages) }
        tidy()
        return id
    }

    /// How many pages a directory may have to be listed for the sake of lookups alone.
    static let lookupListPages = 10

    /// Fewer questions than this are cheaper than a listing and the samples that come with it.
    static let missesBeforeListing = 4

    /// Several names of one directory were asked for: listing it is cheaper than asking for each.
    /// - Returns: the generation of the listing to start.
    private func countMiss(_ node: Node, _ now: UInt64) -> UInt32? {
        guard let directory = node.directory else { return nil }
        directory.misses += 1
        guard directory.misses >= Self.missesBeforeListing, metadataTTL > 0, directory.completeUntil <= now,
            directory.listing == nil,
            !directory.tooLongToList
        else { return nil }
        return beginListing(directory)
    }
}
