import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Logging
import Synchronization

extension MountedBucket {
    public func unlink(parent: InodeID, name: FileName, reply: consuming Reply<Void>) {
        if settings.readOnly { return reply.fail(.readOnly) }
        slow(reply, changing: [.name(name, in: parent)]) { () async throws(VFSError) in
            try await self.persistently { () async throws(VFSError) -> Void? in
                guard let inode = try await self.find(name, in: parent) else {
                    throw VFSError(.notFound, "no such file")
                }
                let kind = self.namespace.withLock { names in names[inode]?.kind }
                guard kind != .directory else { throw VFSError(.isDirectory, "\(name) is a directory") }
                return try await self.holding(
                    [parent], changing: [inode], verify: { self.isNamed(name, in: parent, inode, $0) },
                    { () async throws(VFSError) in
                        try await self.destroy(inode)
                        try await self.keepIfEmpty(parent)
                    })
            }
        }
    }

    /// Takes a file, whose name is held, out of the store and out of its directory. Who has it open keeps its bytes.
    private func destroy(_ inode: InodeID) async throws(VFSError) {
        let (key, content): (ObjectKey?, FileContent?) = try namespace.withLock { names throws(VFSError) in
            let node = try names.node(inode)
            // A commit that failed may have reached the store all the same.
            let mayBeStored = node.version != nil || node.content?.state.withLock { $0.commitError } != nil
            return (
                mayBeStored ? names.key(of: node) : nil, node.openCount > 0 ? self.content(of: node, &names) : nil
            )
        }
        if let key {
            if let content, !capabilities.deleteKeepsVersion { try await preserve(content) }
            if let failure = try await provider.delete([key]).first { throw failure.error }
        }
        let now = SystemClock.monotonic()
        let time = SystemClock.now()
        namespace.withLock { names in
            guard let node = names[inode] else { return }
            node.content?.detach()
            node.changed = time
            let parent = names[node.parent]
            names.orphan(node)
            parent?.directory?.setAbsent(node.name, absence(now))
            parent?.modified = time
            parent?.changed = time
        }
    }

    /// Files up to this many bytes that are open while their object goes stay readable.
    static let preserveLimit = 256 << 20

    /// Fetches what an open file still has only in the store, before the object goes.
    func preserve(_ content: FileContent) async throws(VFSError) {
        // Again when it was written to meanwhile; a file that never rests loses what is only in the store.
        for _ in 0..<4 {
            let before = content.state.withLock { $0 }
            guard let base = before.base, before.size > 0, before.size <= Self.preserveLimit else { return }
            let whole = before.image ?? FileImage(size: before.size, baseSize: base.size)
            guard whole.needsBase else { return }
            let staged = try staging.makeFile(label: settings.name)
            let step = 4 << 20
            let extents = stride(from: 0, to: before.size, by: step).map { Extent($0, min(before.size, $0 + step)) }
            do throws(VFSError) {
                _ = try await inParallel(extents, width: 8) { extent async throws(VFSError) in
                    let buffer = try await content.assemble(
                        whole.pieces(in: extent), extent, base: base, staged: before.staged)
                    try await BlockingPool.shared.run(self.settings.name) { () throws(VFSError) in
                        try staged.write(UnsafeRawBufferPointer(buffer.bytes), at: extent.lowerBound)
                    }
                }
            } catch {
                if error.code == .stale { return }  // Somebody else was quicker: the bytes are gone already.
                throw error
            }
            if content.replaceAll(with: staged, size: before.size, generation: before.generation) { return }
        }
    }

    /// A directory that was there without a marker ends with its last object; one that is emptied here stays.
    func keepIfEmpty(_ inode: InodeID) async throws(VFSError) {
        guard inode != Namespace.root else { return }
        let now = SystemClock.monotonic()
        let (key, attributes, isCertain): (ObjectKey?, StoredAttributes?, Bool) = namespace.withLock { names in
            guard let node = names[inode], let directory = node.directory, directory.marker != .present,
                !directory.isOnlyHere, directory.children.isEmpty || directory.completeUntil <= now
            else { return (nil, nil, false) }
            guard directory.children.isEmpty else { return (nil, nil, false) }
            return (names.key(of: node), node.storedAttributes, directory.completeUntil > now)
        }
        guard let key, let attributes else { return }
        if !isCertain {
            let page = try await provider.list(ListRequest(prefix: key, delimited: false, limit: 1))
            if !page.objects.isEmpty { return }
        }
        try await putMarker(key, attributes, of: inode)
    }

    public func rmdir(parent: InodeID, name: FileName, reply: consuming Reply<Void>) {
        if settings.readOnly { return reply.fail(.readOnly) }
        slow(reply, changing: [.name(name, in: parent)]) { () async throws(VFSError) in
            try await self.persistently { () async throws(VFSError) -> Void? in
                guard let inode = try await self.find(name, in: parent) else {
                    throw VFSError(.notFound, "no such directory")
                }
                return try await self.holding(
                    [parent], changing: [inode], verify: { self.isNamed(name, in: parent, inode, $0) },
                    { () async throws(VFSError) in
                        try await self.removeDirectory(inode)
                        try await self.keepIfEmpty(parent)
                    })
            }
        }
    }

    /// Removes an empty directory, whose name is held.
    private func removeDirectory(_ inode: InodeID) async throws(VFSError) {
        let key = try await requireEmpty(inode, orUnreachable: true).key
        // Also where no marker was listed: some stores keep a folder for a while when its last object goes.
        if capabilities.emptyFolders, let failure = try await provider.delete([key]).first { throw failure.error }
        let now = SystemClock.monotonic()
        let time = SystemClock.now()
        namespace.withLock { names in
            guard let node = names[inode] else { return }
            let parent = names[node.parent]
            names.orphan(node)
            forgetDirectory(key, node.name, in: parent?.directory, &names, now)
            parent?.modified = time
            parent?.changed = time
        }
    }

    /// A directory has gone from under its key; an object that it hid is to be looked at again.
    func forgetDirectory(
        _ key: ObjectKey, _ name: FileName, in parent: Directory?, _ names: inout Namespace, _ now: UInt64
    ) {
        names.unhide(below: key)
        if names.unhide(ObjectKey(String(key.string.dropLast()))) {
            parent?.completeUntil = 0
            parent?.setAbsent(name, nil)
        } else {
            parent?.setAbsent(name, absence(now))
        }
    }

    /// The key of an empty directory, and whether it has a marker.
    /// - Parameter isUnreachable: keys that no path can say do not count as its entries; they are deleted.
    /// - Throws: `notDirectory`, `notEmpty`, `busy` for the root.
    func requireEmpty(
        _ inode: InodeID, orUnreachable isUnreachable: Bool = false
    ) async throws(VFSError) -> (key: ObjectKey, isStored: Bool) {
        let found: ObjectKey? = try namespace.withLock { names throws(VFSError) in
            let node = try names.directory(inode)
            if let children = node.directory?.children, children.contains(where: { $0.isHeld }) {
                throw VFSError(.notEmpty, "the directory is not empty")
            }
            return names.key(of: node)
        }
        guard let key = found, !key.isEmpty else { throw VFSError(.busy, "the root of a mount cannot be removed") }
        var unreachable: [ObjectKey] = []
        var isStored = false
        var request = ListRequest(prefix: key, delimited: false, limit: 2)
        repeat {
            let page = try await provider.list(request)
            for object in page.objects {
                if object.key == key {
                    isStored = true
                } else if isUnreachable, Self.isUnreachable(object.key, below: key) {
                    unreachable.append(object.key)
                } else {
                    // Others have put something there: the next listing shows it.
                    namespace.withLock { names in
                        if let directory = names[inode]?.directory, directory.children.isEmpty {
                            directory.completeUntil = 0
                        }
                    }
                    throw VFSError(.notEmpty, "the directory is not empty")
                }
            }
            request.limit = nil
            request.continuation = page.continuation
        } while request.continuation != nil
        if !unreachable.isEmpty {
            log.notice(
                "keys that no path can say go with their directory",
                metadata: ["directory": "\(key)", "keys": "\(unreachable.count)"])
            try await deleteAll(unreachable)
        }
        return (key, isStored)
    }

    /// Whether no path can say `key`.
    private static func isUnreachable(_ key: ObjectKey, below prefix: ObjectKey) -> Bool {
        var names = key.dropping(prefix.byteCount).utf8.split(
            separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        if names.last?.isEmpty ?? false { names.removeLast() }
        return !names.allSatisfy { FileName.isLegal(String(Substring($0))) }
    }
}
