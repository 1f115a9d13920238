import CloudMountCommit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

extension MountedBucket {
    public func getattr(_ inode: InodeID, handle: HandleID?, reply: consuming Reply<AttributeReply>) {
        let now = SystemClock.monotonic()
        let answer: Result<AttributeReply?, VFSError> = namespace.withLock { names in
            do throws(VFSError) {
                let node = try names.node(inode)
                // An open file stays what it was when it was opened; whether a directory is still there, its lookup tells.
                let settled = node.isOrphan || node.openCount > 0 || node.kind == .directory || isFresh(node, now)
                let directory = names[node.parent]?.directory
                let described = node.isOrphan || directory.map { isDescribed(node, in: $0) } ?? true
                return .success(settled && described ? attributes(of: node, now) : nil)
            } catch {
                return .failure(error)
            }
        }
        switch answer {
        case .success(let attributes?): reply.send(attributes)
        case .failure(let error): reply.fail(error)
        case .success(nil):
            slow(reply) { () async throws(VFSError) -> AttributeReply in
                try await self.learnOrRemember(inode)
                return try self.attributes(of: inode)
            }
        }
    }

    func attributes(of node: Node, _ now: UInt64) -> AttributeReply {
        node.kernelIsBehind = false
        let open = node.openCount > 0 || node.kind == .directory || node.isOrphan
        let valid = open ? .nanoseconds(metadataTTL) : validity(node, now)
        return AttributeReply(attributes: node.attributes, validFor: valid)
    }

    func attributes(of inode: InodeID) throws(VFSError) -> AttributeReply {
        let now = SystemClock.monotonic()
        return try namespace.withLock { names throws(VFSError) in attributes(of: try names.node(inode), now) }
    }

    /// Makes sure that a node's metadata has been seen, before it is changed or shown in full.
    func describeFully(_ inode: InodeID) async throws(VFSError) {
        let isKnown = try namespace.withLock { names throws(VFSError) in
            let node = try names.node(inode)
            return node.isKnown || node.version == nil && node.kind != .directory || node.isOrphan
        }
        if !isKnown { try await learn(inode) }
    }

    // MARK: Changes

    public func setattr(
        _ inode: InodeID, handle: HandleID?, changes: AttributeChanges, caller: Caller,
        reply: consuming Reply<AttributeReply>
    ) {
        if settings.readOnly { return reply.fail(.readOnly) }
        slow(reply, changing: [.inode(inode)]) { () async throws(VFSError) -> AttributeReply in
            try await self.describeFully(inode)
            try await self.undoing(inode) { () async throws(VFSError) in
                if let size = changes.size { try await self.resize(inode, to: size) }
                let isOpen = try self.change(inode, changes)
                // A file that is open for writing takes its attributes along when its bytes are committed.
                if !isOpen, changes.size != nil || self.policy.durableAttributes {
                    try await self.commitAttributes(inode)
                }
            }
            return try self.attributes(of: inode)
        }
    }

    /// Changes what memory holds. True when somebody is writing the file.
    private func change(_ inode: InodeID, _ changes: AttributeChanges) throws(VFSError) -> Bool {
        let time = SystemClock.now()
        let isStored = changes.size != nil || policy.durableAttributes
        return try namespace.withLock { names throws(VFSError) in
            let node = try names.node(inode)
            if let permissions = changes.permissions {
                node.permissions = permissions & 0o7777
                node.defaulted.remove(.permissions)
            }
            if let uid = changes.uid {
                node.uid = uid
                node.defaulted.remove(.uid)
            }
            if let gid = changes.gid {
                node.gid = gid
                node.defaulted.remove(.gid)
            }
            if changes.clearSetID, node.kind != .directory { clearSetID(node) }
            if changes.size != nil { node.modified = time }
            switch changes.modified {
            case .now: node.modified = time
            case .at(let time): node.modified = time
            case nil: break
            }
            if changes.modified != nil { node.hasExplicitTime = true }
            switch changes.accessed {
            case .now: setAccessed(node, time)
            case .at(let time): setAccessed(node, time)
            case nil: break
            }
            changedAttributes(of: node, time, isStored: isStored)
            return node.writers > 0
        }
    }

    /// Notes that attributes are to be stored, now or with the next content.
    private func changedAttributes(of node: Node, _ time: Timestamp, isStored: Bool) {
        node.changed = time
        if isStored || node.isHeld { node.content?.touchAttributes() } else { node.keepsAttributes = true }
    }

    private func setAccessed(_ node: Node, _ time: Timestamp) {
        var details = node.details ?? StoredAttributes()
        details.accessed = time
        node.details = details
    }

    func clearSetID(_ node: Node) {
        node.permissions &= ~0o4000
        if node.permissions & 0o010 != 0 { node.permissions &= ~0o2000 }
    }

    /// Stores the attributes of a node whose bytes are in the store already.
    func commitAttributes(_ inode: InodeID) async throws(VFSError) {
        enum Target: Sendable {
            case none
            case marker
            case file(FileContent)
        }
        let target: Target = try namespace.withLock { names throws(VFSError) in
            let node = try names.node(inode)
            guard !node.isOrphan, let key = names.key(of: node), !key.isEmpty else { return .none }
            if node.kind == .directory { return .marker }
            guard capabilities.metadata else { return .none }
            return .file(self.content(of: node, &names, changed: true))
        }
        switch target {
        case .none: break
        case .marker:
            _ = try await holding([inode]) { () async throws(VFSError) in
                // Under the name that it has by now.
                let now: (ObjectKey, StoredAttributes)? = self.namespace.withLock { names in
                    guard let node = names[inode] else { return nil }
                    return names.key(of: node).map { ($0, node.storedAttributes) }
                }
                if let (key, attributes) = now { try await self.putMarker(key, attributes, of: inode) }
            }
        case .file(let content):
            try await commit(inode, content)
            letGo(inode)
        }
    }

    /// The stored version of a file that holds nothing else.
    func base(of node: Node, _ names: borrowing Namespace) -> ObjectInfo? {
        node.version.flatMap { version in
            names.key(of: node).map { ObjectInfo(key: $0, size: node.size, etag: version, stored: node.stored) }
        }
    }

    /// The content of a file that is not open, for the time of one change.
    func content(of node: Node, _ names: inout Namespace, changed: Bool = false) -> FileContent {
        if let content = node.content {
            return content
        }
        let content = FileContent(base: base(of: node, names), size: node.size, provider: provider, pool: memory)
        node.content = content
        if changed { content.touchAttributes() }
        return content
    }

    /// Drops the content of a file that is neither open nor dirty.
    func letGo(_ inode: InodeID) {
        namespace.withLock { names in
            guard let node = names[inode] else { return }
            if node.openCount == 0, !node.isLocal { node.content = nil }
            names.dropIfUnused(node)
        }
    }

    private func resize(_ inode: InodeID, to size: Int) async throws(VFSError) {
        let content = try namespace.withLock { names throws(VFSError) -> FileContent in
            let node = try names.node(inode)
            guard node.kind == .regular else { throw VFSError(.invalidArgument, "only a regular file has a length") }
            return self.content(of: node, &names)
        }
        guard size <= capabilities.maxObjectSize else { throw VFSError(.tooLarge, "larger than the store allows") }
        try content.truncate(to: size)
        namespace.withLock { names in
            names[inode]?.size = size
            names[inode]?.hasExplicitTime = false
        }
    }

    // MARK: Links

    public func readlink(_ inode: InodeID, reply: consuming Reply<String>) {
        let target = namespace.withLock { $0[inode]?.details?.symlinkTarget }
        if let target { return reply.send(target) }
        slow(reply) { () async throws(VFSError) -> String in
            try await self.describeFully(inode)
            let source: (ObjectKey, ETag?, String?)? = try self.namespace.withLock { names throws(VFSError) in
                let node = try names.node(inode)
                return names.key(of: node).map { ($0, node.version, node.details?.symlinkTarget) }
            }
            guard let (key, version, known) = source else { throw VFSError(.stale, "the link is gone") }
            if let known { return known }
            let bytes = try await self.readSmall(key, version: version, limit: 4096)
            guard let target = String(validating: bytes, as: UTF8.self) else {
                throw VFSError(.io, "the target of \(key) is not UTF-8")
            }
            self.namespace.withLock { names in names[inode]?.details?.symlinkTarget = target }
            return target
        }
    }

    func readSmall(_ key: ObjectKey, version: ETag?, limit: Int) async throws(VFSError) -> [UInt8] {
        guard let buffer = memory.take(limit) else { throw VFSError(.busy, "no memory") }
        let sink = BufferSink(buffer, offset: 0, count: limit)
        _ = try await provider.read(ReadRequest(key: key, extent: Extent(0, limit), version: version), into: sink)
        return Array(buffer.bytes.prefix(sink.received))
    }

    // MARK: Extended attributes

    /// Names that only a local file system could mean anything by; said at once, so that `ls` does not ask for each file.
    private static func isForeign(_ name: String) -> Bool {
        name.hasPrefix("system.") || name == "security.selinux" || name.hasPrefix("security.SMACK")
    }

    /// The namespaces of xattr(7) that an object's metadata can hold.
    private static func isNamespaced(_ name: String) -> Bool {
        ["user.", "trusted.", "security."].contains { name.hasPrefix($0) && name.utf8.count > $0.utf8.count }
    }

    public func getxattr(_ inode: InodeID, name: String, reply: consuming Reply<[UInt8]>) {
        if Self.isForeign(name) { return reply.fail(.notSupported) }
        if name == Self.stateAttribute { return reply.send(Array(state(of: inode).utf8)) }
        let now: (isKnown: Bool, value: [UInt8]?) = namespace.withLock { names in
            guard let node = names[inode] else { return (true, nil) }
            // What has never been read has no capabilities; asking for each program run would cost a request.
            return (node.isKnown || name.hasPrefix("security."), node.details?.xattrs[name])
        }
        if let value = now.value { return reply.send(value) }
        if now.isKnown { return reply.fail(.noAttribute) }
        slow(reply) { () async throws(VFSError) -> [UInt8] in
            try await self.describeFully(inode)
            guard let value = self.namespace.withLock({ $0[inode]?.details?.xattrs[name] }) else {
                throw VFSError(.noAttribute, "no such attribute")
            }
            return value
        }
    }

    public func listxattr(_ inode: InodeID, reply: consuming Reply<[String]>) {
        let now: (isKnown: Bool, names: [String]) = namespace.withLock { names in
            guard let node = names[inode] else { return (true, []) }
            return (node.isKnown, node.details.map { $0.xattrs.keys.sorted() } ?? [])
        }
        if now.isKnown { return reply.send(now.names) }
        slow(reply) { () async throws(VFSError) -> [String] in
            try await self.describeFully(inode)
            return self.namespace.withLock { $0[inode]?.details?.xattrs.keys.sorted() ?? [] }
        }
    }

    public func setxattr(
        _ inode: InodeID, name: String, value: [UInt8], flags: Int32, reply: consuming Reply<Void>
    ) {
        if settings.readOnly { return reply.fail(.readOnly) }
        if Self.isForeign(name) || !Self.isNamespaced(name) { return reply.fail(.notSupported) }
        if name.hasPrefix(Self.ownAttributes) { return reply.fail(.notPermitted, "an attribute of CloudMount's own") }
        changeXattrs(of: inode, reply) { attributes throws(VFSError) in
            let exists = attributes[name] != nil
            if flags & 1 != 0, exists { throw VFSError(.alreadyExists, "the attribute exists") }  // XATTR_CREATE
            if flags & 2 != 0, !exists { throw VFSError(.noAttribute, "no such attribute") }  // XATTR_REPLACE
            attributes[name] = value
        }
    }

    public func removexattr(_ inode: InodeID, name: String, reply: consuming Reply<Void>) {
        if settings.readOnly { return reply.fail(.readOnly) }
        if Self.isForeign(name) { return reply.fail(.notSupported) }
        if name.hasPrefix(Self.ownAttributes) { return reply.fail(.notPermitted, "an attribute of CloudMount's own") }
        changeXattrs(of: inode, reply) { attributes throws(VFSError) in
            guard attributes.removeValue(forKey: name) != nil else { throw VFSError(.noAttribute, "no such attribute") }
        }
    }

    private func changeXattrs(
        of inode: InodeID, _ reply: consuming Reply<Void>,
        _ change: @escaping @Sendable (inout [String: [UInt8]]) throws(VFSError) -> Void
    ) {
        slow(reply, changing: [.inode(inode)]) { () async throws(VFSError) in
            try await self.describeFully(inode)
            let limit = self.capabilities.maxMetadataBytes
            let isStored = self.policy.durableAttributes
            try await self.undoing(inode) { () async throws(VFSError) in
                let isOpen = try self.namespace.withLock { names throws(VFSError) in
                    let node = try names.node(inode)
                    var attributes = node.storedAttributes
                    try change(&attributes.xattrs)
                    _ = try AttributeCodec.encode(attributes, limit: limit)
                    var details = node.details ?? StoredAttributes()
                    details.xattrs = attributes.xattrs
                    node.details = details
                    self.changedAttributes(of: node, SystemClock.now(), isStored: isStored)
                    return node.writers > 0
                }
                if !isOpen, isStored { try await self.commitAttributes(inode) }
            }
        }
    }
}
