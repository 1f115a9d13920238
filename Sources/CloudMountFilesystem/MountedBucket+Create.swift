import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Synchronization

extension MountedBucket {
    // MARK: Files

    public func create(
        parent: InodeID, name: FileName, mode: UInt32, flags: Int32, caller: Caller, reply: consuming Reply<CreateReply>
    ) {
        if settings.readOnly { return reply.fail(.readOnly) }
        switch attemptNow({ () throws(VFSError) in try createNow(parent, name, mode, flags, caller) }) {
        case .success(let made?): reply.send(made)
        case .failure(let error): reply.fail(error)
        case .success(nil):
            slow(reply, discard: { self.discard($0) }) { () async throws(VFSError) -> CreateReply in
                try await self.persistently { () async throws(VFSError) -> CreateReply? in
                    guard let existing = try await self.resolve(name, in: parent) else {
                        return try self.createNow(parent, name, mode, flags, caller, isAbsent: true)
                    }
                    if flags & Self.exclusive != 0 { throw VFSError(.alreadyExists, "\(name) exists") }
                    let open = try await self.openExisting(existing, flags)
                    return try self.namespace.withLock { names throws(VFSError) in
                        let entry = self.entry(for: try names.node(existing), SystemClock.monotonic())
                        return CreateReply(entry: entry, open: open)
                    }
                }
            }
        }
    }

    static let exclusive: Int32 = 0o200  // O_EXCL

    /// Makes a file that only this mount knows until its commit. Nil when the name may exist.
    private func createNow(
        _ parent: InodeID, _ name: FileName, _ mode: UInt32, _ flags: Int32, _ caller: Caller, isAbsent: Bool = false
    ) throws(VFSError) -> CreateReply? {
        let now = SystemClock.monotonic()
        let refusal = refusesWrites()
        let made: (Entry, FileContent, InodeID)? = try namespace.withLock { names throws(VFSError) in
            let directory = try names.directory(parent)
            switch known(name, in: directory, now) {
            case .node: return nil
            case .unknown: if !isAbsent || directory.directory?.children[name] != nil { return nil }
            case .absent: break
            }
            if let refusal { throw refusal }
            try checkKey(name, in: directory, names)
            let node = try make(name, in: directory, kind: .regular, mode: mode, caller, &names)
            let content = FileContent(base: nil, size: 0, provider: provider, pool: memory)
            content.touchAttributes()
            node.content = content
            node.isCached = true
            node.openCount += 1
            node.writers += 1
            return (entry(for: node, now), content, node.id)
        }
        guard let (entry, content, inode) = made else { return nil }
        var open = OpenReply(handle: register(inode, content, canWrite: true))
        open.keepCache = policy.data == .memory
        return CreateReply(entry: entry, open: open)
    }

    /// What the store will not take is refused before anything is written.
    func checkKey(_ name: FileName, in directory: Node, _ names: borrowing Namespace) throws(VFSError) {
        guard !directory.isOrphan, let key = names.key(of: name, in: directory) else {
            throw VFSError(.notFound, "the directory is gone")
        }
        guard name.string.utf8.count <= capabilities.maxNameBytes else {
            throw VFSError(.nameTooLong, "the name is longer than the store's \(capabilities.maxNameBytes) bytes")
        }
        guard capabilities.controlCharacters || !name.string.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
            throw VFSError(.invalidName, "the store takes no control characters in names")
        }
        guard key.byteCount < capabilities.maxKeyBytes else {
            throw VFSError(.nameTooLong, "the path is longer than the store's \(capabilities.maxKeyBytes) bytes")
        }
    }

    /// A new node with what the caller and the parent give it.
    private func make(
        _ name: FileName, in parent: Node, kind: FileKind, mode: UInt32, _ caller: Caller, _ names: inout Namespace
    ) throws(VFSError) -> Node {
        guard parent.directory?.children[name] == nil else { throw VFSError(.alreadyExists, "\(name) exists") }
        let time = SystemClock.now()
        var permissions = mode & 0o7777 & ~caller.umask
        let inheritsGroup = parent.permissions & 0o2000 != 0
        if inheritsGroup, kind == .directory { permissions |= 0o2000 }
        let node = names.insert(
            name: name, in: parent, kind: kind, permissions: permissions, uid: caller.uid,
            gid: inheritsGroup ? parent.gid : caller.gid, time: time)
        node.isKnown = true
        node.touched = SystemClock.monotonic()
        node.validUntil = expiry(node.touched)
        node.details = StoredAttributes()
        node.details?.born = time
        parent.modified = time
        parent.changed = time
        return node
    }

    public func mknod(
        parent: InodeID, name: FileName, mode: UInt32, device: UInt32, caller: Caller, reply: consuming Reply<Entry>
    ) {
        guard let kind = FileKind(rawValue: mode & 0o170000 == 0 ? FileKind.regular.rawValue : mode & 0o170000),
            kind != .directory, kind != .symbolicLink
        else { return reply.fail(.invalidArgument, "mknod makes no such thing") }
        make(parent, name, kind, mode, caller, reply) { attributes in if device != 0 { attributes.device = device } }
    }

    public func symlink(
        target: String, parent: InodeID, name: FileName, caller: Caller, reply: consuming Reply<Entry>
    ) {
        var caller = caller
        caller.umask = 0
        make(parent, name, .symbolicLink, 0o777, caller, reply, body: target) {
            $0.symlinkTarget = target
            $0.symlinkTargetInBody = true
        }
    }

    /// Makes a node that is in the store before the call returns.
    private func make(
        _ parent: InodeID, _ name: FileName, _ kind: FileKind, _ mode: UInt32, _ caller: Caller,
        _ reply: consuming Reply<Entry>, body: String = "",
        _ describe: @escaping @Sendable (inout StoredAttributes) -> Void
    ) {
        if settings.readOnly { return reply.fail(.readOnly) }
        slow(reply, changing: [.name(name, in: parent)], discard: { self.discard($0) }) {
            () async throws(VFSError) -> Entry in
            if try await self.find(name, in: parent) != nil { throw VFSError(.alreadyExists, "\(name) exists") }
            let made = try await self.holding([parent]) { () async throws(VFSError) in
                try await self.makeStored(parent, name, kind, mode, caller, body: body, describe)
            }
            guard let made else { throw VFSError(.notFound, "the directory is gone") }
            return made
        }
    }

    private func makeStored(
        _ parent: InodeID, _ name: FileName, _ kind: FileKind, _ mode: UInt32, _ caller: Caller, body: String,
        _ describe: @Sendable (inout StoredAttributes) -> Void
    ) async throws(VFSError) -> Entry {
        let (key, node, attributes) = try namespace.withLock {
            names throws(VFSError) -> (ObjectKey, InodeID, StoredAttributes) in
            let directory = try names.directory(parent)
            try checkKey(name, in: directory, names)
            let node = try make(name, in: directory, kind: kind, mode: mode, caller, &names)
            var details = node.details ?? StoredAttributes()
            describe(&details)
            node.details = details
            node.size = body.utf8.count
            // Not to be taken for gone while it is on its way.
            node.writers += 1
            guard let key = names.key(of: node) else { throw VFSError(.notFound, "the directory is gone") }
            return (key, node.id, node.storedAttributes)
        }
        do throws(VFSError) {
            let metadata = try AttributeCodec.encode(attributes, limit: capabilities.maxMetadataBytes)
            let info = try await putNew(
                PutRequest(
                    key: key, metadata: metadata,
                    precondition: capabilities.conditionalCreate ? .absent : .none),
                BytesSource(body))
            return try namespace.withLock { names throws(VFSError) in
                let made = try names.node(node)
                made.version = info.etag
                made.stored = info.stored
                made.writers -= 1
                made.touched = SystemClock.monotonic()
                return entry(for: made, made.touched)
            }
        } catch {
            undo(node)
            guard error.code == .preconditionFailed else { throw error }
            distrust([(parent, name)])
            throw VFSError(.alreadyExists, "\(key) exists")
        }
    }

    /// Stores what must not be there yet. The answer to an earlier attempt may have been lost: then what is in the way is
    /// our own.
    private func putNew(_ request: PutRequest, _ source: BytesSource) async throws(VFSError) -> ObjectInfo {
        do throws(VFSError) {
            return try await provider.put(request, from: source)
        } catch {
            guard error.code == .preconditionFailed, request.metadata.modified != nil,
                let there = try await headIfThere(request.key), there.size == source.count,
                there.metadata?.modified == request.metadata.modified,
                there.metadata?.user["mode"] == request.metadata.user["mode"]
            else { throw error }
            return there
        }
    }

    /// Takes back a node whose object could not be stored.
    private func undo(_ inode: InodeID) {
        namespace.withLock { names in
            guard let node = names[inode] else { return }
            node.writers = 0
            names.orphan(node)
        }
    }

    // MARK: Directories

    public func mkdir(
        parent: InodeID, name: FileName, mode: UInt32, caller: Caller, reply: consuming Reply<Entry>
    ) {
        if settings.readOnly { return reply.fail(.readOnly) }
        slow(reply, changing: [.name(name, in: parent)], discard: { self.discard($0) }) {
            () async throws(VFSError) -> Entry in
            var isNew = self.capabilities.conditionalCreate
            while true {
                if try await self.find(name, in: parent) != nil { throw VFSError(.alreadyExists, "\(name) exists") }
                let made = await attempt { () async throws(VFSError) in
                    try await self.holding([parent]) { () async throws(VFSError) in
                        try await self.makeDirectory(parent, name, mode, caller, isNew ? .absent : .none)
                    }
                }
                switch made {
                case .success(let made?): return made
                case .success(nil): throw VFSError(.notFound, "the directory is gone")
                case .failure(let error):
                    guard isNew, error.code == .alreadyExists else { throw error }
                    // Somebody else's, or a folder that the store keeps and shows to nobody: then it is taken over.
                    isNew = false
                    self.distrust([(parent, name)])
                }
            }
        }
    }

    private func makeDirectory(
        _ parent: InodeID, _ name: FileName, _ mode: UInt32, _ caller: Caller, _ precondition: Precondition
    ) async throws(VFSError) -> Entry {
        let (key, inode, attributes) = try namespace.withLock {
            names throws(VFSError) -> (ObjectKey, InodeID, StoredAttributes) in
            let directory = try names.directory(parent)
            try checkKey(name, in: directory, names)
            let node = try make(name, in: directory, kind: .directory, mode: mode, caller, &names)
            node.directory?.completeUntil = expiry(node.touched)
            node.directory?.marker = .present
            node.writers += 1
            guard let key = names.key(of: node) else { throw VFSError(.notFound, "the directory is gone") }
            return (key, node.id, node.storedAttributes)
        }
        do throws(VFSError) {
            try await putMarker(key, attributes, of: inode, precondition: precondition)
            return try namespace.withLock { names throws(VFSError) in
                let made = try names.node(inode)
                made.writers -= 1
                made.touched = SystemClock.monotonic()
                return entry(for: made, made.touched)
            }
        } catch {
            undo(inode)
            if error.code == .preconditionFailed { throw VFSError(.alreadyExists, "\(key) exists") }
            throw error
        }
    }

    /// Stores the object that keeps a directory and its attributes.
    func putMarker(
        _ key: ObjectKey, _ attributes: StoredAttributes, of inode: InodeID?, precondition: Precondition = .none
    ) async throws(VFSError) {
        guard capabilities.emptyFolders else {
            return namespace.withLock { names in
                guard let node = inode.flatMap({ names[$0] }) else { return }
                node.directory?.marker = .absent
                node.directory?.isOnlyHere = true
                node.isKnown = true
            }
        }
        var metadata = try AttributeCodec.encode(attributes, limit: capabilities.maxMetadataBytes)
        metadata.contentType = AttributeCodec.directoryType
        let info = try await putNew(
            PutRequest(key: key, metadata: metadata, precondition: precondition), BytesSource([]))
        guard let inode else { return }
        namespace.withLock { names in
            guard let node = names[inode] else { return }
            node.directory?.marker = .present
            node.directory?.markerVersion = info.etag
            node.isKnown = true
        }
    }
}
