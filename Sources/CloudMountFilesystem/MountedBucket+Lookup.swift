import CloudMountPlatform
import CloudMountVFS
import Synchronization

extension MountedBucket {
    enum Known {
        case node(Node)
        /// Certainly not there, for so many nanoseconds more.
        case absent(UInt64)
        case unknown
    }

    /// What memory says of a name.
    func known(_ name: FileName, in parent: Node, _ now: UInt64) -> Known {
        guard let directory = parent.directory else { return .absent(0) }
        if let node = directory.children[name] {
            return isFresh(node, now) && isDescribed(node, in: directory) ? .node(node) : .unknown
        }
        if directory.completeUntil > now { return .absent(directory.completeUntil - now) }
        if let until = directory.absent[name], until > now { return .absent(until - now) }
        return .unknown
    }

    public func lookup(parent: InodeID, name: FileName, reply: consuming Reply<Entry>) {
        let now = SystemClock.monotonic()
        let answer: Result<Entry?, VFSError> = namespace.withLock { names in
            do throws(VFSError) {
                switch known(name, in: try names.directory(parent), now) {
                case .node(let node): return .success(entry(for: node, now))
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
            slow(reply) { () async throws(VFSError) -> Entry in
                let id = try await self.resolve(name, in: parent)
                let now = SystemClock.monotonic()
                return self.namespace.withLock { names in
                    guard let id, let node = names[id], !node.isOrphan else {
                        return self.absentEntry(self.negativeTTL)
                    }
                    return self.entry(for: node, now)
                }
            }
        }
    }

    private func absentEntry(_ time: UInt64) -> Entry {
        let valid: Duration = .nanoseconds(min(time, metadataTTL))
        return Entry(attributes: nil, validFor: valid, attributesValidFor: valid)
    }

    public func forget(_ inode: InodeID, count: UInt64) {
        namespace.withLock { $0.forget(inode, count: count) }
    }

    // MARK: Asking the store

    /// What `resolve` has to find out.
    private struct Question: Sendable {
        let key: ObjectKey
        let child: InodeID?
        let kind: FileKind?
        /// The name is believed; only its attributes are wanted.
        let attributesOnly: Bool
    }

    /// What the store said of a name.
    private struct Finding: Sendable {
        var object: ObjectInfo?
        var isDirectory = false
        var marker: ObjectInfo?
    }

    /// The inode of a name, as the store has it; nil when it has none.
    /// - Throws: whatever keeps the store from answering; never `notFound`.
    func resolve(_ name: FileName, in parent: InodeID) async throws(VFSError) -> InodeID? {
        try await lookups.run(LookupKey(parent: parent, name: name)) { () async throws(VFSError) -> InodeID? in
            let now = SystemClock.monotonic()
            let question: Result<Question?, VFSError> = self.namespace.withLock { names in
                do throws(VFSError) {
                    let directory = try names.directory(parent)
                    guard let key = names.key(of: name, in: directory) else { return .success(nil) }
                    let child = directory.directory?.children[name]
                    return .success(
                        Question(
                            key: key, child: child?.id, kind: child?.kind,
                            attributesOnly: child.map { self.isFresh($0, now) } ?? false))
                } catch {
                    return .failure(error)
                }
            }
            guard let question = try question.get() else { return nil }
            if question.attributesOnly, let child = question.child {
                try await self.learn(child)
                return self.namespace.withLock { names in
                    (try? names.directory(parent))?.directory?.children[name]?.id
                }
            }
            let finding = try await self.ask(question)
            return self.settle(finding, name, parent, question.key)
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
    private func settle(_ finding: Finding, _ name: FileName, _ parent: InodeID, _ key: ObjectKey) -> InodeID? {
        let now = SystemClock.monotonic()
        let (id, list): (InodeID?, UInt32?) = namespace.withLock { names in
            guard let directory = names[parent], directory.directory != nil else { return (nil, nil) }
            let list = countMiss(directory, now)
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
                return (show(object, name: name, in: directory, &names, now).id, list)
            }
            if let old = directory.directory?.children[name] {
                if old.isLocal { return (old.id, list) }
                names.orphan(old)
            }
            directory.directory?.absent[name] = now + negativeTTL
            return (nil, list)
        }
        if let list { startLoading(parent, generation: list, pages: Self.lookupListPages) }
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
