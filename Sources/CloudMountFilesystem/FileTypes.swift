public import CloudMountVFS

/// FUSE's node id: stable while the mount lives; 0 in an `Entry` says that the name does not exist.
public typealias InodeID = UInt64
public typealias HandleID = UInt64

/// One path component: 1 to 255 bytes of UTF-8 without `/` and NUL, compared by bytes.
public struct FileName: Sendable {
    public let string: String

    /// - Throws: `nameTooLong`, `invalidName` (empty, `.`, `..`, not UTF-8, NUL or `/` inside).
    public init(validating bytes: some Collection<UInt8>) throws(VFSError) {
        guard bytes.count <= 255 else { throw VFSError(.nameTooLong, "a name has more than 255 bytes") }
        guard let string = String(validating: bytes, as: UTF8.self), FileName.isLegal(string) else {
            throw VFSError(.invalidName, "not a legal name")
        }
        self.string = string
    }

    /// A name that is known to be legal.
    init(unchecked string: String) { self.string = string }

    static func isLegal(_ string: String) -> Bool {
        let bytes = string.utf8
        return !bytes.isEmpty && bytes.count <= 255 && string != "." && string != ".."
            && !bytes.contains { $0 == 0 || $0 == UInt8(ascii: "/") }
    }
}

extension FileName: Hashable {
    public static func == (left: FileName, right: FileName) -> Bool {
        let a = left.string.utf8
        let b = right.string.utf8
        return a.count == b.count && a.elementsEqual(b)
    }

    public func hash(into hasher: inout Hasher) {
        var string = string
        string.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}

extension FileName: Comparable, CustomStringConvertible {
    public static func < (left: FileName, right: FileName) -> Bool {
        left.string.utf8.lexicographicallyPrecedes(right.string.utf8)
    }
    public var description: String { string }
}

/// What `statx(2)` tells of an inode.
public struct FileAttributes: Sendable, Equatable {
    public var inode: InodeID
    public var kind: FileKind
    /// The lower twelve bits of the mode.
    public var permissions: UInt32
    public var linkCount: UInt32 = 1
    public var uid: UInt32
    public var gid: UInt32
    public var device: UInt32 = 0
    public var size: Int
    /// Bytes that take room; nil: as many as `size`.
    public var allocated: Int?
    public var accessed: Timestamp
    public var modified: Timestamp
    public var changed: Timestamp
    public var born: Timestamp

    public init(
        inode: InodeID, kind: FileKind, permissions: UInt32, uid: UInt32, gid: UInt32, size: Int, accessed: Timestamp,
        modified: Timestamp, changed: Timestamp, born: Timestamp
    ) {
        self.inode = inode
        self.kind = kind
        self.permissions = permissions
        self.uid = uid
        self.gid = gid
        self.size = size
        self.accessed = accessed
        self.modified = modified
        self.changed = changed
        self.born = born
    }
}

public struct AttributeReply: Sendable {
    public var attributes: FileAttributes
    /// How long the kernel may keep them.
    public var validFor: Duration

    public init(attributes: FileAttributes, validFor: Duration) {
        self.attributes = attributes
        self.validFor = validFor
    }
}

/// The answer to a lookup. A positive one counts as one lookup, to be forgotten by `forget`.
public struct Entry: Sendable {
    /// Nil: the name is known not to exist, and the kernel may remember that for `validFor`.
    public var attributes: FileAttributes?
    /// How long the kernel may keep the name.
    public var validFor: Duration
    public var attributesValidFor: Duration

    public init(attributes: FileAttributes?, validFor: Duration, attributesValidFor: Duration) {
        self.attributes = attributes
        self.validFor = validFor
        self.attributesValidFor = attributesValidFor
    }
}

public struct AttributeChanges: Sendable {
    public enum TimeChange: Sendable, Equatable {
        case now
        case at(Timestamp)
    }
    /// The lower twelve bits.
    public var permissions: UInt32?
    public var uid: UInt32?
    public var gid: UInt32?
    public var size: Int?
    public var accessed: TimeChange?
    public var modified: TimeChange?
    public var clearSetID = false

    public init() {}
}

/// Who asks: `fuse_ctx`.
public struct Caller: Sendable {
    public var uid: UInt32
    public var gid: UInt32
    public var pid: Int32
    public var umask: UInt32
    /// In `open` with O_TRUNC: set-user-id and set-group-id are to be dropped (FUSE_HANDLE_KILLPRIV_V2).
    public var clearSetID = false

    public init(uid: UInt32, gid: UInt32, pid: Int32, umask: UInt32) {
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.umask = umask
    }
}

public struct OpenReply: Sendable {
    public var handle: HandleID
    /// The kernel may keep the pages it has of this inode (FOPEN_KEEP_CACHE).
    public var keepCache = false
    /// No FLUSH is wanted at close (FOPEN_NOFLUSH).
    public var noFlush = false

    public init(handle: HandleID) { self.handle = handle }
}

public struct CreateReply: Sendable {
    public var entry: Entry
    public var open: OpenReply

    public init(entry: Entry, open: OpenReply) {
        self.entry = entry
        self.open = open
    }
}

/// Bytes of a read, in order, valid only while the reply is being sent.
public struct ReadSlices {
    public var slices: [UnsafeRawBufferPointer]

    public init(_ slices: [UnsafeRawBufferPointer]) { self.slices = slices }
}

public struct RenameFlags: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Fail with `alreadyExists` when the new name exists (RENAME_NOREPLACE).
    public static let noReplace = RenameFlags(rawValue: 1)
    public static let exchange = RenameFlags(rawValue: 2)
    public static let whiteout = RenameFlags(rawValue: 4)
}

/// One name in a directory.
public struct DirectoryEntry: Sendable {
    public var name: String
    public var inode: InodeID
    /// Nil when only the attributes would tell (d_type DT_UNKNOWN).
    public var kind: FileKind?
    /// Where `readdir` goes on after this one.
    public var nextOffset: Int
    /// With `plus`: the entry in full, which the packer hands to the kernel as a lookup; nil when attributes are not known
    /// (the kernel then looks the name up when it needs them), and for `.` and `..`.
    public var entry: Entry?

    public init(name: String, inode: InodeID, kind: FileKind?, nextOffset: Int, entry: Entry?) {
        self.name = name
        self.inode = inode
        self.kind = kind
        self.nextOffset = nextOffset
        self.entry = entry
    }
}

/// `statvfs(3)`, counted in blocks of `blockSize` bytes.
public struct FileSystemStatistics: Sendable {
    public var blockSize: UInt64 = 4096
    public var blocks: UInt64
    public var freeBlocks: UInt64
    public var files: UInt64
    public var freeFiles: UInt64
    public var maxNameBytes: UInt32 = 255

    public init(blocks: UInt64, freeBlocks: UInt64, files: UInt64, freeFiles: UInt64) {
        self.blocks = blocks
        self.freeBlocks = freeBlocks
        self.files = files
        self.freeFiles = freeFiles
    }
}
