import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Synchronization

extension MountedBucket {
    public func read(
        _ inode: InodeID, handle: HandleID, offset: Int, count: Int, reply: consuming Reply<ReadSlices>
    ) {
        guard let file = handles.withLock({ $0.files[handle] }) else { return reply.fail(.badHandle) }
        file.content.read(Extent(offset: offset, count: count), handle: file, reply: reply)
    }

    public func write(
        _ inode: InodeID, handle: HandleID, offset: Int, bytes: UnsafeRawBufferPointer, clearSetID: Bool,
        reply: consuming Reply<Int>
    ) {
        guard let file = handles.withLock({ $0.files[handle] }) else { return reply.fail(.badHandle) }
        guard offset + bytes.count <= capabilities.maxObjectSize else {
            return reply.fail(.tooLarge, "larger than the store allows")
        }
        if let refusal = refusesWrites() { return reply.fail(refusal) }
        let time = SystemClock.now()
        namespace.withLock { names in
            guard let node = names[inode] else { return }
            node.modified = time
            node.changed = time
            node.hasExplicitTime = false
            if clearSetID { self.clearSetID(node) }
        }
        switch attemptNow({ () throws(VFSError) in
            try file.content.write(
                bytes, at: offset, staging: staging, label: settings.name, onDisk: isEnding.load(ordering: .relaxed))
        }) {
        case .failure(let error): reply.fail(error)
        case .success(let size):
            grew(inode, to: size)
            if size >= StreamingUpload.threshold { streamUp(file) }
            reply.send(bytes.count)
        }
    }

    private func grew(_ inode: InodeID, to size: Int) {
        namespace.withLock { names in
            guard let node = names[inode], node.size < size else { return }
            node.size = size
        }
    }

    /// Begins to send a new file that is being written from front to back.
    private func streamUp(_ file: OpenFile) {
        let content = file.content
        let eligible =
            capabilities.multipart
            && content.state.withLock { state in
                guard state.stream == nil, !state.isDetached, state.base == nil || state.image?.baseLimit == 0,
                    let image = state.image, image.dirty.count == 1, image.dirty.total == image.size
                else { return false }
                return true
            }
        guard eligible else { return }
        let target: (ObjectKey, StoredAttributes)? = namespace.withLock { names in
            guard let node = names[file.inode], let key = names.key(of: node) else { return nil }
            return (key, node.storedAttributes)
        }
        guard let (key, attributes) = target,
            let metadata = try? AttributeCodec.encode(
                attributes.withoutTimes, limit: capabilities.maxMetadataBytes)
        else { return }
        let stream: StreamingUpload? = content.state.withLock { state in
            guard state.stream == nil, let staged = state.staged else { return nil }
            let stream = StreamingUpload(
                provider: provider, staged: staged, key: key, metadata: metadata)
            state.stream = stream
            return stream
        }
        let size = content.state.withLock { $0.size }
        stream?.wrote(Extent(0, size), size: size)
    }

    // MARK: Space

    private static let keepSize: Int32 = 1
    private static let punchHole: Int32 = 2
    private static let zeroRange: Int32 = 16

    public func fallocate(
        _ inode: InodeID, handle: HandleID, mode: Int32, offset: Int, count: Int, reply: consuming Reply<Void>
    ) {
        guard let file = handles.withLock({ $0.files[handle] }) else { return reply.fail(.badHandle) }
        let extent = Extent(offset: offset, count: count)
        let result = attemptNow { () throws(VFSError) -> Int in
            switch mode {
            case 0:
                guard extent.upperBound <= capabilities.maxObjectSize else {
                    throw VFSError(.tooLarge, "larger than the store allows")
                }
                return file.content.extend(to: extent.upperBound)
            case Self.keepSize: return file.content.state.withLock { $0.size }
            case Self.punchHole | Self.keepSize, Self.zeroRange | Self.keepSize:
                return try file.content.zero(extent, extend: false)
            case Self.zeroRange: return try file.content.zero(extent, extend: true)
            default: throw VFSError(.notSupported, "no such kind of allocation")
            }
        }
        switch result {
        case .failure(let error): reply.fail(error)
        case .success(let size):
            let time = SystemClock.now()
            namespace.withLock { names in
                guard let node = names[inode] else { return }
                node.size = size
                node.modified = time
                node.changed = time
            }
            reply.send()
        }
    }

    public func lseek(
        _ inode: InodeID, handle: HandleID, offset: Int, whence: Int32, reply: consuming Reply<Int>
    ) {
        guard let file = handles.withLock({ $0.files[handle] }) else { return reply.fail(.badHandle) }
        let found: Int? =
            switch whence {
            case 3: file.content.data(from: offset)
            case 4: file.content.hole(from: offset)
            default: nil
            }
        if let found { reply.send(found) } else { reply.fail(.noData, "nothing there") }
    }

    /// Whole stored objects are copied by the store when the destination is committed; anything else the kernel copies
    /// through its pages.
    public func copyFileRange(
        from: InodeID, fromHandle: HandleID, fromOffset: Int, to: InodeID, toHandle: HandleID, toOffset: Int,
        count: Int,
        reply: consuming Reply<Int>
    ) {
        guard let source = handles.withLock({ $0.files[fromHandle] }),
            let target = handles.withLock({ $0.files[toHandle] })
        else { return reply.fail(.badHandle) }
        let base = source.content.state.withLock { state in state.image == nil ? state.base : nil }
        guard capabilities.serverCopy, let base, from != to, fromOffset == toOffset, fromOffset < base.size else {
            return reply.fail(.notSupported, "not a copy of a whole object")
        }
        let length = min(count, base.size - fromOffset)
        // Small objects are as quick through the kernel, which then has their pages.
        guard base.size >= 1 << 20, fromOffset > 0 || length == base.size || count >= 1 << 30,
            target.content.adopt(base, offset: toOffset, count: length)
        else { return reply.fail(.notSupported, "not a copy of a whole object") }
        let time = SystemClock.now()
        namespace.withLock { names in
            guard let node = names[to] else { return }
            node.size = toOffset + length
            node.modified = time
            node.changed = time
        }
        reply.send(length)
    }
}
