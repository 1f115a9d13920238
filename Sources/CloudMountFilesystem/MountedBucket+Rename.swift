import CloudMountPlatform
import CloudMountVFS
import Synchronization

extension MountedBucket {
    public func rename(
        parent: InodeID, name: FileName, newParent: InodeID, newName: FileName, flags: RenameFlags,
        reply: consuming Reply<Void>
    ) {
        if settings.readOnly { return reply.fail(.readOnly) }
        guard flags.subtracting(.noReplace).isEmpty else {
            return reply.fail(.invalidArgument, "a store cannot exchange two names")
        }
        slow(reply) { () async throws(VFSError) in
            guard let source = try await self.resolve(name, in: parent) else {
                throw VFSError(.notFound, "\(name) is not there")
            }
            let target = try await self.resolve(newName, in: newParent)
            if let target, flags.contains(.noReplace) || target == source {
                if target == source { return }
                throw VFSError(.alreadyExists, "\(newName) exists")
            }
            let kind = try self.namespace.withLock { names throws(VFSError) -> (FileKind, FileKind?) in
                try self.checkKey(newName, in: try names.directory(newParent), names)
                return (try names.node(source).kind, target.flatMap { names[$0]?.kind })
            }
            if kind.0 == .directory {
                if let target {
                    guard kind.1 == .directory else { throw VFSError(.notDirectory, "\(newName) is not a directory") }
                    try await self.removeDirectory(target)
                }
                try await self.moveDirectory(source, to: newName, in: newParent)
            } else {
                guard kind.1 != .directory else { throw VFSError(.isDirectory, "\(newName) is a directory") }
                try await self.moveFile(source, to: newName, in: newParent, replacing: target)
            }
            try await self.keepIfEmpty(parent)
        }
    }

    // MARK: Files

    private func moveFile(
        _ inode: InodeID, to name: FileName, in parent: InodeID, replacing target: InodeID?
    ) async throws(VFSError) {
        // What is on its way to the old name arrives there first.
        if let running = namespace.withLock({ $0[inode]?.content?.runningCommit }) { _ = await running.value }
        let (isStored, content) = try namespace.withLock { names throws(VFSError) -> (Bool, FileContent?) in
            let node = try names.node(inode)
            return (node.version != nil, node.isLocal ? node.content : nil)
        }
        if let target {
            if let running = namespace.withLock({ $0[target]?.content?.runningCommit }) { _ = await running.value }
            let open = namespace.withLock { names in
                names[target].flatMap { $0.openCount > 0 && $0.version != nil ? self.content(of: $0, &names) : nil }
            }
            if let open { try await preserve(open) }
        }
        guard isStored else {
            // Never stored under the old name: the commit will find the new one.
            let replaced = namespace.withLock { names in target.flatMap { names[$0] }.map { ($0.version, $0.stored) } }
            move(inode, to: name, in: parent) { node in node.version = replaced?.0 }
            return
        }
        if let content { try await commit(inode, content) }
        try await describeForCopy(inode)
        let (source, destination) = try namespace.withLock { names throws(VFSError) -> (ObjectInfo, ObjectKey) in
            let node = try names.node(inode)
            guard let key = names.key(of: node), let version = node.version,
                let new = names.key(of: name, in: try names.directory(parent))
            else { throw VFSError(.notFound, "the file is gone") }
            return (ObjectInfo(key: key, size: node.size, etag: version, stored: node.stored), new)
        }
        let copied = try await copyObject(source, to: destination)
        if let failure = try await provider.delete([source.key]).first { throw failure.error }
        move(inode, to: name, in: parent) { node in
            self.settle(node, ObjectInfo(key: destination, size: node.size, etag: copied.etag, stored: copied.stored))
        }
    }

    /// The size and version that a copy needs are those of a listing at the least.
    private func describeForCopy(_ inode: InodeID) async throws(VFSError) {
        let isStale = try namespace.withLock { names throws(VFSError) in
            let node = try names.node(inode)
            return node.version == nil
        }
        if isStale { try await learn(inode) }
    }

    /// A copy within the bucket; through this machine where the store cannot.
    private func copyObject(_ source: ObjectInfo, to key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        if capabilities.serverCopy {
            return try await provider.copy(CopyRequest(source: source, destination: key, pinned: false))
        }
        throw VFSError(.crossDevice, "the store cannot copy")
    }

    /// The node is the object `info` from now on; same bytes, another key.
    private func settle(_ node: Node, _ info: ObjectInfo) {
        if node.cachedVersion == node.version { node.cachedVersion = info.etag }
        // Another version than was known has been moved, or one that the store names anew: to be looked at again.
        node.validUntil = node.version == info.etag ? expiry(SystemClock.monotonic()) : 0
        node.version = info.etag
        node.content?.state.withLock { state in
            if state.base != nil { state.base = info }
        }
    }

    /// Hangs a node into another place of the tree.
    private func move(_ inode: InodeID, to name: FileName, in parent: InodeID, _ change: (Node) -> Void) {
        let now = SystemClock.monotonic()
        let time = SystemClock.now()
        namespace.withLock { names in
            guard let node = names[inode], let target = names[parent] else { return }
            let old = names[node.parent]
            let oldName = node.name
            if let replaced = target.directory?.children[name], replaced !== node { replaced.content?.detach() }
            old?.directory?.children[oldName] = nil
            if old?.directory?.listing != nil { old?.directory?.removed.insert(oldName) }
            old?.directory?.absent[oldName] = now + negativeTTL
            node.name = name
            change(node)
            node.changed = time
            names.attach(node, to: target)
            for directory in [old, target] {
                directory?.modified = time
                directory?.changed = time
            }
        }
    }

    // MARK: Directories

    /// Copies in flight at once.
    static let renameWidth = 64

    private func moveDirectory(
        _ inode: InodeID, to name: FileName, in parent: InodeID
    ) async throws(VFSError) {
        try await commitBelow(inode)
        let (from, to) = try namespace.withLock { names throws(VFSError) -> (ObjectKey, ObjectKey) in
            guard let from = names.key(of: try names.node(inode)),
                let to = names.key(of: name, in: try names.directory(parent))
            else { throw VFSError(.notFound, "the directory is gone") }
            return (from, ObjectKey(to.string + "/"))
        }
        var objects: [ObjectInfo] = []
        var continuation: String?
        repeat {
            let page = try await provider.list(ListRequest(prefix: from, delimited: false, continuation: continuation))
            objects += page.objects
            continuation = page.continuation
        } while continuation != nil
        guard capabilities.serverCopy || objects.isEmpty else { throw VFSError(.crossDevice, "the store cannot copy") }
        guard let longest = objects.map(\.key.byteCount).max() ?? to.byteCount as Int?,
            longest - from.byteCount + to.byteCount <= capabilities.maxKeyBytes
        else { throw VFSError(.nameTooLong, "a key below \(to) would be too long") }
        let copied: [ObjectInfo]
        do throws(VFSError) {
            copied = try await inParallel(objects, width: Self.renameWidth) { object async throws(VFSError) in
                let key = ObjectKey(to.string + object.key.dropping(from.byteCount).string)
                return try await self.copyBelow(object, to: key)
            }
        } catch {
            // Nothing has been deleted: the old tree is whole; what was copied goes again.
            let made = objects.map { ObjectKey(to.string + $0.key.dropping(from.byteCount).string) }
            _ = try? await deleteAll(made)
            throw error
        }
        // Folder objects last, the deepest first: a store that is a tree inside keeps one that is not empty.
        let keys = objects.map(\.key)
        try await deleteAll(keys.filter { !$0.endsWithSlash })
        try await deleteAll(keys.filter(\.endsWithSlash).sorted { $0.byteCount > $1.byteCount })
        var versions: [ObjectKey: ETag] = [:]
        for (old, new) in zip(objects, copied) { versions[old.key.dropping(from.byteCount)] = new.etag }
        let results = versions
        move(inode, to: name, in: parent) { _ in }
        namespace.withLock { names in
            guard let node = names[inode] else { return }
            self.settleBelow(node, path: "", base: to, results, &names)
        }
    }

    private func copyBelow(_ object: ObjectInfo, to key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        do throws(VFSError) {
            return try await provider.copy(CopyRequest(source: object, destination: key, pinned: false))
        } catch {
            // Some stores list a folder object and copy none (SeaweedFS): a new one does as well.
            guard error.code == .notFound, object.key.endsWithSlash, object.size == 0 else { throw error }
            var metadata = try await headIfThere(object.key)?.metadata ?? ObjectMetadata()
            metadata.contentType = AttributeCodec.directoryType
            return try await provider.put(PutRequest(key: key, metadata: metadata), from: BytesSource([]))
        }
    }

    /// Everything below a directory that only this machine has goes to the store, so that it moves along.
    private func commitBelow(_ inode: InodeID) async throws(VFSError) {
        let contents: [(InodeID, FileContent)] = namespace.withLock { names in
            var found: [(InodeID, FileContent)] = []
            var directories = [names[inode]].compactMap { $0 }
            while let directory = directories.popLast() {
                for child in directory.directory?.children.values ?? [:].values {
                    if child.directory != nil { directories.append(child) }
                    if let content = child.content, child.version != nil || content.runningCommit != nil, child.isLocal
                    {
                        found.append((child.id, content))
                    }
                }
            }
            return found
        }
        for (inode, content) in contents { try await commit(inode, content) }
    }

    private func settleBelow(
        _ node: Node, path: String, base: ObjectKey, _ versions: [ObjectKey: ETag], _ names: inout Namespace
    ) {
        for child in node.directory?.children.values ?? [:].values {
            let key = path + child.name.string
            if child.directory != nil {
                settleBelow(child, path: key + "/", base: base, versions, &names)
            } else if let version = versions[ObjectKey(key)] {
                settle(
                    child,
                    ObjectInfo(key: ObjectKey(base.string + key), size: child.size, etag: version, stored: child.stored)
                )
            }
        }
    }

    func deleteAll(_ keys: [ObjectKey]) async throws(VFSError) {
        let size = max(1, capabilities.maxDeleteKeys)
        let batches = stride(from: 0, to: keys.count, by: size).map { Array(keys[$0..<min(keys.count, $0 + size)]) }
        let failures = try await inParallel(batches, width: size == 1 ? Self.renameWidth : 4) {
            batch async throws(VFSError) in try await self.provider.delete(batch)
        }
        if let failure = failures.joined().first { throw failure.error }
    }
}
