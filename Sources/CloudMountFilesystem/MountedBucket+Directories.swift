import CloudMountPlatform
import CloudMountVFS
import Synchronization

extension MountedBucket {
    public func opendir(_ inode: InodeID, reply: consuming Reply<OpenReply>) {
        let now = SystemClock.monotonic()
        let result: Result<(UInt32?, ahead: [(InodeID, UInt32)]), VFSError> = namespace.withLock { names in
            do throws(VFSError) {
                let node = try names.directory(inode)
                node.openCount += 1
                node.directory?.usedAt = now
                node.directory?.isFading = false
                let ahead = walked(into: node, names, now)
                guard let directory = node.directory, directory.completeUntil <= now, directory.listing == nil,
                    !node.isOrphan
                else { return .success((nil, ahead)) }
                return .success((beginListing(directory), ahead))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .failure(let error): reply.fail(error)
        case .success((let generation, let ahead)):
            if let generation { startLoading(inode, generation: generation) }
            for (next, generation) in ahead { startLoading(next, generation: generation, pages: Self.pagesAhead) }
            let handle = handles.withLock { handles in
                defer { handles.next += 1 }
                handles.directories[handles.next] = OpenDirectory(inode: inode)
                return handles.next
            }
            reply.send(OpenReply(handle: handle))
        }
    }

    public func releasedir(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>) {
        handles.withLock { $0.directories[handle] = nil }
        namespace.withLock { names in
            guard let node = names[inode] else { return }
            node.openCount -= 1
            names.dropIfUnused(node)
        }
        reply.send()
    }

    public func fsyncdir(_ inode: InodeID, handle: HandleID, dataOnly: Bool, reply: consuming Reply<Void>) {
        reply.send()  // Every change of a directory is in the store when its call returns.
    }

    public func readdir(
        _ inode: InodeID, handle: HandleID, offset: Int, plus: Bool, packer: any DirectoryPacker,
        reply: consuming Reply<Void>
    ) {
        guard let open = handles.withLock({ $0.directories[handle] }) else { return reply.fail(.badHandle) }
        if offset == 0 { open.listing.withLock { $0 = nil } }
        let step = attemptNow { () throws(VFSError) in try pack(open, offset, plus, packer, describing: true) }
        switch step {
        case .failure(let error): reply.fail(error)
        case .success(.done): reply.send()
        case .success(let step):
            slow(reply) { () async throws(VFSError) in
                var step = step
                var describing = true
                while true {
                    switch step {
                    case .done: return
                    case .wait(let listing, let count): await listing.wait(past: count)
                    case .describe(let ids):
                        await self.fillAttributes(ids)
                        // What could not be had now is shown without.
                        describing = false
                    }
                    if Task.isCancelled { throw .cancelled }
                    step = try self.pack(open, offset, plus, packer, describing: describing)
                }
            }
        }
    }

    private enum PackStep: Sendable {
        case done
        /// No more names than `past` have come yet.
        case wait(Listing, past: Int)
        /// The attributes of these are wanted first.
        case describe([InodeID])
    }

    /// Entries looked at in one answer; a 32 KiB answer has room for fewer.
    private static let batch = 512

    private func pack(
        _ open: OpenDirectory, _ offset: Int, _ plus: Bool, _ packer: any DirectoryPacker, describing: Bool
    ) throws(VFSError) -> PackStep {
        let now = SystemClock.monotonic()
        let (listing, start) = try listing(of: open, now)
        if let start { startLoading(open.inode, generation: start) }
        let first = max(0, offset - 2)
        let some = listing.names(from: first, count: Self.batch)
        if some.isEmpty {
            guard let more = try listing.hasMore(than: first) else {
                // The two first entries need no names, but an answer with them alone would end a short buffer's turn early.
                return .wait(listing, past: first)
            }
            if more { return try pack(open, offset, plus, packer, describing: describing) }
        }
        let step: PackStep? = namespace.withLock { names in
            guard let node = names[open.inode], let directory = node.directory else { return .done }
            if plus, describing, directory.evidence == .present {
                let ids = some.prefix(128).compactMap { name -> InodeID? in
                    guard let child = directory.children[name], !child.isKnown, !child.isLocal, self.isFresh(child, now)
                    else { return nil }
                    return child.id
                }
                if !ids.isEmpty { return .describe(ids) }
            }
            if offset < 1,
                !packer.add(DirectoryEntry(name: ".", inode: node.id, kind: .directory, nextOffset: 1, entry: nil))
            {
                return .done
            }
            if offset < 2 {
                let above = node.parent == 0 ? node.id : node.parent
                let entry = DirectoryEntry(name: "..", inode: above, kind: .directory, nextOffset: 2, entry: nil)
                if !packer.add(entry) { return .done }
            }
            var index = first
            var isEmpty = true
            for name in some {
                index += 1
                guard let child = directory.children[name] else { continue }
                let described = self.isDescribed(child, in: directory) || directory.evidence == .unknown
                let known = described && self.isFresh(child, now)
                let entry = plus && known ? self.entry(for: child, now) : nil
                let kind = child.kind == .directory || known ? child.kind : nil
                let taken = packer.add(
                    DirectoryEntry(
                        name: name.string, inode: child.id, kind: kind, nextOffset: index + 2, entry: entry))
                if !taken {
                    if entry != nil { child.lookups -= 1 }
                    return .done
                }
                isEmpty = false
            }
            // Nothing at all would say that the directory ends here.
            return isEmpty && !some.isEmpty && offset >= 2 ? nil : .done
        }
        if let step { return step }
        return try pack(open, first + some.count + 2, plus, packer, describing: describing)
    }

    /// The names that this stream reads; begun now when it is at its start.
    private func listing(of open: OpenDirectory, _ now: UInt64) throws(VFSError) -> (Listing, start: UInt32?) {
        if let listing = open.listing.withLock({ $0 }) { return (listing, nil) }
        let result: Result<(Listing, UInt32?), VFSError> = namespace.withLock { names in
            guard let node = names[open.inode], let directory = node.directory else {
                return .failure(VFSError(.stale, "the directory is gone"))
            }
            if let listing = directory.listing {
                listing.want()
                return .success((listing, nil))
            }
            if directory.completeUntil > now || node.isOrphan {
                return .success((Listing(complete: directory.children.map(\.name)), nil))
            }
            let generation = beginListing(directory)
            guard let listing = directory.listing else { return .failure(VFSError(.io, "a listing was lost")) }
            return .success((listing, generation))
        }
        let (listing, start) = try result.get()
        listing.want()
        open.listing.withLock { $0 = listing }
        return (listing, start)
    }
}
