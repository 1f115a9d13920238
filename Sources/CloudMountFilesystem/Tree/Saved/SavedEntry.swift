import CloudMountCache
import CloudMountCommit
import CloudMountVFS

/// One name of a directory, with all that a `Node` knows of it, as it lies on the disk.
struct SavedEntry: Sendable {
    var name: FileName
    var kind: FileKind
    var permissions: UInt32
    var uid: UInt32
    var gid: UInt32
    var defaulted: Node.Defaulted
    var isKnown: Bool
    var lacksDetails: Bool
    var size: Int
    /// Milliseconds that it was still believed for when it was saved.
    var remaining: Int
    var stored: Timestamp
    var modified: Timestamp
    var changed: Timestamp
    /// A file's version; a directory's marker. Its key is empty.
    var object: ObjectInfo?
    /// The marker's key ends with a slash.
    var hasSlash = true
    var marker = Directory.Marker.unknown
    /// What is not in the fields above.
    var details: StoredAttributes?
    /// Where what is known of the directory's own names lies.
    var below: NamesFile.Place?

    /// Bytes of an entry at least.
    static let least = 8

    private struct Flags: OptionSet {
        let rawValue: UInt64
        static let isKnown = Flags(rawValue: 1)
        static let lacksDetails = Flags(rawValue: 2)
        static let hasObject = Flags(rawValue: 4)
        /// The tag is 32 hexadecimal digits.
        static let hasDigest = Flags(rawValue: 8)
        static let isStandard = Flags(rawValue: 16)
        static let hasStorage = Flags(rawValue: 32)
        static let hasTimes = Flags(rawValue: 64)
        static let hasDetails = Flags(rawValue: 128)
        static let hasBelow = Flags(rawValue: 256)
        static let isMarked = Flags(rawValue: 512)
        static let isUnmarked = Flags(rawValue: 1024)
        static let hasSlash = Flags(rawValue: 2048)
        /// Three bits of `defaulted`, then three of the kind.
        static let rest: UInt64 = 12
    }

    private static let kinds: [FileKind] = [
        .regular, .directory, .symbolicLink, .fifo, .socket, .characterDevice, .blockDevice,
    ]
    private static let standard = "STANDARD"
}

// MARK: On the disk

extension SavedEntry {
    /// - Parameter origin: where the block that it is in will lie.
    func encode(_ to: inout PackedWriter, origin: Int) {
        var flags: Flags = []
        if isKnown { flags.insert(.isKnown) }
        if lacksDetails { flags.insert(.lacksDetails) }
        let digest = object.flatMap { CompactTag($0.etag) }
        if let object {
            flags.insert(.hasObject)
            if digest != nil { flags.insert(.hasDigest) }
            let isStandard = object.storageClass == Self.standard
            if isStandard { flags.insert(.isStandard) }
            if object.storageClass != nil && !isStandard || object.encryption != nil { flags.insert(.hasStorage) }
        }
        if modified != stored || changed != stored { flags.insert(.hasTimes) }
        if details != nil { flags.insert(.hasDetails) }
        if below != nil { flags.insert(.hasBelow) }
        if marker == .present { flags.insert(.isMarked) }
        if marker == .absent { flags.insert(.isUnmarked) }
        if hasSlash { flags.insert(.hasSlash) }
        let kind = UInt64(Self.kinds.firstIndex(of: kind) ?? 0)
        to.text(name.string)
        let defaults = UInt64(defaulted.intersection(.all).rawValue)
        to.number(flags.rawValue | defaults << Flags.rest | kind << (Flags.rest + 3))
        if !defaulted.contains(.permissions) { to.number(UInt64(permissions)) }
        if !defaulted.contains(.uid) { to.number(UInt64(uid)) }
        if !defaulted.contains(.gid) { to.number(UInt64(gid)) }
        to.count(size)
        to.count(remaining)
        to.time(stored)
        if flags.contains(.hasTimes) {
            to.time(modified)
            to.time(changed)
        }
        if let object {
            if let digest {
                for half in [digest.high, digest.low] {
                    to.raw((0..<8).map { UInt8(truncatingIfNeeded: half >> ($0 * 8)) })
                }
            } else {
                to.text(object.etag.value)
            }
            if flags.contains(.hasStorage) {
                to.text(object.storageClass ?? "")
                to.text(object.encryption ?? "")
            }
            if self.kind == .directory {
                to.count(object.size)
                to.time(object.stored)
            }
        }
        if let below {
            to.count(origin - below.offset)
            to.count(below.count)
        }
        if let details { Self.encode(details, &to) }
    }

    /// - Parameters:
    ///   - origin: where the block that it is in lies.
    ///   - rules: whose defaults stand for what is not said.
    init(_ from: inout PackedReader, origin: Int, rules: TreeRules) throws(VFSError) {
        name = try FileName(validating: try from.slice(try from.count(most: 255)))
        let word = try from.number()
        let flags = Flags(rawValue: word & (1 << Flags.rest - 1))
        let index = Int(truncatingIfNeeded: word >> (Flags.rest + 3))
        guard Self.kinds.indices.contains(index) else { throw PackedReader.damage }
        kind = Self.kinds[index]
        let isFolder = kind == .directory
        defaulted = Node.Defaulted(rawValue: UInt8(truncatingIfNeeded: word >> Flags.rest & 7))
        permissions = isFolder ? rules.directoryPermissions : rules.filePermissions
        (uid, gid) = (rules.uid, rules.gid)
        if !defaulted.contains(.permissions) { permissions = try from.small() }
        if !defaulted.contains(.uid) { uid = try from.small() }
        if !defaulted.contains(.gid) { gid = try from.small() }
        isKnown = flags.contains(.isKnown)
        lacksDetails = flags.contains(.lacksDetails)
        size = ObjectInfo.possible(try from.count(most: ObjectInfo.sizeLimit))
        remaining = try from.count()
        stored = try from.time()
        (modified, changed) = (stored, stored)
        if flags.contains(.hasTimes) {
            modified = try from.time()
            changed = try from.time()
        }
        hasSlash = flags.contains(.hasSlash)
        marker = flags.contains(.isMarked) ? .present : flags.contains(.isUnmarked) ? .absent : .unknown
        if flags.contains(.hasObject) {
            let tag =
                flags.contains(.hasDigest)
                ? CompactTag(try Self.word(&from), try Self.word(&from)).etag : ETag(try from.text())
            var storage: (String, String) = ("", "")
            if flags.contains(.hasStorage) { storage = (try from.text(), try from.text()) }
            let storageClass = flags.contains(.isStandard) ? Self.standard : storage.0.isEmpty ? nil : storage.0
            var info = ObjectInfo(
                key: ObjectKey(""), size: size, etag: tag, stored: stored, storageClass: storageClass,
                encryption: storage.1.isEmpty ? nil : storage.1)
            if isFolder {
                info.size = ObjectInfo.possible(try from.count(most: ObjectInfo.sizeLimit))
                info.stored = try from.time()
            }
            object = info
        }
        if flags.contains(.hasBelow) {
            let distance = try from.count()
            let place = NamesFile.Place(offset: origin - distance, count: try from.count())
            // What is below was written before: there is no circle.
            guard isFolder, place.offset >= 0, place.count > 0, place.count <= distance else {
                throw PackedReader.damage
            }
            below = place
        }
        if flags.contains(.hasDetails) { details = try Self.details(&from) }
        guard isFolder || object != nil else { throw PackedReader.damage }
    }

    private static func word(_ from: inout PackedReader) throws(VFSError) -> UInt64 {
        try from.slice(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    // MARK: Details

    private struct Fields: OptionSet {
        let rawValue: UInt64
        static let device = Fields(rawValue: 1)
        static let accessed = Fields(rawValue: 2)
        static let born = Fields(rawValue: 4)
        static let target = Fields(rawValue: 8)
        static let targetInBody = Fields(rawValue: 16)
        static let contentType = Fields(rawValue: 32)
        static let lists = Fields(rawValue: 64)
    }

    /// Kind, permissions, owners, times of change: those of the node stand for them.
    private static func encode(_ details: StoredAttributes, _ to: inout PackedWriter) {
        var fields: Fields = []
        if details.device != nil { fields.insert(.device) }
        if details.accessed != nil { fields.insert(.accessed) }
        if details.born != nil { fields.insert(.born) }
        if details.symlinkTarget != nil { fields.insert(.target) }
        if details.symlinkTargetInBody { fields.insert(.targetInBody) }
        if details.contentType != nil { fields.insert(.contentType) }
        if !details.xattrs.isEmpty || !details.foreign.isEmpty || !details.headers.isEmpty { fields.insert(.lists) }
        to.number(fields.rawValue)
        if let device = details.device { to.number(UInt64(device)) }
        if let time = details.accessed { to.time(time) }
        if let time = details.born { to.time(time) }
        if let target = details.symlinkTarget { to.text(target) }
        if let type = details.contentType { to.text(type) }
        guard fields.contains(.lists) else { return }
        to.count(details.xattrs.count)
        for (name, value) in details.xattrs {
            to.text(name)
            to.list(value)
        }
        for texts in [details.foreign, details.headers] {
            to.count(texts.count)
            for (name, value) in texts {
                to.text(name)
                to.text(value)
            }
        }
    }

    private static func details(_ from: inout PackedReader) throws(VFSError) -> StoredAttributes {
        let fields = Fields(rawValue: try from.number())
        var details = StoredAttributes()
        if fields.contains(.device) { details.device = try from.small() }
        if fields.contains(.accessed) { details.accessed = try from.time() }
        if fields.contains(.born) { details.born = try from.time() }
        if fields.contains(.target) { details.symlinkTarget = try from.text() }
        details.symlinkTargetInBody = fields.contains(.targetInBody)
        if fields.contains(.contentType) { details.contentType = try from.text() }
        guard fields.contains(.lists) else { return details }
        for _ in 0..<(try from.items(least: 2)) {
            let name = try from.text()
            details.xattrs[name] = try from.list()
        }
        details.foreign = try texts(&from)
        details.headers = try texts(&from)
        return details
    }

    private static func texts(_ from: inout PackedReader) throws(VFSError) -> [String: String] {
        var texts: [String: String] = [:]
        for _ in 0..<(try from.items(least: 2)) {
            let name = try from.text()
            texts[name] = try from.text()
        }
        return texts
    }
}

// MARK: Nodes

extension SavedEntry {
    /// Nil for what the store has not so, or what is being worked with.
    /// - Parameter left: milliseconds that a moment is ahead.
    init?(_ node: Node, left: (UInt64) -> Int) {
        guard !node.isHeld, !node.isBeingMade, !node.isToReplace, node.relocated == nil else { return nil }
        let directory = node.directory
        object = directory == nil ? node.info(ObjectKey(""), size: node.size) : directory?.markerObject
        guard directory != nil || object != nil else { return nil }
        if let key = object?.key, !key.isEmpty {
            hasSlash = key.endsWithSlash
            object?.key = ObjectKey("")
        }
        object?.metadata = nil
        (name, kind, size) = (node.name, node.kind, node.size)
        (permissions, uid, gid, defaulted) = (node.permissions, node.uid, node.gid, node.defaulted)
        remaining = left(node.validUntil)
        (stored, modified, changed) = (node.stored, node.modified, node.changed)
        marker = directory?.marker ?? .unknown
        // What only this process knew of it the store is asked for.
        isKnown = node.isKnown && !node.keepsAttributes && !(directory?.hasUnstoredTime ?? false)
        lacksDetails = isKnown && node.lacksDetails
        if node.isKnown, !isKnown {
            defaulted = .all
            (modified, changed) = (stored, stored)
        }
        guard isKnown, var rest = node.details else { return }
        (rest.kind, rest.permissions, rest.uid, rest.gid, rest.modified, rest.changed) = (nil, nil, nil, nil, nil, nil)
        details = rest == StoredAttributes() && kind != .symbolicLink ? nil : rest
    }

    /// Makes a node of it. Under the tree's lock.
    /// - Parameters:
    ///   - prefix: the directory's key.
    ///   - until: monotonic nanoseconds until which it is believed; 0: it is not.
    func show(in parent: Node, _ prefix: String, until: UInt64, _ names: inout Namespace) -> Node {
        let node = names.insert(
            name: name, in: parent, kind: kind, permissions: permissions, uid: uid, gid: gid, time: stored)
        // No listing has shown it.
        node.seenIn = (parent.directory?.generation ?? 1) &- 1
        node.validUntil = until
        node.defaulted = defaulted
        node.size = size
        node.isKnown = isKnown
        node.lacksDetails = lacksDetails
        (node.modified, node.changed) = (modified, changed)
        if let details {
            node.details = details
            names.weights.add(node)
        }
        if let directory = node.directory {
            directory.marker = marker
            if var object {
                object.key = ObjectKey(prefix + name.string + (hasSlash ? "/" : ""))
                directory.markerObject = object
            }
        } else if let object {
            node.noteStorage(object)
            node.version = object.etag
        }
        return node
    }
}
