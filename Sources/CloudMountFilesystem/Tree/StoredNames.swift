import CloudMountCache
import CloudMountCommit
import CloudMountVFS

/// What commits, removals and renames ask and tell of names.
struct StoredNames: Sendable {
    let tree: Tree

    private var context: MountContext { tree.context }
    private func now() -> UInt64 { tree.now() }
    private func withNames<Value: Sendable, Failure: Error>(
        _ body: (inout Namespace) throws(Failure) -> Value
    ) throws(Failure) -> Value { try tree.withNames(body) }

    // MARK: Commits

    /// A node as it is when its commit begins.
    struct Seal: Sendable {
        var key: ObjectKey
        /// What the store has under the key as far as this mount knows; nil: nothing.
        var version: ETag?
        var attributes: StoredAttributes
        var hasExplicitTime: Bool
        var generation: UInt64
        /// Of the version's metadata: what it holds for others would be lost.
        var unseen: Unseen?
    }

    /// Nil for a file that has no name any more.
    func seal(_ inode: InodeID) -> Seal? {
        withNames { names in
            guard let node = names[inode], !node.isOrphan, let key = names.key(of: node) else { return nil }
            return Seal(
                key: key, version: node.version, attributes: node.storedAttributes,
                hasExplicitTime: node.hasExplicitTime, generation: node.generation,
                unseen: node.unseen)
        }
    }

    /// The store has what was sealed.
    /// - Parameter modified: the time that the object has by itself, where it could not be given one.
    /// - Returns: the directory whose marker is of no more use.
    func stored(
        _ inode: InodeID, _ seal: Seal, _ info: ObjectInfo, nonce: String, isUnchanged: Bool, modified: Timestamp?
    ) -> InodeID? {
        let now = now()
        return withNames { names in
            guard let node = names[inode] else { return nil }
            node.keepsAttributes = false
            node.isToReplace = false
            node.isPlaceholder = false
            node.noteStorage(info)
            node.version = info.etag
            node.nonce = nonce
            node.stored = info.stored
            node.touched = now
            // One that was stored before anybody could ask has more than is known here.
            if seal.unseen != .all { node.isKnown = true }
            node.validUntil = names.rules.expiry(now)
            // Bytes that have been published since are counted in a moment.
            names.clean(node, at: seal.generation)
            if isUnchanged, let modified {
                node.modified = modified
                node.changed = max(node.changed, modified)
            }
            guard let parent = names[node.parent] else { return nil }
            names.isSeen(node)
            return parent.hasUselessMarker(names.rules) ? parent.id : nil
        }
    }

    /// The object that holds the name of a new file is all of it: closed or synced as it was made, it is a file like any other.
    func keep(_ inode: InodeID) {
        withNames { names in
            if let node = names[inode], node.isPlaceholder, !node.isDirty { node.isPlaceholder = false }
        }
    }

    enum Late: Sendable {
        /// It is the file's version from now on, or was replaced since.
        case done
        /// The name is changing: to be asked again afterwards.
        case later
        /// The file has not that name any more.
        case gone
    }

    /// A call that was given up has stored `info` in the place of `replaced`.
    /// - Parameter isHeld: the caller is who changes the name.
    func noteLate(
        _ inode: InodeID, _ info: ObjectInfo, over replaced: ETag?, nonce: String?, isHeld: Bool = false
    ) -> Late {
        withNames { names in
            guard let node = names[inode], !node.isOrphan, names.key(of: node) == info.key else { return .gone }
            let isDoomed = names.gate.isDoomed(inode)
            if !isHeld, !isDoomed, !names.isFree([inode]) { return .later }
            guard node.version == replaced else { return .done }
            node.noteStorage(info)
            node.version = info.etag
            node.nonce = nonce
            node.stored = info.stored
            node.touched = now()
            return .done
        }
    }

    func isDoomed(_ inode: InodeID) -> Bool { withNames { $0.gate.isDoomed(inode) } }

    /// The node goes on under the name of a version that lost a conflict.
    /// - Returns: the place where somebody else's version is.
    func keptBeside(_ inode: InodeID, as name: FileName) -> Place? {
        withNames { names in
            guard let node = names[inode], !node.isOrphan, let parent = names[node.parent],
                let directory = parent.directory
            else { return nil }
            let place = Place(parent: parent.id, name: node.name)
            directory.take(node)
            // What somebody else has made of the old name has not been seen here.
            directory.setAbsent(node.name, nil)
            directory.distrust()
            node.name = name
            node.version = nil
            names.attach(node, to: parent)
            return place
        }
    }

    /// The file has lost its name: what is under it is somebody else's.
    /// - Returns: the place that it had.
    func strand(_ inode: InodeID, unlessHeld: Bool = false) -> Place? {
        withNames { names in
            guard let node = names[inode], !node.isOrphan, !unlessHeld || !node.isHeld else { return nil }
            let place = Place(parent: node.parent, name: node.name)
            names.orphan(node)
            names.distrust(place)
            return place
        }
    }

    /// What holds what the store has not.
    struct Dirty: Sendable {
        let inode: InodeID
        let path: String
        let content: FileContent?
        let isDirectory: Bool
    }

    func dirtyFiles() -> [Dirty] {
        withNames { names in
            names.dirty.compactMap { id in
                names[id].map {
                    Dirty(
                        inode: id, path: names.key(of: $0)?.string ?? $0.name.string, content: $0.content,
                        isDirectory: $0.directory != nil)
                }
            }
        }
    }

    // MARK: Markers

    struct MarkerSeal: Sendable {
        var key: ObjectKey
        var attributes: StoredAttributes
        /// The object that keeps the directory; nil when there is none, or it is not known.
        var object: ObjectInfo?
        var isPresent: Bool
        var generation: UInt64
        /// When a name in it last changed.
        var modified: Timestamp
    }

    func sealMarker(_ inode: InodeID) -> MarkerSeal? {
        withNames { names in
            guard let node = names[inode], let directory = node.directory, inode != Namespace.root,
                let key = names.key(of: node)
            else { return nil }
            return MarkerSeal(
                key: key, attributes: node.storedAttributes, object: directory.markerObject,
                isPresent: directory.marker == .present, generation: node.generation, modified: node.modified)
        }
    }

    /// - Parameter info: nil: the store takes no folder objects.
    func storedMarker(_ inode: InodeID, _ info: ObjectInfo?, _ seal: MarkerSeal) {
        let now = now()
        withNames { names in
            guard let node = names[inode], let directory = node.directory else { return }
            directory.marker = info == nil ? .absent : .present
            directory.markerObject = info
            if let info {
                directory.isOnlyHere = false
                node.stored = info.stored
            } else {
                names.foldersHere.keep(node)
            }
            node.isKnown = true
            // What was asked before has an older answer.
            node.touched = now
            names.isSeen(node)
            names.clean(node, at: seal.generation)
            // Names that have changed since are told by the next.
            guard node.modified == seal.modified else { return }
            directory.hasUnstoredTime = false
            names.unstoredTimes.remove(inode)
        }
    }

    /// The store was asked for a directory's marker.
    /// - Parameter asked: when; what has been stored here since is newer.
    func sawMarker(_ inode: InodeID, _ info: ObjectInfo, asked: UInt64) {
        withNames { names in
            if let node = names[inode], node.touched < asked { names.describeMarker(node, info) }
        }
    }

    /// The directory's marker has gone, and what is in it keeps it.
    func markerIsGone(_ inode: InodeID) {
        withNames { names in
            guard let directory = names[inode]?.directory else { return }
            directory.marker = .absent
            directory.markerObject = nil
            directory.hasUnstoredTime = false
        }
    }

    /// The marker could not be stored: the directory is shown all the same while the mount lives.
    func keepHere(_ inode: InodeID) {
        withNames { names in
            if let node = names[inode] { names.foldersHere.keep(node) }
        }
    }

    /// Before a directory is made of which the store will keep nothing.
    /// - Throws: `noSpace` when there are too many.
    func requireRoomHere() throws(VFSError) {
        let now = now()
        try withNames { names throws(VFSError) in
            try names.foldersHere.requireRoom(most: context.mostFoldersHere, in: names.all, now)
        }
    }

    /// A directory that was emptied here and has no marker.
    /// - Returns: its key, and whether it is certain that nothing is in it.
    func emptied(_ inode: InodeID) -> (key: ObjectKey, isCertain: Bool)? {
        guard inode != Namespace.root else { return nil }
        let now = now()
        return withNames { names in
            guard let node = names[inode], let directory = node.directory, directory.marker != .present,
                !directory.isOnlyHere, directory.children.isEmpty, let key = names.key(of: node)
            else { return nil }
            return (key, directory.completeUntil > now)
        }
    }

    func takeUnstoredTimes() -> [InodeID] {
        withNames { names in
            defer { names.unstoredTimes = [] }
            return names.unstoredTimes.filter { names[$0]?.directory?.hasUnstoredTime ?? false }
        }
    }

    func hasUnstoredTimes() -> Bool { withNames { !$0.unstoredTimes.isEmpty } }

    // MARK: Removal and renaming

    /// What a name stands for, before it goes.
    struct Target: Sendable {
        let inode: InodeID
        let kind: FileKind
        let key: ObjectKey
        /// The object; nil when no commit has reached it.
        var object: ObjectInfo?
        /// `object` is another file's, which had the name before and is there until the commit.
        let isToReplace: Bool
        /// `object` only holds the name for the bytes that are to come.
        let isPlaceholder: Bool
        let isOpen: Bool
    }

    func target(_ inode: InodeID) throws(VFSError) -> Target {
        let (target, content) = try withNames { names throws(VFSError) -> (Target, FileContent?) in
            let node = try names.node(inode)
            guard let key = names.key(of: node) else { throw VFSError(.notFound, "the file is gone") }
            let object = node.directory == nil ? node.info(key, size: node.size) : node.directory?.markerObject
            let target = Target(
                inode: inode, kind: node.kind, key: key, object: object, isToReplace: node.isToReplace,
                isPlaceholder: node.isPlaceholder && (node.isDirty || node.writers > 0),
                isOpen: node.openCount > 0)
            return (target, node.content)
        }
        guard let content, target.kind != .directory else { return target }
        // The store has not seen what is staged.
        var sized = target
        sized.object?.size = content.storedSize()
        return sized
    }

    /// - Throws: `notDirectory`; `notEmpty` when something in it holds what the store has not.
    func requireNothingHeld(in inode: InodeID) throws(VFSError) {
        try withNames { names throws(VFSError) in
            let node = try names.directory(inode)
            if let children = node.directory?.children, children.contains(where: { $0.holdsAnything }) {
                throw VFSError(.notEmpty, "the directory is not empty")
            }
        }
    }

    /// Whether a file that was just made is nobody's: not open, and nothing was stored in it.
    func isUnwanted(_ inode: InodeID) -> Bool {
        withNames { names in
            guard let node = names[inode], !node.isOrphan else { return false }
            return node.openCount == 0 && node.size == 0 && (node.isPlaceholder || node.version == nil)
        }
    }

    /// There is something in a directory that seems to be empty.
    func noteUnseen(in inode: InodeID) {
        withNames { names in
            if let directory = names[inode]?.directory, directory.children.isEmpty { directory.distrust() }
        }
    }

    /// A file that nobody has open any more is given up.
    func abandonIfClosed(_ inode: InodeID) -> (content: FileContent?, path: String, place: Place)? {
        withNames { names in
            guard let node = names[inode], node.openCount == 0, node.isDirty, !node.isOrphan else { return nil }
            let place = Place(parent: node.parent, name: node.name)
            let (content, path) = (node.content, names.key(of: node)?.string ?? node.name.string)
            names.orphan(node)
            names.distrust(place)
            return (content, path, place)
        }
    }

    /// Whether the version is another by now, and one that was written here.
    func hasLanded(_ inode: InodeID, since version: ETag?) -> Bool {
        withNames { names in names[inode].map { $0.version != version && $0.nonce != nil } ?? false }
    }

    /// Of its version, where it is known.
    func nonce(_ inode: InodeID) -> String? { withNames { names in names[inode]?.nonce } }

    /// How long somebody who was refused because the file was replaced under him may take to come back.
    static let comeBack = Duration.seconds(1)

    /// Whether the file has a name, and the store all that it is.
    func isWhole(_ inode: InodeID) -> Bool {
        withNames { names in names[inode].map { !$0.isOrphan && !$0.isDirty } ?? false }
    }

    func isExpected(_ place: Place) -> Bool {
        let now = now()
        return withNames { names in names.isExpected(place, now) }
    }

    func isHidden(_ key: ObjectKey) -> Bool { withNames { names in names.hidden.contains(key) } }

    func isHiddenLink(_ inode: InodeID) -> Bool {
        withNames { names in names[inode].map { names.isHiddenLink($0) } ?? false }
    }

    /// All nodes of the mount.
    var nodeCount: Int { withNames { $0.count } }

    func kind(_ inode: InodeID) -> FileKind? { withNames { names in names[inode]?.kind } }

    func key(of name: FileName, in parent: InodeID) throws(VFSError) -> ObjectKey {
        try withNames { names throws(VFSError) in
            let directory = try names.directory(parent)
            try names.checkKey(name, in: directory)
            guard let key = names.key(of: name, in: directory) else {
                throw VFSError(.notFound, "the directory is gone")
            }
            return key
        }
    }

    func isAtOrBelow(_ inode: InodeID, _ other: InodeID) -> Bool {
        withNames { names in names.isAtOrBelow(inode) { $0 == other } }
    }

    /// A file or an empty directory has been removed from the store.
    func removed(_ target: Target) {
        let now = now()
        let time = context.clock.now()
        let content: FileContent? = withNames { names in
            guard let node = names[target.inode] else { return nil }
            node.changed = time
            let (parent, content, name) = (names[node.parent], node.content, node.name)
            node.isUnlinked = true
            names.orphan(node)
            if target.kind == .directory {
                names.noteDirectoryGone(target.key, name, in: parent?.directory, now)
            } else {
                parent?.directory?.setAbsent(name, names.rules.absence(now))
            }
            if let parent { names.noteChange(in: parent, time) }
            return content
        }
        content?.detach()
        // Who has it open may read on.
        if content == nil, let object = target.object { context.kept?.discard(object) }
    }

    /// What a node is under its new name.
    enum Arrival: Sendable {
        /// Not in the store; with the version that it is going to replace there.
        case unstored(replacing: ETag?)
        case stored(old: ObjectInfo, new: ObjectInfo)
        /// By the part of the old key below the directory.
        case directory(marker: ObjectInfo?, [ObjectKey: DirectoryMove.Moved])
        /// A directory with all that is in it, which is as it was, or, where that is not sure, is looked at again.
        case whole(marker: ObjectInfo?, from: ObjectKey, to: ObjectKey, isSure: Bool)
    }

    /// Hangs a node into another place of the tree, in one step: nobody sees a new path with an old version.
    func move(_ inode: InodeID, to place: Place, _ arrival: Arrival) {
        let now = now()
        let time = context.clock.now()
        var relocations: [(FileContent, DirectoryMove.Moved)] = []
        let replaced: FileContent? = withNames { names in
            guard let node = names[inode], let target = names[place.parent] else { return nil }
            let old = names[node.parent]
            let oldName = node.name
            let there = target.directory?.children[place.name].flatMap { $0 === node ? nil : $0 }
            there?.isUnlinked = true
            there?.formerParent = place.parent
            let replaced = there?.content
            let key = names.key(of: node)
            names.detach(node)
            if node.kind == .directory, let old, let key {
                names.noteDirectoryGone(key, oldName, in: old.directory, now)
            } else {
                old?.directory?.setAbsent(oldName, names.rules.absence(now))
            }
            node.name = place.name
            node.touched = now
            // Under other keys there may be other versions.
            for one in node.withAllBelow { one.directory?.saved = nil }
            switch arrival {
            case .unstored(let version):
                node.version = version
                node.isToReplace = version != nil
                node.isPlaceholder = false
                if !node.isDirty { names.soil(node) }
            case .stored(let old, let new): arrive(node, old, new, names)
            case .directory(let marker, let moved):
                node.directory?.markerObject = marker
                node.directory?.marker = marker == nil ? .absent : .present
                arrive(below: node, moved, &names, &relocations)
            case .whole(let marker, let from, let to, let isSure):
                node.directory?.markerObject = marker
                node.directory?.marker = marker == nil ? .absent : .present
                arrive(below: node, from, to, isSure: isSure, &relocations)
            }
            node.relocated = nil
            node.changed = time
            names.attach(node, to: target)
            for directory in [old, target] {
                if let directory { names.noteChange(in: directory, time) }
            }
            return replaced
        }
        replaced?.detach()
        for (content, moved) in relocations { content.relocate(from: moved.old, to: moved.new) }
        if case .directory(_, let moved) = arrival { context.kept?.relocate(moved.values.map { ($0.old, $0.new) }) }
    }

    /// The node, which was the object `old`, is the object `new` from now on: the same bytes under another key.
    private func arrive(_ node: Node, _ old: ObjectInfo, _ new: ObjectInfo, _ names: Namespace) {
        // One that the store names anew is to be looked at again.
        node.validUntil = node.version == new.etag ? names.rules.expiry(now()) : 0
        if node.version == old.etag { node.version = new.etag }
    }

    private func arrive(
        below node: Node, _ moved: [ObjectKey: DirectoryMove.Moved], _ names: inout Namespace,
        _ relocations: inout [(FileContent, DirectoryMove.Moved)]
    ) {
        var open = [(node: node, path: "")]
        while let (node, path) = open.popLast() {
            for child in node.directory?.children ?? NodeTable() {
                let key = path + child.name.string
                if let directory = child.directory {
                    if let marker = moved[ObjectKey(key + "/")]?.new { directory.markerObject = marker }
                    open.append((child, key + "/"))
                } else if let one = moved[ObjectKey(key)] {
                    // One that somebody else has replaced stays what it is for who has it open.
                    guard child.version == one.old.etag else {
                        // Nor has anybody here seen what was moved for who has not: it is looked at again.
                        if child.openCount == 0, child.borrows == 0, !child.isDirty {
                            names.become(one.new, child, now())
                            child.validUntil = 0
                        }
                        continue
                    }
                    arrive(child, one.old, one.new, names)
                    if let content = child.content { relocations.append((content, one)) }
                }
            }
        }
    }

    /// What is below the node has the same versions under other keys.
    private func arrive(
        below node: Node, _ from: ObjectKey, _ to: ObjectKey, isSure: Bool,
        _ relocations: inout [(FileContent, DirectoryMove.Moved)]
    ) {
        func moved(_ old: ObjectInfo?) -> DirectoryMove.Moved? {
            guard let old, old.key.hasPrefix(from) else { return nil }
            var new = old
            new.key = ObjectKey(to.string + old.key.dropping(from.byteCount).string)
            return DirectoryMove.Moved(old: old, new: new)
        }
        for one in node.withAllBelow {
            if let directory = one.directory {
                if one !== node, let marker = moved(directory.markerObject) { directory.markerObject = marker.new }
                if !isSure { directory.distrust() }
            } else if !isSure {
                one.validUntil = 0
            }
            guard let content = one.content else { continue }
            for base in [content.base(), content.origin()] {
                if let moved = moved(base) { relocations.append((content, moved)) }
            }
        }
    }

    /// Bytes of the longest path below the directory, of all that is known or of what the store has nothing of yet; a subdirectory's with its
    /// slash.
    func longest(below inode: InodeID, onlyHeld: Bool) -> Int {
        withNames { names in
            guard let node = names[inode] else { return 0 }
            var longest = 0
            var open = [(node: node, length: 0)]
            while let (node, length) = open.popLast() {
                for child in node.directory?.children ?? NodeTable() {
                    let end = length + child.name.string.utf8.count + (child.directory == nil ? 0 : 1)
                    if child.isHeld || !onlyHeld { longest = max(longest, end) }
                    if child.directory != nil { open.append((child, end)) }
                }
            }
            return longest
        }
    }

    /// Who opens the file while its rename is under way reads the copy.
    func relocate(_ inode: InodeID, from old: ObjectInfo, to new: ObjectInfo) {
        let content: FileContent? = withNames { names in
            names[inode]?.relocated = new
            return names[inode]?.content
        }
        context.relocate(from: old, to: new)
        content?.relocate(from: old, to: new)
    }

    /// What is under these names now, only the store knows.
    func distrust(_ places: [Place]) {
        withNames { names in for place in places { names.distrust(place) } }
        context.invalidate(places)
    }

    /// The rename has failed: the file is what it was.
    func stay(_ inode: InodeID, from copied: ObjectInfo, to old: ObjectInfo) {
        let content: FileContent? = withNames { names in
            names[inode]?.relocated = nil
            return names[inode]?.content
        }
        context.relocate(from: copied, to: old)
        content?.relocate(from: copied, to: old)
    }

    func place(of inode: InodeID) -> Place? {
        withNames { names in names[inode].flatMap { $0.isOrphan ? nil : Place(parent: $0.parent, name: $0.name) } }
    }

    /// Where the name of an object's key is, as far as memory has its folders.
    func place(of key: ObjectKey) -> Place? {
        var names = key.names[...]
        guard let last = names.popLast() else { return nil }
        return withNames { all in
            var parent = all[Namespace.root]
            while let name = names.popFirst() {
                parent = parent?.directory?.children[FileName(unchecked: name)]
            }
            return parent.flatMap {
                $0.directory == nil ? nil : Place(parent: $0.id, name: FileName(unchecked: last))
            }
        }
    }

    func isNamed(_ place: Place, _ inode: InodeID?, _ names: borrowing Namespace) -> Bool {
        guard let directory = names[place.parent]?.directory else { return false }
        return directory.children[place.name]?.id == inode
    }
}
