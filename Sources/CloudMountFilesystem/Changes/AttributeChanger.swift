import CloudMountCommit
import CloudMountPlatform
import CloudMountVFS

/// Changes attributes, and takes back what the store has refused: who was told that a change failed does not see it.
struct AttributeChanger: Sendable {
    let context: MountContext
    let tree: Tree
    let revalidator: Revalidator
    let writeBack: WriteBack
    let markers: Markers
    private var commits: Commits { writeBack.commits }

    /// A read-only extended attribute that no listing shows, so that no tool copies it.
    static let stateAttribute = "user.cloudmount.state"
    private static let ownAttributes = "user.cloudmount."

    /// What `body` finds once all is known of a node that the store says; nil: something is missing.
    /// - Parameter body: is told whether it is to insist on all.
    private func described<Value: Sendable>(
        _ inode: InodeID, _ body: (Bool) throws(VFSError) -> Value?
    ) async throws(VFSError) -> Value {
        // It may be let go of as soon as it has been asked for; and of a version that has gone nobody can say more.
        for attempt in 0..<4 {
            try await revalidator.describeFully(inode)
            if let value = try body(attempt < 2) { return value }
        }
        throw VFSError(.busy, "its metadata keeps changing")
    }

    // MARK: stat(2)'s

    /// - Parameter byName: the caller has not opened it.
    func change(_ inode: InodeID, _ asked: AttributeChanges, byName: Bool) async throws(VFSError) {
        try await revalidator.describeFully(inode)
        let kind = tree.stored.kind(inode) ?? .regular
        guard let changes = try context.settings().forced.rest(of: asked, kind: kind) else { return }
        try SlowPath.begin()
        let isDurable = context.policy().durableAttributes
        let isKept = keepsAttributes(of: inode)
        let isStored = changes.size != nil || isDurable && isKept && inode != Namespace.root
        var resized: Resized?
        // It may have to wait for local disk.
        if let size = changes.size {
            resized = try await BlockingPool.shared.run(context.name) { () throws(VFSError) in
                try resize(inode, to: size)
            }
        }
        defer { if resized != nil { tree.giveBackContent(inode) } }
        let cut = resized?.change
        do throws(VFSError) {
            try await undoable(inode, isStored: isStored, resized) { change throws(VFSError) in
                if isDurable, !isKept { try Self.demandNoChange(of: change, by: changes) }
                Self.apply(changes, cut, to: &change)
            }
        } catch {
            guard error.code == .stale, byName, cut != nil else { throw error }
            // At `stale` the kernel would look the name up again, and cut what the caller has not seen.
            throw VFSError(.busy, "the file was changed by somebody else", wire: error.wire)
        }
    }

    /// Whether the store keeps what stat(2) says of a node; its times are kept in memory all the same.
    private func keepsAttributes(of inode: InodeID) -> Bool {
        context.capabilities.keepsAttributes(ofFolder: tree.stored.kind(inode) == .directory)
    }

    /// A mode or an owner that would be another one after the next look is refused.
    private static func demandNoChange(of node: NodeChange, by changes: AttributeChanges) throws(VFSError) {
        let isSame =
            changes.permissions.map { $0 & 0o7777 == node.permissions } ?? true
            && changes.uid.map { $0 == node.uid } ?? true && changes.gid.map { $0 == node.gid } ?? true
        guard isSame else { throw VFSError(.notPermitted, "the store keeps no modes and no owners here") }
    }

    private static func apply(_ changes: AttributeChanges, _ cut: ContentChange?, to change: inout NodeChange) {
        if let permissions = changes.permissions {
            change.permissions = permissions & 0o7777
            change.defaulted.remove(.permissions)
            // The mode and the access control list say the same.
            if var list = change.details.xattrs[PosixACL.access].flatMap({ try? PosixACL(attribute: $0) }) {
                list.setPermissions(permissions)
                change.details.xattrs[PosixACL.access] = list.attribute
            }
        }
        if let uid = changes.uid {
            change.uid = uid
            change.defaulted.remove(.uid)
        }
        if let gid = changes.gid {
            change.gid = gid
            change.defaulted.remove(.gid)
        }
        if changes.clearSetID, change.kind != .directory { change.clearSetID() }
        if let cut {
            change.cut = cut
            change.modified = change.time
            change.hasExplicitTime = false
        }
        // It was last read when it was, whatever becomes of the time of its change.
        if changes.modified != nil, change.details.accessed == nil { change.details.accessed = change.modified }
        switch changes.modified {
        case .now: change.modified = change.time
        case .at(let time): change.modified = time
        case nil: break
        }
        if changes.modified != nil { change.hasExplicitTime = true }
        switch changes.accessed {
        case .now: change.details.accessed = change.time
        case .at(let time): change.details.accessed = time
        case nil: break
        }
        change.changed = change.time
    }

    private struct Resized: Sendable {
        let content: FileContent
        /// What it was, if that is in the store as a whole.
        let origin: ObjectInfo?
        let change: ContentChange
    }

    /// The content stays borrowed.
    private func resize(_ inode: InodeID, to size: Int) throws(VFSError) -> Resized {
        guard tree.stored.kind(inode) == .regular else {
            throw VFSError(.invalidArgument, "only a regular file has a length")
        }
        guard size <= context.capabilities.maxObjectSize else {
            throw VFSError(.tooLarge, "larger than the store allows")
        }
        let content = try tree.borrowContent(inode)
        do throws(VFSError) {
            let origin = content.origin()
            return Resized(content: content, origin: origin, change: try content.truncate(to: size))
        } catch {
            tree.giveBackContent(inode)
            throw error
        }
    }

    /// Changes a node and stores that. When it fails, the node is again what it was, unless somebody writes the file or has changed it
    /// since, or it was dirty before, or bytes have been cut that are nowhere else: then the change is stored later.
    private func undoable(
        _ inode: InodeID, isStored: Bool, _ resized: Resized? = nil,
        _ body: (inout NodeChange) throws(VFSError) -> Void
    ) async throws(VFSError) {
        var before: NodeChange?
        let (isWritten, generation): (Bool, UInt64)
        let isBeside = commits.entries.isUnderWay(inode)
        do throws(VFSError) {
            (isWritten, generation) = try await described(inode) { insists throws(VFSError) in
                try tree.change(inode, insists: insists, isStored: isStored) { change throws(VFSError) in
                    before = change
                    try body(&change)
                }
            }
        } catch {
            goBack(inode, resized)
            throw error
        }
        // A file that is open for writing takes its attributes along when its bytes are committed; that may be just over.
        guard isStored, !isWritten || isBeside || commits.entries.isUnderWay(inode) else { return }
        do throws(VFSError) {
            try await store(inode)
        } catch {
            let isStillThere = resized.map { $0.origin != nil } ?? true
            if let before, before.wasClean, isStillThere, tree.takeBack(inode, to: before, from: generation) {
                goBack(inode, resized)
                await commits.tookBack(inode)
            }
            throw error
        }
    }

    private func goBack(_ inode: InodeID, _ resized: Resized?) {
        guard let resized, var origin = resized.origin else { return }
        // It may have another name by now.
        if let now = (try? tree.stored.target(inode))?.object, now.etag == origin.etag { origin.key = now.key }
        _ = resized.content.goBack(to: origin, from: resized.change.generation)
    }

    /// Stores the attributes of a node whose bytes are in the store already.
    private func store(_ inode: InodeID) async throws(VFSError) {
        if tree.stored.kind(inode) == .directory {
            try await tree.holding(inode) { () async throws(VFSError) in try await markers.store(inode) }
            return
        }
        try await writeBack.persist(inode)
        tree.dropIdleContent(inode)
    }

    // MARK: Links

    private struct KnownTarget: Sendable { var text: String? }

    /// What memory has; nil when the store, or the mount's rule, has to be asked.
    func targetNow(of inode: InodeID) -> String? {
        context.settings().symlinks == .follow ? tree.inspect(inode) { $0.details?.symlinkTarget } ?? nil : nil
    }

    /// - Throws: `symbolicLink` where links lead nowhere.
    func target(of inode: InodeID) async throws(VFSError) -> String {
        if let refusal = context.linkRefusal(.symbolicLink) { throw refusal }
        let known = try await described(inode) { _ in
            tree.inspect(inode) { $0.lacksDetails ? nil : KnownTarget(text: $0.details?.symlinkTarget) }
                ?? KnownTarget()
        }
        if let text = known.text { return text }
        let link = try tree.stored.target(inode)
        let limit = 4096
        guard let buffer = context.memory.take(limit) else { throw VFSError(.busy, "no memory") }
        let sink = BufferSink(buffer, offset: 0, count: limit)
        _ = try await context.provider.read(
            ReadRequest(key: link.key, extent: Extent(0, limit), version: link.object?.etag), into: sink)
        guard let target = String(validating: buffer.bytes.prefix(sink.received), as: UTF8.self) else {
            throw VFSError(.io, "the target of \(link.key) is not UTF-8")
        }
        tree.noteLink(inode, target)
        return target
    }

    // MARK: Extended attributes

    /// Why a name can be no attribute here.
    func refusal(of name: String, changing: Bool) -> VFSError? {
        if name == PosixACL.access || name == PosixACL.defaults {
            return context.settings().acl ? nil : VFSError(.notSupported, "access control lists are off")
        }
        // Names that only a local file system could mean anything by; said at once, so that `ls` does not ask for each file.
        if name.hasPrefix("system.") || name == "security.selinux" || name.hasPrefix("security.SMACK") {
            return VFSError(.notSupported, "no such kind of attribute")
        }
        // The namespaces of xattr(7) that an object's metadata can hold.
        let namespaces = ["user.", "trusted.", "security."]
        if namespaces.contains(name) { return VFSError(.invalidArgument, "an attribute without a name") }
        guard context.settings().forced.shows(attribute: name) else {
            return VFSError(.notSupported, "the mount says owner or mode, and only user attributes are taken")
        }
        guard changing else { return nil }
        guard namespaces.contains(where: { name.hasPrefix($0) }) else {
            return VFSError(.notSupported, "no such kind of attribute")
        }
        return name.hasPrefix(Self.ownAttributes) ? VFSError(.notPermitted, "an attribute of CloudMount's own") : nil
    }

    /// `failed`: its last commit failed; `dirty`: it has what the store has not; `stale`: shown past its time, because the
    /// store cannot be reached; else `current`.
    func state(of inode: InodeID) -> String {
        let view = tree.inspect(inode) { ($0.isDirty, $0.isStale) }
        guard let (isDirty, isStale) = view else { return "current" }
        if isDirty { return commits.entries.error(inode) == nil ? "dirty" : "failed" }
        return isStale ? "stale" : "current"
    }

    /// What memory has; nil when the store has to be asked.
    func xattrNow(_ inode: InodeID, _ name: String) throws(VFSError) -> [UInt8]? {
        let view = tree.inspect(inode) { ($0.isKnownInFull, $0.details?.xattrs[name]) }
        guard let (isKnown, value) = view else { throw VFSError(.noAttribute, "no such attribute") }
        if let value { return value }
        // What has never been read has no capabilities; asking for each program run would cost a request.
        if isKnown || name.hasPrefix("security.") { throw VFSError(.noAttribute, "no such attribute") }
        return nil
    }

    func xattr(_ inode: InodeID, _ name: String) async throws(VFSError) -> [UInt8] {
        guard let value = try await xattrs(inode)[name] else { throw VFSError(.noAttribute, "no such attribute") }
        return value
    }

    func xattrNamesNow(_ inode: InodeID) -> [String]? {
        let view = tree.inspect(inode) { ($0.isKnownInFull, $0.details?.xattrs.keys.sorted() ?? []) }
        guard let (isKnown, names) = view else { return [] }
        return isKnown ? shown(names) : nil
    }

    private func shown(_ names: [String]) -> [String] {
        let forced = context.settings().forced
        return names.filter { forced.shows(attribute: $0) }
    }

    func xattrNames(_ inode: InodeID) async throws(VFSError) -> [String] {
        shown(try await xattrs(inode).keys.sorted())
    }

    private func xattrs(_ inode: InodeID) async throws(VFSError) -> [String: [UInt8]] {
        try await described(inode) { _ in
            tree.inspect(inode) { $0.lacksDetails ? nil : $0.details?.xattrs ?? [:] } ?? [:]
        }
    }

    func setXattr(_ inode: InodeID, _ name: String, _ value: [UInt8], flags: Int32) async throws(VFSError) {
        try await changeXattrs(inode) { change throws(VFSError) in
            let exists = change.details.xattrs[name] != nil
            if flags & 1 != 0, exists { throw VFSError(.alreadyExists, "the attribute exists") }  // XATTR_CREATE
            if flags & 2 != 0, !exists { throw VFSError(.noAttribute, "no such attribute") }  // XATTR_REPLACE
            if name == PosixACL.access {
                let list = try PosixACL(attribute: value)
                change.permissions = change.permissions & 0o7000 | list.permissions
                change.defaulted.remove(.permissions)
                change.details.xattrs[name] = list.isMinimal ? nil : value
                return
            }
            if name == PosixACL.defaults { _ = try PosixACL(attribute: value) }
            change.details.xattrs[name] = value
        }
    }

    func removeXattr(_ inode: InodeID, _ name: String) async throws(VFSError) {
        try await changeXattrs(inode) { change throws(VFSError) in
            guard change.details.xattrs.removeValue(forKey: name) != nil else {
                throw VFSError(.noAttribute, "no such attribute")
            }
        }
    }

    private func changeXattrs(
        _ inode: InodeID, _ body: (inout NodeChange) throws(VFSError) -> Void
    ) async throws(VFSError) {
        let isDurable = context.policy().durableAttributes
        if isDurable, !keepsAttributes(of: inode) {
            throw VFSError(.notSupported, "the store keeps no extended attributes here")
        }
        let limit = context.capabilities.maxMetadataBytes
        try await undoable(inode, isStored: isDurable && inode != Namespace.root) { change throws(VFSError) in
            try body(&change)
            // What users have set by name has room, or is refused.
            _ = try AttributeCodec.encodeWhatFits(change.storedAttributes, limit: limit)
            change.changed = change.time
        }
    }
}
