import CloudMountCommit
import CloudMountVFS

/// One inode in memory. Touched only under the tree's lock.
///
/// There are as many as names have been listed, so it has 120 bytes, in this order without gaps, and what most of them do not
/// need is elsewhere: times in `Rest` when they differ from the store's, what comes with use in `Use`, metadata in `Details`.
final class Node {
    let id: InodeID
    /// 0 for the root and for an orphan (unlinked or replaced, but still known to the kernel).
    var parent: InodeID
    var name: FileName
    var size = 0
    /// Monotonic nanoseconds until which the name and its attributes are believed.
    var validUntil: UInt64 = 0
    private var rest: Rest?
    /// Since 1970.
    private var storedNanoseconds: Int64
    /// Of `version`, when its form is that of most.
    private var digest: (UInt64, UInt64) = (0, 0)
    var uid: UInt32
    var gid: UInt32
    /// The listing of its directory that has last shown it, or under which it was made here.
    var seenIn: UInt32 = 0
    /// The listing whose readers have been given its name.
    var listedIn: UInt32 = 0
    private var fewLookups: UInt32 = 0
    private var flags: Flags = []
    /// As `st_mode`.
    private var mode: UInt16

    init(
        id: InodeID, parent: InodeID, name: FileName, kind: FileKind, permissions: UInt32, uid: UInt32, gid: UInt32,
        time: Timestamp
    ) {
        self.id = id
        self.parent = parent
        self.name = name
        self.uid = uid
        self.gid = gid
        mode = UInt16(truncatingIfNeeded: kind.rawValue | permissions & 0o7777)
        storedNanoseconds = time.nanosecondsSince1970
        if kind == .directory { directory = Directory() }
    }

    // MARK: What is packed

    private struct Flags: OptionSet {
        let rawValue: UInt16
        static let isKnown = Flags(rawValue: 1)
        static let keepsAttributes = Flags(rawValue: 2)
        static let kernelIsBehind = Flags(rawValue: 4)
        static let isCached = Flags(rawValue: 8)
        static let isToReplace = Flags(rawValue: 16)
        static let hasDigest = Flags(rawValue: 32)
        static let defaultPermissions = Flags(rawValue: 64)
        static let defaultUID = Flags(rawValue: 128)
        static let defaultGID = Flags(rawValue: 256)
        static let isUnlinked = Flags(rawValue: 512)
        static let hasPages = Flags(rawValue: 1024)
        static let isStandard = Flags(rawValue: 2048)
        static let isPlaceholder = Flags(rawValue: 4096)
        static let isBeingMade = Flags(rawValue: 8192)
        static let lacksDetails = Flags(rawValue: 16384)
        static let isOpenRefused = Flags(rawValue: 32768)
    }

    private func set(_ flag: Flags, _ value: Bool) {
        if value { flags.insert(flag) } else { flags.remove(flag) }
    }

    /// The metadata of `version` has been seen, so the fields are the writer's and not the mount's defaults.
    var isKnown: Bool {
        get { flags.contains(.isKnown) }
        set { set(.isKnown, newValue) }
    }

    /// What stat(2) does not show was let go of, and has to be asked for.
    var lacksDetails: Bool {
        get { flags.contains(.lacksDetails) }
        set { set(.lacksDetails, newValue) }
    }

    /// Nothing of the metadata has to be asked for.
    var isKnownInFull: Bool { isKnown && !lacksDetails }

    /// Attributes were changed here and not stored (`durable_attributes: false`).
    var keepsAttributes: Bool {
        get { flags.contains(.keepsAttributes) }
        set { set(.keepsAttributes, newValue) }
    }

    /// The kernel was told of an older version's attributes.
    var kernelIsBehind: Bool {
        get { flags.contains(.kernelIsBehind) }
        set {
            set(.kernelIsBehind, newValue)
            set(.isOpenRefused, false)
        }
    }

    /// Somebody who wanted to open the file has been refused, so that the kernel looks it up, since it is behind.
    var isOpenRefused: Bool {
        get { flags.contains(.isOpenRefused) }
        set { set(.isOpenRefused, newValue) }
    }

    /// The kernel may hold pages of `version`.
    var isCached: Bool {
        get { flags.contains(.isCached) }
        set { set(.isCached, newValue) }
    }

    /// The kernel has been given bytes of the inode.
    var hasPages: Bool {
        get { flags.contains(.hasPages) }
        set { set(.hasPages, newValue) }
    }

    /// Has never been stored: `version` is another file's, which had the name before and is there until the commit.
    var isToReplace: Bool {
        get { flags.contains(.isToReplace) }
        set { set(.isToReplace, newValue) }
    }

    /// An orphan that was removed here, by name: who has it open may open it again.
    var isUnlinked: Bool {
        get { flags.contains(.isUnlinked) }
        set { set(.isUnlinked, newValue) }
    }

    /// `version` is the empty object that claimed the name when the file was made (O_EXCL); no commit has followed.
    var isPlaceholder: Bool {
        get { flags.contains(.isPlaceholder) }
        set { set(.isPlaceholder, newValue) }
    }

    /// Its object is being stored; if that fails there is no such file.
    var isBeingMade: Bool {
        get { flags.contains(.isBeingMade) }
        set { set(.isBeingMade, newValue) }
    }

    /// What of the attributes the metadata does not say, so that the mount's defaults stand for it.
    var defaulted: Defaulted {
        get { Defaulted(rawValue: UInt8(truncatingIfNeeded: flags.rawValue >> 6)) }
        set {
            flags.remove([.defaultPermissions, .defaultUID, .defaultGID])
            flags.insert(Flags(rawValue: UInt16(newValue.rawValue & 7) << 6))
        }
    }

    var kind: FileKind {
        get { FileKind(rawValue: UInt32(mode) & 0o170000) ?? .regular }
        set { mode = UInt16(truncatingIfNeeded: newValue.rawValue) | mode & 0o7777 }
    }

    var permissions: UInt32 {
        get { UInt32(mode) & 0o7777 }
        set { mode = mode & 0o170000 | UInt16(truncatingIfNeeded: newValue & 0o7777) }
    }

    /// How often the kernel was given this inode, less what it has forgotten.
    var lookups: UInt64 {
        get { UInt64(fewLookups) + (rest?.moreLookups ?? 0) }
        set {
            fewLookups = UInt32(clamping: newValue)
            let more = newValue - UInt64(fewLookups)
            if more != rest?.moreLookups ?? 0 { filled().moreLookups = more }
        }
    }

    // MARK: What few have

    private final class Rest {
        var directory: Directory?
        var details: Details?
        var use: Use?
        var moreLookups: UInt64 = 0
        /// Of `version`, when it has not the form of most.
        var tag: String?
        /// When it is not all the store's time.
        var times: (modified: Timestamp, changed: Timestamp)?
        var storage: Storage?

        var isEmpty: Bool {
            directory == nil && details == nil && use == nil && moreLookups == 0 && tag == nil && times == nil
                && storage == nil
        }
    }

    private final class Details {
        let attributes: StoredAttributes
        init(_ attributes: StoredAttributes) { self.attributes = attributes }
    }

    private final class Use {
        var openCount = 0
        var writers = 0
        var borrows = 0
        var generation: UInt64 = 0
        var stored: UInt64 = 0
        var relocated: ObjectInfo?
        var nonce: (version: ETag, value: String)?
        var sizedAt: UInt64 = 0
        var formerParent: InodeID = 0
        var hasExplicitTime = false
        var touched: UInt64 = 0
        var staleSince: UInt64 = 0
        var content: FileContent?
    }

    private func filled() -> Rest {
        if let rest { return rest }
        let made = Rest()
        rest = made
        return made
    }

    private func used() -> Use {
        let rest = filled()
        if let use = rest.use { return use }
        let made = Use()
        rest.use = made
        return made
    }

    private var use: Use? { rest?.use }

    var directory: Directory? {
        get { rest?.directory }
        set { if newValue !== directory { filled().directory = newValue } }
    }

    /// Everything in the metadata that has no field above: xattrs, link target, device, foreign entries.
    var details: StoredAttributes? {
        get { rest?.details?.attributes }
        set { if newValue != nil || rest != nil { filled().details = newValue.map { Details($0) } } }
    }

    /// The object's version; nil for a file that no commit has reached, and for a directory without a marker.
    var version: ETag? {
        get {
            if flags.contains(.hasDigest) { return CompactTag(digest.0, digest.1).etag }
            return rest?.tag.map { ETag($0) }
        }
        set {
            let compact = newValue.flatMap { CompactTag($0) }
            set(.hasDigest, compact != nil)
            if let compact { digest = (compact.high, compact.low) }
            let tag = compact == nil ? newValue?.value : nil
            if tag != rest?.tag { filled().tag = tag }
        }
    }

    /// When the store took the version in.
    var stored: Timestamp {
        get { Timestamp(nanosecondsSince1970: storedNanoseconds) }
        set {
            // The others do not follow.
            if rest?.times == nil, newValue != stored { filled().times = (stored, stored) }
            storedNanoseconds = newValue.nanosecondsSince1970
            mergeTimes()
        }
    }

    var modified: Timestamp {
        get { rest?.times?.modified ?? stored }
        set {
            guard newValue != modified else { return }
            filled().times = (newValue, changed)
            mergeTimes()
        }
    }

    var changed: Timestamp {
        get { rest?.times?.changed ?? stored }
        set {
            guard newValue != changed else { return }
            filled().times = (modified, newValue)
            mergeTimes()
        }
    }

    private func mergeTimes() {
        guard let rest, let times = rest.times, times.modified == stored, times.changed == stored else { return }
        rest.times = nil
        if rest.isEmpty { self.rest = nil }
    }

    /// How the store keeps `version`, when it is not as it keeps most: a copy has to name it.
    private struct Storage: Equatable {
        var storageClass: String?
        var encryption: String?
    }

    /// The class that most objects have, which takes no room.
    private static let standard = "STANDARD"

    /// Notes how the store keeps the version that `info` describes.
    func noteStorage(_ info: ObjectInfo) {
        let isStandard = info.storageClass == Self.standard
        let storageClass = isStandard ? nil : info.storageClass
        // A listing does not tell how an object is encrypted.
        let known = info.metadata == nil && version == info.etag ? rest?.storage?.encryption : nil
        let encryption = info.encryption ?? known
        let storage =
            storageClass == nil && encryption == nil ? nil : Storage(storageClass: storageClass, encryption: encryption)
        set(.isStandard, isStandard)
        if storage != rest?.storage { filled().storage = storage }
    }

    /// The object that the node is, or was at `version`; nil for one that no commit has reached. Its key is for the caller to say.
    func info(_ key: ObjectKey, size: Int) -> ObjectInfo? {
        version.map {
            let storageClass = rest?.storage?.storageClass ?? (flags.contains(.isStandard) ? Self.standard : nil)
            var info = ObjectInfo(key: key, size: size, etag: $0, stored: stored, storageClass: storageClass)
            info.encryption = rest?.storage?.encryption
            return info
        }
    }

    /// Bytes of texts of the store that say which version it is.
    var tagWeight: Int {
        (rest?.tag?.utf8.count ?? 0) + (rest?.storage?.storageClass?.utf8.count ?? 0)
            + (rest?.storage?.encryption?.utf8.count ?? 0)
    }

    /// Of `version`, when it was written here.
    var nonce: String? {
        get { use?.nonce.flatMap { $0.version == version ? $0.value : nil } }
        set { used().nonce = newValue.flatMap { value in version.map { ($0, value) } } }
    }

    /// Of an orphan, the directory in which another file was given its name; else 0.
    var formerParent: InodeID {
        get { use?.formerParent ?? 0 }
        set { if newValue != formerParent { used().formerParent = newValue } }
    }

    /// The generation of `content` that `size` is of.
    var sizedAt: UInt64 {
        get { use?.sizedAt ?? 0 }
        set { if newValue != sizedAt { used().sizedAt = newValue } }
    }

    func resize(_ change: ContentChange) {
        guard change.generation >= sizedAt else { return }
        (size, sizedAt) = (change.size, change.generation)
    }

    /// Open so many times.
    var openCount: Int {
        get { use?.openCount ?? 0 }
        set { if newValue != openCount { used().openCount = newValue } }
    }

    /// Open for writing so many times.
    var writers: Int {
        get { use?.writers ?? 0 }
        set { if newValue != writers { used().writers = newValue } }
    }

    /// `modified` was set by utimens(2) since the last write.
    var hasExplicitTime: Bool {
        get { use?.hasExplicitTime ?? false }
        set { if newValue != hasExplicitTime { used().hasExplicitTime = newValue } }
    }

    /// Monotonic nanoseconds when it was last made, committed or renamed here: what was asked for before knows nothing of
    /// that.
    var touched: UInt64 {
        get { use?.touched ?? 0 }
        set { if newValue != touched { used().touched = newValue } }
    }

    /// Monotonic nanoseconds when it was last shown past its time because the store could not be reached.
    var staleSince: UInt64 {
        get { use?.staleSince ?? 0 }
        set { if newValue != staleSince { used().staleSince = newValue } }
    }

    /// Operations that need `content` to stay for their time.
    var borrows: Int {
        get { use?.borrows ?? 0 }
        set { if newValue != borrows { used().borrows = newValue } }
    }

    /// Counts changes made here, of bytes and of attributes.
    var generation: UInt64 {
        get { use?.generation ?? 0 }
        set { if newValue != generation { used().generation = newValue } }
    }

    /// The generation that the store has.
    var storedGeneration: UInt64 {
        get { use?.stored ?? 0 }
        set { if newValue != storedGeneration { used().stored = newValue } }
    }

    /// The bytes of `version` under the key that the node will have when the rename under way has ended.
    var relocated: ObjectInfo? {
        get { use?.relocated }
        set { if newValue != relocated { used().relocated = newValue } }
    }

    /// While open or dirty.
    var content: FileContent? {
        get { use?.content }
        set {
            guard newValue !== content else { return }
            used().content = newValue
            sizedAt = 0
        }
    }

    struct Defaulted: OptionSet {
        let rawValue: UInt8
        static let permissions = Defaulted(rawValue: 1)
        static let uid = Defaulted(rawValue: 2)
        static let gid = Defaulted(rawValue: 4)
        static let all: Defaulted = [.permissions, .uid, .gid]
    }

    /// Nobody refers to it, and it holds nothing that could not be had again.
    var isIdle: Bool {
        lookups == 0 && openCount == 0 && borrows == 0 && !isHeld && !keepsAttributes
            && (directory.map { $0.children.isEmpty && $0.listing == nil && !$0.hasUnstoredTime } ?? true)
    }

    var isOrphan: Bool { parent == 0 && id != Namespace.root }
    /// Holds something that the store does not have.
    var isDirty: Bool { generation != storedGeneration }
    /// What the store says of its name has to wait for its writers: they commit over it, or beside it.
    var isHeld: Bool { writers > 0 || isDirty || directory?.isOnlyHere ?? false }
    /// It, or something below it, is held.
    var holdsAnything: Bool {
        if isHeld { return true }
        guard directory != nil else { return false }
        var open = [self]
        while let children = open.popLast()?.directory?.children {
            for child in children {
                if child.isHeld { return true }
                if child.directory != nil { open.append(child) }
            }
        }
        return false
    }
    /// The node and all below it, each after what it is in. Trees may be deep: nothing here goes down by recursion.
    var withAllBelow: [Node] {
        var all = [self]
        var next = 0
        while next < all.count {
            if let children = all[next].directory?.children { all += children }
            next += 1
        }
        return all
    }
    /// Shown past its time, and the store has not confirmed it since.
    var isStale: Bool { staleSince > 0 && validUntil <= staleSince && !isHeld && !isOrphan }

    var attributes: FileAttributes {
        var attributes = FileAttributes(
            inode: id, kind: kind, permissions: permissions, uid: uid, gid: gid, size: size,
            accessed: details?.accessed ?? modified, modified: modified, changed: changed, born: details?.born ?? stored
        )
        if isOrphan {
            attributes.linkCount = 0
        } else if let directory, directory.isWhole {
            attributes.linkCount = UInt32(clamping: 2 + directory.subdirectories)
        } else {
            // Of a directory too: while its subdirectories are not known, 1 says so to find(1).
            attributes.linkCount = 1
        }
        attributes.device = details?.device ?? 0
        return attributes
    }

    /// Has the node attributes of its own, beyond what the mount gives to what has none?
    func hasOwnAttributes(_ rules: TreeRules) -> Bool {
        permissions != (kind == .directory ? rules.directoryPermissions : rules.filePermissions) || uid != rules.uid
            || gid != rules.gid || hasExplicitTime || !(details?.xattrs.isEmpty ?? true)
            || !(details?.foreign.isEmpty ?? true)
    }

    /// Of a directory: other tools see its marker as a file, and it keeps nothing where there are names in the directory.
    func hasUselessMarker(_ rules: TreeRules) -> Bool {
        rules.capabilities.visibleFolders && directory?.marker == .present && id != Namespace.root
            && !hasOwnAttributes(rules)
    }

    /// Takes over what a store's metadata says; what it does not say is the mount's default.
    func adopt(_ attributes: StoredAttributes, defaults: TreeRules) {
        defaulted = []
        if let given = attributes.permissions { permissions = given } else { defaulted.insert(.permissions) }
        if let given = attributes.uid { uid = given } else { defaulted.insert(.uid) }
        if let given = attributes.gid { gid = given } else { defaulted.insert(.gid) }
        applyDefaults(defaults)
        modified = attributes.modified ?? stored
        changed = attributes.changed ?? max(modified, stored)
        details = attributes
        lacksDetails = false
        isKnown = true
    }

    /// Whether `adopt` would change more than times that no metadata keeps.
    func agrees(with attributes: StoredAttributes, defaults: TreeRules) -> Bool {
        permissions
            == attributes.permissions
            ?? (kind == .directory ? defaults.directoryPermissions : defaults.filePermissions)
            && uid == attributes.uid ?? defaults.uid && gid == attributes.gid ?? defaults.gid
            && modified == attributes.modified ?? modified && details?.xattrs == attributes.xattrs
            && details?.foreign == attributes.foreign && details?.contentType == attributes.contentType
            && details?.headers == attributes.headers
    }

    /// What is to be stored with the object, the fields above included.
    var storedAttributes: StoredAttributes { NodeChange(self, changed).storedAttributes }
}

extension Timestamp {
    /// The years 1678 to 2262; what lies beyond is their end.
    fileprivate var nanosecondsSince1970: Int64 {
        let limit = Int(Int64.max / 1_000_000_000) - 1
        return Int64(min(max(seconds, -limit), limit)) * 1_000_000_000 + Int64(nanoseconds)
    }

    fileprivate init(nanosecondsSince1970 count: Int64) {
        let (seconds, rest) = count.quotientAndRemainder(dividingBy: 1_000_000_000)
        self.init(
            seconds: Int(rest < 0 ? seconds - 1 : seconds), nanoseconds: Int(rest < 0 ? rest + 1_000_000_000 : rest))
    }
}
