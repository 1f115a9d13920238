import CloudMountCommit
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
        slow(reply, changing: [.name(name, in: parent), .name(newName, in: newParent)]) { () async throws(VFSError) in
            try await self.persistently { () async throws(VFSError) -> Void? in
                guard let source = try await self.find(name, in: parent) else {
                    throw VFSError(.notFound, "\(name) is not there")
                }
                let target = try await self.find(newName, in: newParent)
                if let target, flags.contains(.noReplace) || target == source {
                    if target == source { return () }
                    throw VFSError(.alreadyExists, "\(newName) exists")
                }
                try self.namespace.withLock { names throws(VFSError) in
                    try self.checkKey(newName, in: try names.directory(newParent), names)
                    if names.isAtOrBelow(newParent, { $0 == source }) {
                        throw VFSError(.invalidArgument, "a directory cannot be moved into itself")
                    }
                }
                return try await self.holding(
                    [parent, newParent], changing: [source] + (target.map { [$0] } ?? []),
                    verify: {
                        self.isNamed(name, in: parent, source, $0) && self.isNamed(newName, in: newParent, target, $0)
                    },
                    { () async throws(VFSError) in
                        try await self.move(source, to: newName, in: newParent, replacing: target)
                        try await self.keepIfEmpty(parent)
                    })
            }
        }
    }

    private func move(
        _ source: InodeID, to name: FileName, in parent: InodeID, replacing target: InodeID?
    ) async throws(VFSError) {
        let kind = try namespace.withLock { names throws(VFSError) -> (FileKind, FileKind?) in
            (try names.node(source).kind, target.flatMap { names[$0]?.kind })
        }
        if kind.0 == .directory {
            var marker: ObjectKey?
            if let target {
                guard kind.1 == .directory else { throw VFSError(.notDirectory, "\(name) is not a directory") }
                let (key, isStored) = try await requireEmpty(target)
                if isStored { marker = key }
            }
            try await moveDirectory(source, to: name, in: parent, replacing: marker)
        } else {
            guard kind.1 != .directory else { throw VFSError(.isDirectory, "\(name) is a directory") }
            try await moveFile(source, to: name, in: parent, replacing: target)
        }
    }

    // MARK: Files

    private func moveFile(
        _ inode: InodeID, to name: FileName, in parent: InodeID, replacing target: InodeID?
    ) async throws(VFSError) {
        if let target {
            let open = namespace.withLock { names in
                names[target].flatMap { $0.openCount > 0 && $0.version != nil ? self.content(of: $0, &names) : nil }
            }
            if let open { try await preserve(open) }
        }
        let stored: (ObjectInfo, ObjectKey)? = try namespace.withLock { names throws(VFSError) in
            let node = try names.node(inode)
            guard let version = node.version, !node.isToReplace else { return nil }
            guard let key = names.key(of: node), let new = names.key(of: name, in: try names.directory(parent)) else {
                throw VFSError(.notFound, "the file is gone")
            }
            // The store has not seen what is staged: it is the base that is copied, and its size.
            let size = node.content?.state.withLock { $0.base?.size } ?? node.size
            return (ObjectInfo(key: key, size: size, etag: version, stored: node.stored), new)
        }
        guard let (source, destination) = stored else {
            // Never stored under the old name: the commit will find the new one. What it was to replace there goes now.
            let (replaced, doomed): (ETag?, ObjectKey?) = namespace.withLock { names in
                let node = names[inode].flatMap { $0.version == nil ? nil : $0 }
                return (target.flatMap { names[$0]?.version }, node.flatMap { names.key(of: $0) })
            }
            if let doomed, let failure = try await provider.delete([DeleteRequest(doomed)]).first {
                throw failure.error
            }
            return move(inode, to: name, in: parent) { node in
                node.version = replaced
                node.isToReplace = replaced != nil
            }
        }
        let origin = namespace.withLock { names in names[inode].map { ($0.parent, $0.name) } }
        let copied: ObjectInfo
        do throws(VFSError) {
            copied = try await copyObject(source, to: destination)
        } catch {
            // Somebody else has removed or replaced it.
            if error.code == .notFound || error.code == .stale { distrust(origin.map { [$0] } ?? []) }
            throw error
        }
        do throws(VFSError) {
            if let failure = try await provider.delete([DeleteRequest(source.key)]).first { throw failure.error }
        } catch {
            // The old name stays. What replaced another cannot be taken back.
            if target == nil { _ = try? await provider.delete([DeleteRequest(destination)]) }
            distrust([(parent, name)] + (origin.map { [$0] } ?? []))
            throw error
        }
        move(inode, to: name, in: parent) { node in
            var info = copied
            info.key = destination
            info.size = source.size
            self.settle(node, source, as: info)
        }
    }

    /// A copy within the bucket; through this machine where the store cannot.
    private func copyObject(_ source: ObjectInfo, to key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        if capabilities.serverCopy {
            return try await provider.copy(CopyRequest(source: source, destination: key))
        }
        throw VFSError(.crossDevice, "the store cannot copy")
    }

    /// The node, which was the object `old`, is the object `info` from now on; same bytes, another key.
    private func settle(_ node: Node, _ old: ObjectInfo, as info: ObjectInfo) {
        // Another version than was known has been moved, or one that the store names anew: to be looked at again.
        node.validUntil = node.version == info.etag ? expiry(SystemClock.monotonic()) : 0
        node.version = info.etag
        node.content?.state.withLock { state in
            if let base = state.base, base.isSameVersion(as: old) { state.base = info }
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
            if node.kind == .directory, let old, let key = names.key(of: node) {
                forgetDirectory(key, oldName, in: old.directory, &names, now)
            } else {
                old?.directory?.setAbsent(oldName, absence(now))
            }
            node.name = name
            node.touched = now
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

    /// - Parameter replaced: the marker of the empty directory that had the name.
    private func moveDirectory(
        _ inode: InodeID, to name: FileName, in parent: InodeID, replacing replaced: ObjectKey?
    ) async throws(VFSError) {
        let (from, to) = try namespace.withLock { names throws(VFSError) -> (ObjectKey, ObjectKey) in
            guard let from = names.key(of: try names.node(inode)),
                let to = names.key(of: name, in: try names.directory(parent))
            else { throw VFSError(.notFound, "the directory is gone") }
            return (from, ObjectKey(to.string + "/"))
        }
        let objects = try await all(below: from)
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
            _ = try? await deleteAll(made.filter { $0 != replaced })
            throw error
        }
        // Folder objects last, the deepest first: a store that is a tree inside keeps one that is not empty.
        let keys = objects.map(\.key)
        let origin = namespace.withLock { names in names[inode].map { ($0.parent, $0.name) } }
        do throws(VFSError) {
            try await deleteAll(keys.filter { !$0.endsWithSlash })
            try await deleteAll(keys.filter(\.endsWithSlash).sorted { $0.byteCount > $1.byteCount })
        } catch {
            // The new tree is whole. It goes again only if the old one is certain to be whole too.
            let made = keys.map { ObjectKey(to.string + $0.dropping(from.byteCount).string) }
            if let rest = try? await all(below: from), rest.count == keys.count {
                _ = try? await deleteAll(made.filter { $0 != replaced })
            }
            distrust([(parent, name)] + (origin.map { [$0] } ?? []))
            throw error
        }
        if let replaced, !objects.contains(where: { $0.key == from }) { try await deleteAll([replaced]) }
        var moved: [ObjectKey: (old: ObjectInfo, new: ObjectInfo)] = [:]
        for (old, new) in zip(objects, copied) { moved[old.key.dropping(from.byteCount)] = (old, new) }
        let results = moved
        // In one step: nobody sees a new path with an old version.
        move(inode, to: name, in: parent) { node in self.settleBelow(node, path: "", base: to, results) }
    }

    private func all(below prefix: ObjectKey) async throws(VFSError) -> [ObjectInfo] {
        var objects: [ObjectInfo] = []
        var continuation: String?
        repeat {
            let page = try await provider.list(
                ListRequest(prefix: prefix, delimited: false, continuation: continuation))
            objects += page.objects
            continuation = page.continuation
        } while continuation != nil
        return objects
    }

    private func copyBelow(_ object: ObjectInfo, to key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        do throws(VFSError) {
            return try await provider.copy(CopyRequest(source: object, destination: key))
        } catch {
            // Some stores list a folder object and copy none (SeaweedFS): a new one does as well.
            guard error.code == .notFound, object.key.endsWithSlash, object.size == 0 else { throw error }
            var metadata = try await headIfThere(object.key)?.metadata ?? ObjectMetadata()
            metadata.contentType = AttributeCodec.directoryType
            return try await provider.put(PutRequest(key: key, metadata: metadata), from: BytesSource([]))
        }
    }

    private func settleBelow(
        _ node: Node, path: String, base: ObjectKey, _ moved: [ObjectKey: (old: ObjectInfo, new: ObjectInfo)]
    ) {
        for child in node.directory?.children ?? NodeTable() {
            let key = path + child.name.string
            if child.directory != nil {
                settleBelow(child, path: key + "/", base: base, moved)
            } else if let (old, new) = moved[ObjectKey(key)] {
                // One that somebody else has replaced stays stale for who has it open.
                guard child.openCount == 0 || child.version == old.etag else { continue }
                var info = new
                info.key = ObjectKey(base.string + key)
                info.size = old.size
                settle(child, old, as: info)
            }
        }
    }

    func deleteAll(_ keys: [ObjectKey]) async throws(VFSError) {
        let size = max(1, capabilities.maxDeleteKeys)
        let batches = stride(from: 0, to: keys.count, by: size).map { Array(keys[$0..<min(keys.count, $0 + size)]) }
        let failures = try await inParallel(batches, width: size == 1 ? Self.renameWidth : 4) {
            batch async throws(VFSError) in try await self.provider.delete(batch.map { DeleteRequest($0) })
        }
        if let failure = failures.joined().first { throw failure.error }
    }
}
