import CloudMountVFS

/// The inodes of one mount and the tree they form. Lives inside the tree's lock.
struct Namespace {
    static let root: InodeID = 1

    private(set) var nodes = NodeTable<InodeID>()
    /// Ids are derived from where a node was found, so that one that was dropped from memory comes back with the same.
    private let seed = UInt64.random(in: 1...UInt64.max)
    /// Counts what was made here: it never has the id of what had the name before, of which a late answer may still come.
    private var made: UInt64 = 0
    var gate = NameGate()
    var hidden = HiddenKeys()
    var foldersHere = FoldersHere()
    var isSweeping = false
    var rules: TreeRules
    var weights = WeightCount()
    /// Nodes that hold what the store has not.
    private(set) var dirty: Set<InodeID> = []
    /// Files that are open.
    private(set) var openFiles: Set<InodeID> = []
    /// Directories in which somebody has looked of late, where the mount polls.
    var used: Set<InodeID> = []
    /// Nodes that were shown past their time; some may have been confirmed since.
    private(set) var shownStale: Set<InodeID> = []
    /// Names whose file was replaced while somebody was about to open it, and until when he is expected again.
    private var expected: [Place: UInt64] = [:]
    private static let mostExpected = 1024
    /// Directories whose own time is not in the store.
    var unstoredTimes: Set<InodeID> = []
    /// What the first listings without markers have shown; spares later ones the wait for a sample.
    var sampledDirectories = 0
    var evidenceSeen = false

    init(root node: Node, rules: TreeRules) {
        self.rules = rules
        nodes[Self.root] = node
    }

    subscript(id: InodeID) -> Node? { nodes[id] }

    func directory(_ id: InodeID) throws(VFSError) -> Node {
        guard let node = nodes[id] else { throw VFSError(.stale, "the directory is gone") }
        guard node.directory != nil else { throw VFSError(.notDirectory, "not a directory") }
        return node
    }

    func node(_ id: InodeID) throws(VFSError) -> Node {
        guard let node = nodes[id] else { throw VFSError(.stale, "the file is gone") }
        return node
    }

    /// The key of a node, a directory's with its trailing slash; the root's is empty. Nil for an orphan.
    func key(of node: Node) -> ObjectKey? {
        if node.id == Self.root { return ObjectKey("") }
        guard let prefix = directoryPath(node.parent) else { return nil }
        return ObjectKey(prefix + node.name.string + (node.kind == .directory ? "/" : ""))
    }

    /// The key that a name in a directory has or would have, without a trailing slash.
    func key(of name: FileName, in parent: Node) -> ObjectKey? {
        directoryPath(parent.id).map { ObjectKey($0 + name.string) }
    }

    private func directoryPath(_ id: InodeID) -> String? {
        if id == Self.root { return "" }
        var names: [String] = []
        var next = id
        while next != Self.root {
            guard let node = nodes[next], node.parent != 0 else { return nil }
            names.append(node.name.string)
            next = node.parent
        }
        var path = ""
        for name in names.reversed() {
            path += name
            path += "/"
        }
        return path
    }

    /// Makes an inode and hangs it into its parent, in the place of any other of that name.
    /// - Parameter isNew: it is made here, not found in the store.
    mutating func insert(
        name: FileName, in parent: Node, kind: FileKind, permissions: UInt32, uid: UInt32, gid: UInt32, time: Timestamp,
        isNew: Bool = false
    ) -> Node {
        if isNew { made += 1 }
        var hasher = Hasher()
        hasher.combine(seed)
        hasher.combine(isNew ? made : 0)
        hasher.combine(parent.id)
        hasher.combine(name)
        var id = UInt64(bitPattern: Int64(hasher.finalize())) & 0x7fff_ffff_ffff_ffff
        while id <= Self.root || nodes[id] != nil { id += 1 }
        let node = Node(
            id: id, parent: parent.id, name: name, kind: kind, permissions: permissions, uid: uid, gid: gid, time: time)
        nodes[id] = node
        attach(node, to: parent)
        weights.add(node)
        return node
    }

    mutating func attach(_ node: Node, to parent: Node) {
        guard let directory = parent.directory else { return }
        if let old = directory.children[node.name], old !== node { orphan(old) }
        node.parent = parent.id
        node.seenIn = directory.generation
        node.listedIn = 0
        directory.put(node)
        directory.setAbsent(node.name, nil)
        directory.removed.remove(node.name)
    }

    /// What the store has just taken of a node is newer than a listing that is under way.
    func isSeen(_ node: Node) {
        if let directory = nodes[node.parent]?.directory { node.seenIn = directory.generation }
    }

    /// Takes a node out of its directory. It stays in memory while the kernel or an open file knows it.
    mutating func orphan(_ node: Node) {
        for one in node.withAllBelow.reversed() {
            detach(one)
            one.parent = 0
            one.directory?.saved = nil
            if one.openCount == 0, one.borrows == 0 { one.content = nil }
            // Nothing of it is stored any more.
            clean(one, at: one.generation)
            foldersHere.remove(one.id)
            dropIfUnused(one)
        }
    }

    /// Takes a node out of its directory, to be hung up elsewhere.
    func detach(_ node: Node) {
        guard let directory = nodes[node.parent]?.directory, directory.children[node.name] === node else { return }
        directory.take(node)
        if directory.listing != nil { directory.removed.insert(node.name) }
    }

    /// What the store will not take is refused before anything is written.
    func checkKey(_ name: FileName, in directory: Node) throws(VFSError) {
        let capabilities = rules.capabilities
        guard !directory.isOrphan, let key = key(of: name, in: directory) else {
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

    // MARK: Who comes back

    /// Somebody who was about to open a file that has just been replaced is refused. The kernel looks its name up again by itself, once:
    /// what it finds then can be opened, also when that has been replaced in its turn.
    mutating func expect(_ orphan: Node, _ now: UInt64) {
        guard orphan.formerParent != 0 else { return }
        if expected.count >= Self.mostExpected { expected = expected.filter { $0.value > now } }
        guard expected.count < Self.mostExpected else { return }
        expected[Place(parent: orphan.formerParent, name: orphan.name)] = now + StoredNames.comeBack.nanoseconds
    }

    mutating func isExpected(_ place: Place, _ now: UInt64) -> Bool {
        guard let until = expected[place] else { return false }
        if until <= now { expected[place] = nil }
        return until > now
    }

    // MARK: Counts

    /// A name in the directory has come, gone or changed.
    mutating func noteChange(in node: Node, _ time: Timestamp) {
        node.modified = time
        node.changed = time
        // What a marker that has not been seen says would be lost.
        guard node.id != Self.root, let directory = node.directory, directory.marker == .present, node.isKnown,
            rules.capabilities.folderObjects, !rules.capabilities.visibleFolders
        else { return }
        directory.hasUnstoredTime = true
        unstoredTimes.insert(node.id)
    }

    /// The node has changed in a way that the store has to learn.
    mutating func soil(_ node: Node) {
        if node.isOrphan { return }
        node.generation += 1
        dirty.insert(node.id)
    }

    /// The store has what the node was at `generation`.
    mutating func clean(_ node: Node, at generation: UInt64) {
        node.storedGeneration = max(node.storedGeneration, generation)
        if !node.isDirty { dirty.remove(node.id) }
    }

    mutating func open(_ node: Node, canWrite: Bool) {
        node.openCount += 1
        if node.openCount == 1 { openFiles.insert(node.id) }
        if canWrite { node.writers += 1 }
    }

    mutating func close(_ node: Node, canWrite: Bool) {
        node.openCount -= 1
        if node.openCount == 0 { openFiles.remove(node.id) }
        if canWrite { node.writers -= 1 }
    }

    mutating func markStale(_ node: Node, _ now: UInt64) {
        guard node.validUntil <= now, !node.isHeld else { return }
        node.staleSince = now
        shownStale.insert(node.id)
    }

    mutating func countStale() -> Int {
        shownStale = shownStale.filter { nodes[$0]?.isStale ?? false }
        return shownStale.count
    }

    mutating func forget(_ id: InodeID, count: UInt64) {
        guard let node = nodes[id] else { return }
        node.lookups = node.lookups > count ? node.lookups - count : 0
        dropIfUnused(node)
        if node.lookups == 0, let parent = nodes[node.parent], parent.directory?.isFading ?? false, node.isIdle {
            drop(node, from: parent)
        }
    }

    mutating func dropIfUnused(_ node: Node) {
        if node.isOrphan, node.lookups == 0, node.openCount == 0, node.borrows == 0 { nodes[node.id] = nil }
    }

    /// Forgets a node that nobody refers to; it comes back, with the same id, when it is asked for.
    mutating func drop(_ node: Node, from parent: Node) {
        guard let directory = parent.directory, directory.children[node.name] === node else { return }
        directory.take(node)
        directory.distrust()
        directory.isWhole = false
        nodes[node.id] = nil
    }

    var count: Int { nodes.count }
    /// As many as are kept without being used.
    var mostNodes: Int { min(rules.mostNodes, weights.mostNodes) }
    var all: NodeTable<InodeID> { nodes }
}
