import CloudMountPlatform
import CloudMountVFS
import Synchronization

extension MountedBucket {
    private static let accessMode: Int32 = 3
    private static let truncates: Int32 = 0o1000  // O_TRUNC

    public func open(_ inode: InodeID, flags: Int32, caller: Caller, reply: consuming Reply<OpenReply>) {
        switch attemptNow({ () throws(VFSError) in try openNow(inode, flags, clearSetID: caller.clearSetID) }) {
        case .success(let open?): reply.send(open)
        case .failure(let error): reply.fail(error)
        case .success(nil):
            slow(reply, discard: { self.release(inode, handle: $0.handle, reply: Reply { _ in }) }) {
                () async throws(VFSError) in
                try await self.openExisting(inode, flags, clearSetID: caller.clearSetID)
            }
        }
    }

    /// Opens after asking the store whether the version is still current.
    func openExisting(_ inode: InodeID, _ flags: Int32, clearSetID: Bool = false) async throws(VFSError) -> OpenReply {
        try await learnOrRemember(inode)
        guard let open = try openNow(inode, flags, isCurrent: true, clearSetID: clearSetID) else {
            throw VFSError(.stale, "the file is gone")
        }
        return open
    }

    /// Nil when the store has to be asked first.
    private func openNow(_ inode: InodeID, _ flags: Int32, isCurrent: Bool = false, clearSetID: Bool) throws(VFSError)
        -> OpenReply?
    {
        let canWrite = flags & Self.accessMode != 0
        if canWrite { try requireWritable() }
        let now = SystemClock.monotonic()
        let truncates = canWrite && flags & Self.truncates != 0
        let opened: (FileContent, keep: Bool, isBehind: Bool)? = try namespace.withLock { names throws(VFSError) in
            let node = try names.node(inode)
            guard node.kind != .directory else { throw VFSError(.isDirectory, "a directory") }
            if node.isOrphan {
                // One that was unlinked here can be opened again by who has it open, as /proc/self/fd does.
                guard let content = node.content, content.isUnlinked else {
                    throw VFSError(.stale, "the file has been replaced")
                }
            } else if !isCurrent, !node.isHeld {
                guard node.validUntil > now || node.openCount > 0, policy.freshness == .ttl else { return nil }
            }
            let content = self.content(of: node, &names)
            let keep = node.isCached && policy.data == .memory
            node.isCached = true
            node.openCount += 1
            if canWrite { node.writers += 1 }
            defer { node.kernelIsBehind = false }
            return (content, keep, node.kernelIsBehind)
        }
        guard let (content, keep, isBehind) = opened else { return nil }
        // With the size of the version before, the kernel would cut this one short.
        if isBehind { tellKernel { $0.expireAttributes(inode) } }
        if truncates { try truncateOpened(inode, content, clearSetID: clearSetID) }
        var reply = OpenReply(handle: register(inode, content, canWrite: canWrite))
        reply.keepCache = keep && !truncates
        reply.noFlush = !canWrite
        return reply
    }

    private func truncateOpened(_ inode: InodeID, _ content: FileContent, clearSetID: Bool) throws(VFSError) {
        try content.truncate(to: 0)
        let time = SystemClock.now()
        namespace.withLock { names in
            guard let node = names[inode] else { return }
            node.size = 0
            node.modified = time
            node.changed = time
            node.hasExplicitTime = false
            if clearSetID { self.clearSetID(node) }
        }
    }

    func register(_ inode: InodeID, _ content: FileContent, canWrite: Bool) -> HandleID {
        let prefetch = policy.effectivePrefetch
        return handles.withLock { handles in
            let id = handles.next
            handles.next += 1
            handles.files[id] = OpenFile(
                id: id, inode: inode, content: content, canWrite: canWrite, prefetch: prefetch)
            return id
        }
    }

    func file(_ handle: HandleID) throws(VFSError) -> OpenFile {
        guard let file = handles.withLock({ $0.files[handle] }) else { throw VFSError(.badHandle, "not open") }
        return file
    }

    public func flush(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>) {
        guard let file = handles.withLock({ $0.files[handle] }) else { return reply.fail(.badHandle) }
        guard file.canWrite, file.content.isDirty else { return reply.send() }
        slow(reply) { () async throws(VFSError) in try await self.commit(inode, file.content) }
    }

    public func fsync(_ inode: InodeID, handle: HandleID, dataOnly: Bool, reply: consuming Reply<Void>) {
        flush(inode, handle: handle, reply: reply)
    }

    public func release(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>) {
        guard let file = handles.withLock({ $0.files.removeValue(forKey: handle) }) else {
            return reply.fail(.badHandle)
        }
        file.content.closed(file)
        // Pages of a shared mapping may come after the last flush.
        let isDirty = file.canWrite && file.content.isDirty && file.content.state.withLock { $0.commitError } == nil
        guard isDirty else {
            closed(file)
            return reply.send()
        }
        reply.send()
        Task(executorPreference: provider.executor) {
            _ = await attempt { () async throws(VFSError) in try await self.commit(inode, file.content) }
            self.closed(file)
        }
    }

    private func closed(_ file: OpenFile) {
        let changed: (parent: InodeID, name: FileName)? = namespace.withLock { names in
            guard let node = names[file.inode] else { return nil }
            node.openCount -= 1
            if file.canWrite { node.writers -= 1 }
            if node.openCount == 0, !node.isLocal { node.content = nil }
            defer { names.dropIfUnused(node) }
            return giveUpForbidden(node, &names)
        }
        if let (parent, name) = changed { tellKernel { $0.invalidateEntry(parent: parent, name: name) } }
    }
}
