import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS

/// The names and inodes of one mount behind their lock. Only the files of this folder take it (`withNames`); everybody else
/// calls what they offer. Inside nothing is awaited, nothing asked of the store, no other lock taken but those of a listing, of the
/// gate's waiters and of a content that nobody else knows yet, and no closure from outside runs but a packer's.
final class Tree: Sendable {
    let context: MountContext
    let gateWaiters = Waiters()
    private let names: Guarded<Namespace>
    private let makeContent: @Sendable (InodeID, ObjectInfo?, Int) -> FileContent

    init(context: MountContext, makeContent: @escaping @Sendable (InodeID, ObjectInfo?, Int) -> FileContent) {
        self.context = context
        self.makeContent = makeContent
        let rules = TreeRules(context.settings(), context.capabilities)
        let root = Node(
            id: Namespace.root, parent: 0, name: FileName(unchecked: "/"), kind: .directory,
            permissions: rules.directoryPermissions, uid: rules.uid, gid: rules.gid, time: context.clock.now())
        root.isKnown = true
        root.lookups = 1
        root.directory?.marker = .present
        names = Guarded(Namespace(root: root, rules: rules))
    }

    func withNames<Value: Sendable, Failure: Error>(
        _ body: (inout Namespace) throws(Failure) -> Value
    ) throws(Failure) -> Value { try names.withLock(body) }

    func now() -> UInt64 { context.clock.monotonic() }

    /// The same names, as those see them who store and move objects.
    var stored: StoredNames { StoredNames(tree: self) }

    // MARK: Contents

    /// The bytes of a file, made when there are none yet. Under the lock.
    private func content(of node: Node, _ names: Namespace) -> FileContent {
        if let content = node.content { return content }
        let base = node.relocated ?? names.key(of: node).flatMap { node.info($0, size: node.size) }
        let content = makeContent(node.id, base, node.size)
        node.content = content
        return content
    }

    /// Makes a node, and its content, which has its bytes before anybody finds it.
    func restore(
        _ layers: SealedWrite.Layers, _ staged: StagedFile?, _ make: (inout Namespace) -> Node?
    ) -> RestoredFile? {
        withNames { names in
            guard let node = make(&names) else { return nil }
            let content = content(of: node, names)
            content.restore(layers, staged)
            return RestoredFile(inode: node.id, generations: [node.generation, content.generation()])
        }
    }

    /// The content of a file, if it has one.
    func contentIfAny(_ inode: InodeID) -> FileContent? { withNames { names in names[inode]?.content } }

    /// The content of a file that need not be open, until it is given back.
    /// - Throws: `stale` when there is no such inode.
    func borrowContent(_ inode: InodeID) throws(VFSError) -> FileContent {
        try withNames { names throws(VFSError) in
            let node = try names.node(inode)
            guard node.kind != .directory else { throw VFSError(.isDirectory, "a directory") }
            node.borrows += 1
            return content(of: node, names)
        }
    }

    func giveBackContent(_ inode: InodeID) {
        withNames { names in
            guard let node = names[inode] else { return }
            node.borrows -= 1
            dropIdleContent(node, &names)
        }
    }

    /// Drops the content of a file that is neither open nor dirty.
    func dropIdleContent(_ inode: InodeID) {
        withNames { names in if let node = names[inode] { dropIdleContent(node, &names) } }
    }

    private func dropIdleContent(_ node: Node, _ names: inout Namespace) {
        if node.openCount == 0, node.borrows == 0, !node.isDirty { node.content = nil }
        names.dropIfUnused(node)
    }

    // MARK: Files that are open

    /// Opens a file.
    /// - Parameters:
    ///   - isCurrent: the store has just been asked.
    ///   - trusts: attributes may be believed for their time.
    /// - Returns: nil when the store has to be asked first, or something that is being done to the file awaited.
    /// - Throws: `stale` also when the kernel has to look the name up again, as it then does by itself.
    func open(_ inode: InodeID, _ use: FileUse, isCurrent: Bool, trusts: Bool) throws(VFSError) -> OpenedContent? {
        let now = now()
        return try withNames { names throws(VFSError) in
            let node = try names.node(inode)
            guard node.kind != .directory else { throw VFSError(.isDirectory, "a directory") }
            if node.isOrphan {
                // One that was unlinked here can be opened again by who has it open, as /proc/self/fd does.
                guard node.isUnlinked, node.content != nil else {
                    names.expect(node, now)
                    throw VFSError(.stale, "the file has been replaced")
                }
            } else if node.isBeingMade || names.isGoing(inode) {
                return nil
            } else if !isCurrent, !node.isHeld {
                guard node.validUntil > now || node.openCount > 0, trusts else { return nil }
            }
            // The kernel looks the name up then, and opens it again. By a bind mount of the file it does not.
            if !use.isTold, node.kernelIsBehind, use.appends || !node.isOpenRefused {
                node.isOpenRefused = true
                throw VFSError(.stale, "the file has become another since the kernel looked it up")
            }
            let content = content(of: node, names)
            let (isCached, hasPages) = (node.isCached, node.hasPages)
            node.isCached = true
            names.open(node, canWrite: use.canWrite)
            return OpenedContent(
                content: content, isCached: isCached, hasPages: hasPages, kernelIsBehind: node.kernelIsBehind)
        }
    }

    /// - Returns: whether the file holds what the store has not, and nobody has it open to write any more.
    @discardableResult
    func closed(_ inode: InodeID, canWrite: Bool) -> Bool {
        withNames { names in
            guard let node = names[inode] else { return false }
            names.close(node, canWrite: canWrite)
            dropIdleContent(node, &names)
            return canWrite && node.writers == 0 && node.isDirty && !node.isOrphan
        }
    }

    /// The bytes of a file have changed.
    /// - Returns: whether set-user-id or set-group-id went with it.
    @discardableResult
    func wrote(_ inode: InodeID, _ change: ContentChange, clearSetID: Bool) -> Bool {
        let time = context.clock.now()
        return withNames { names in
            guard let node = names[inode] else { return false }
            node.resize(change)
            node.hasPages = true
            noteChange(of: node, at: time)
            node.hasExplicitTime = false
            let before = node.permissions
            if clearSetID { node.clearSetID() }
            names.soil(node)
            return node.permissions != before
        }
    }

    private func noteChange(of node: Node, at time: Timestamp) {
        // It was last read when it was, whatever becomes of the time of its change.
        if node.details?.accessed == nil {
            var details = node.details ?? StoredAttributes()
            details.accessed = node.modified
            node.details = details
        }
        node.modified = time
        node.changed = time
    }

    // MARK: Making

    /// Makes an inode that only this mount knows.
    /// - Returns: nil when the name may exist; the inode's entry, counted as looked up, and its content when it is a file.
    func create(
        _ name: FileName, in parent: InodeID, mode: UInt32, _ caller: Caller, isAbsent: Bool
    ) throws(VFSError) -> (Entry, FileContent)? {
        let now = now()
        let refusal = context.refusesWrites()
        return try withNames { names throws(VFSError) in
            let directory = try names.directory(parent)
            if names.gate.isClaimed(Place(parent: parent, name: name)) || names.isGoing(parent) { return nil }
            switch names.known(name, in: directory, now) {
            case .node: return nil
            case .unknown: if !isAbsent || directory.directory?.children[name] != nil { return nil }
            case .absent: break
            }
            if let refusal { throw refusal }
            try names.checkKey(name, in: directory)
            let node = try insert(name, in: directory, kind: .regular, mode: mode, caller, &names)
            names.soil(node)
            let content = content(of: node, names)
            node.isCached = true
            names.open(node, canWrite: true)
            return (names.entry(for: node, now), content)
        }
    }

    struct Made: Sendable {
        let inode: InodeID
        let key: ObjectKey
        let attributes: StoredAttributes
    }

    /// Makes an inode whose object is stored next. It is held until `finish` or `undo`.
    func begin(
        _ name: FileName, in parent: InodeID, kind: FileKind, mode: UInt32, _ caller: Caller, size: Int,
        _ describe: (inout StoredAttributes) -> Void
    ) throws(VFSError) -> Made {
        try withNames { names throws(VFSError) in
            let directory = try names.directory(parent)
            if names.gate.isClaimed(Place(parent: parent, name: name)) || names.isGoing(parent) {
                throw VFSError(.busy, "the name is being changed")
            }
            try names.checkKey(name, in: directory)
            let node = try insert(name, in: directory, kind: kind, mode: mode, caller, &names)
            guard let key = names.key(of: node) else { throw VFSError(.notFound, "the directory is gone") }
            var details = node.details ?? StoredAttributes()
            describe(&details)
            node.details = details
            node.size = size
            // Not to be taken for gone while it is on its way.
            node.writers += 1
            node.isBeingMade = true
            names.gate.begin(node.id)
            if let new = node.directory {
                new.completeUntil = names.rules.expiry(node.touched)
                new.completeSince = node.touched
                (new.isWhole, new.tellsAbsence) = (true, true)
                new.marker = .present
            }
            return Made(inode: node.id, key: key, attributes: node.storedAttributes)
        }
    }

    /// The object of `begin` is stored.
    /// - Parameter opened: the inode is open for writing from now on.
    func finish(
        _ inode: InodeID, _ info: ObjectInfo?, nonce: String? = nil, opened: Bool = false
    ) throws(VFSError) -> (Entry, FileContent?) {
        let now = now()
        return try withNames { names throws(VFSError) in
            let node = try names.node(inode)
            names.gate.leave(using: [inode])
            // Whoever opened it meanwhile may have stored more.
            let isFirst = node.version == nil
            if let info, node.directory == nil, isFirst {
                node.version = info.etag
                node.nonce = nonce
                node.stored = info.stored
            }
            node.writers -= 1
            node.isBeingMade = false
            node.touched = now
            names.isSeen(node)
            guard opened else { return (names.entry(for: node, now), nil) }
            if isFirst { node.isPlaceholder = true }
            // The placeholder has no bytes that a commit could come back to.
            let content = node.content ?? makeContent(node.id, nil, 0)
            node.content = content
            node.isCached = true
            names.open(node, canWrite: true)
            return (names.entry(for: node, now), content)
        }
    }

    /// Takes back an inode whose object could not be stored.
    func undo(_ inode: InodeID) {
        withNames { names in
            names.gate.leave(using: [inode])
            guard let node = names[inode] else { return }
            node.writers -= 1
            node.isBeingMade = false
            if let directory = node.directory, !directory.children.isEmpty {
                // What others have put into it meanwhile keeps it.
                directory.marker = .unknown
                names.foldersHere.keep(node)
                return
            }
            names.orphan(node)
        }
    }

    /// A new node with what the caller and the parent give it. Under the lock.
    private func insert(
        _ name: FileName, in parent: Node, kind: FileKind, mode: UInt32, _ caller: Caller, _ names: inout Namespace
    ) throws(VFSError) -> Node {
        guard parent.directory?.children[name] == nil else { throw VFSError(.alreadyExists, "\(name) exists") }
        let time = context.clock.now()
        var permissions = mode & 0o7777 & ~caller.umask
        var details = StoredAttributes()
        details.born = time
        details.accessed = time
        if names.rules.acl, let bytes = parent.details?.xattrs[PosixACL.defaults],
            let list = try? PosixACL(attribute: bytes)
        {
            // Instead of the umask.
            let own = list.inherited(mode: mode)
            permissions = mode & 0o7000 | own.permissions
            if !own.isMinimal { details.xattrs[PosixACL.access] = own.attribute }
            if kind == .directory { details.xattrs[PosixACL.defaults] = bytes }
        }
        let inheritsGroup = parent.permissions & 0o2000 != 0
        if inheritsGroup, kind == .directory { permissions |= 0o2000 }
        let node = names.insert(
            name: name, in: parent, kind: kind, permissions: permissions, uid: caller.uid,
            gid: inheritsGroup ? parent.gid : caller.gid, time: time, isNew: true)
        node.isKnown = true
        node.touched = now()
        node.validUntil = names.rules.expiry(node.touched)
        node.details = details
        names.showWhatLasts(of: node)
        names.noteChange(in: parent, time)
        return node
    }

    // MARK: Attributes

    /// - Returns: nil when the store has to be asked.
    func getattr(_ inode: InodeID) throws(VFSError) -> KnownAttributes? {
        let now = now()
        return try withNames { names throws(VFSError) in
            let node = try names.node(inode)
            // An open file stays what it was when it was opened; whether a directory is still there, its lookup tells.
            let isValid = node.isOrphan || node.openCount > 0 || node.kind == .directory || names.isValid(node, now)
            let directory = names[node.parent]?.directory
            let described = node.isOrphan || directory.map { names.isDescribed(node, in: $0) } ?? true
            guard isValid, described else { return nil }
            return KnownAttributes(known: names.attributes(of: node, now), content: node.content)
        }
    }

    func attributes(of inode: InodeID) throws(VFSError) -> KnownAttributes {
        let now = now()
        return try withNames { names throws(VFSError) in
            let node = try names.node(inode)
            return KnownAttributes(known: names.attributes(of: node, now), content: node.content)
        }
    }

    /// Reads something of a node.
    func inspect<Value: Sendable>(_ inode: InodeID, _ body: (borrowing NodeView) -> Value) -> Value? {
        withNames { names in names[inode].map { body(NodeView($0)) } }
    }

    /// Changes attributes.
    /// - Parameters:
    ///   - insists: not before all is known that the store says of it.
    ///   - isStored: the change is to reach the store by itself; else it stays in memory and goes along with the next content.
    /// - Returns: whether somebody is writing the file, and the generation that the change has made; nil when the store has to be
    ///   asked for the metadata first.
    func change(
        _ inode: InodeID, insists: Bool, isStored: Bool, _ body: (inout NodeChange) throws(VFSError) -> Void
    ) throws(VFSError) -> (isWritten: Bool, generation: UInt64)? {
        let time = context.clock.now()
        return try withNames { names throws(VFSError) in
            let node = try names.node(inode)
            guard !node.lacksDetails, !insists || node.isDescribedInFull else { return nil }
            var change = NodeChange(node, time)
            try body(&change)
            change.apply(to: node)
            names.weights.add(node)
            if isStored || node.isHeld { names.soil(node) } else { node.keepsAttributes = true }
            return (node.writers > 0, node.generation)
        }
    }

    /// Puts back what a node was, if nobody has changed it since `generation`.
    /// - Returns: false when somebody has.
    func takeBack(_ inode: InodeID, to before: NodeChange, from generation: UInt64) -> Bool {
        withNames { names in
            guard let node = names[inode], node.generation == generation, node.writers == 0 else { return false }
            let size = node.size
            before.apply(to: node)
            names.clean(node, at: node.generation)
            // The answer may have been lost, and the store have another version.
            if node.size != size { node.validUntil = 0 }
            dropIdleContent(node, &names)
            return true
        }
    }

    /// - Returns: the marker of a directory, where `Node.hasUselessMarker`.
    func uselessMarker(_ inode: InodeID) -> ObjectInfo? {
        withNames { names in
            names[inode].flatMap { $0.hasUselessMarker(names.rules) ? $0.directory?.markerObject : nil }
        }
    }

    func noteLink(_ inode: InodeID, _ target: String) {
        withNames { names in
            guard let node = names[inode] else { return }
            node.details?.symlinkTarget = target
            names.weights.add(node)
        }
    }

    func forget(_ inode: InodeID, count: UInt64) { withNames { $0.forget(inode, count: count) } }

    /// No operation is under way that changes names, also for a caller who does not wait for it any more.
    var isQuiet: Bool { withNames { $0.gate.isQuiet } }

    /// - Parameter count: lookups that the kernel does not know of.
    func untold(_ inode: InodeID, count: UInt64 = 1) {
        withNames { names in
            if count > 0 { names.forget(inode, count: count) }
            if let node = names[inode], node.lookups > 0 { node.kernelIsBehind = true }
        }
    }

    // MARK: Counts

    /// - Returns: a generation that the store has not; nil when it has all, or the file has no name any more.
    func dirtyGeneration(_ inode: InodeID) -> UInt64? {
        withNames { names in names[inode].flatMap { $0.isDirty && !$0.isOrphan ? $0.generation : nil } }
    }

    func isStored(_ inode: InodeID, at generation: UInt64) -> Bool {
        withNames { names in
            guard let node = names[inode], !node.isOrphan else { return true }
            return !node.isDirty || node.storedGeneration >= generation
        }
    }

    func count(into statistics: inout MountStatistics) {
        let counted = withNames { names in
            (names.count, names.hidden.count, names.hidden.examples, names.countStale(), names.openFiles.count)
        }
        statistics.metadataBytes = NodeWeight.sum(in: self)
        statistics.keptBytes = context.keptBytes
        (statistics.inodes, statistics.hiddenKeys, statistics.hiddenKeyExamples) = (counted.0, counted.1, counted.2)
        (statistics.staleNodes, statistics.openFiles) = (counted.3, counted.4)
    }
}
