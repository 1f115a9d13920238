import CloudMountVFS

/// A POSIX access control list, as `system.posix_acl_access` and `system.posix_acl_default` hold it (acl(5)). A value.
///
/// The kernel checks accesses by it. The file system keeps list and mode in step, and gives what is made in a folder the
/// folder's default list.
struct PosixACL: Sendable, Equatable {
    /// The extended attributes' names.
    static let access = "system.posix_acl_access"
    static let defaults = "system.posix_acl_default"

    private enum Tag: UInt16 {
        case owner = 1
        case user = 2
        case group = 4
        case namedGroup = 8
        case mask = 16
        case other = 32
    }

    private struct Entry: Sendable, Equatable {
        var tag: Tag
        /// Read 4, write 2, execute 1.
        var permissions: UInt16
        var id: UInt32
    }

    private var entries: [Entry]

    /// - Throws: `invalidArgument` when the bytes are no list: each of owner, group and other once, a mask where somebody is
    ///   named, in the order of acl(5).
    init(attribute bytes: [UInt8]) throws(VFSError) {
        guard bytes.count >= 4, (bytes.count - 4) % 8 == 0, Self.number(bytes[..<4]) == 2 else { throw Self.malformed }
        entries = []
        for start in stride(from: 4, to: bytes.count, by: 8) {
            let permissions = UInt16(truncatingIfNeeded: Self.number(bytes[(start + 2)..<(start + 4)]))
            guard let tag = Tag(rawValue: UInt16(truncatingIfNeeded: Self.number(bytes[start..<(start + 2)]))),
                permissions & ~7 == 0
            else { throw Self.malformed }
            entries.append(Entry(tag: tag, permissions: permissions, id: Self.number(bytes[(start + 4)..<(start + 8)])))
        }
        let tags = entries.map(\.tag)
        func count(_ tag: Tag) -> Int { tags.count { $0 == tag } }
        let isNamed = count(.user) + count(.namedGroup) > 0
        guard count(.owner) == 1, count(.group) == 1, count(.other) == 1, count(.mask) <= 1,
            !isNamed || count(.mask) == 1, tags.map(\.rawValue) == tags.map(\.rawValue).sorted()
        else { throw Self.malformed }
    }

    private static let malformed = VFSError(.invalidArgument, "not an access control list")

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }

    var attribute: [UInt8] {
        var bytes: [UInt8] = [2, 0, 0, 0]
        func add(_ value: UInt32, _ count: Int) {
            for index in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * index))) }
        }
        for entry in entries {
            add(UInt32(entry.tag.rawValue), 2)
            add(UInt32(entry.permissions), 2)
            add(entry.id, 4)
        }
        return bytes
    }

    /// It says no more than the nine bits of a mode do: a file with such a list has none.
    var isMinimal: Bool { entries.count == 3 }

    /// The nine bits of the mode of a file with this list; those of the group are the mask's, where there is one.
    var permissions: UInt32 {
        func bits(_ tag: Tag) -> UInt32 { entries.first { $0.tag == tag }.map { UInt32($0.permissions) } ?? 0 }
        let group = entries.contains { $0.tag == .mask } ? bits(.mask) : bits(.group)
        return bits(.owner) << 6 | group << 3 | bits(.other)
    }

    /// As chmod(2) of a file with this list.
    mutating func setPermissions(_ mode: UInt32) {
        let hasMask = entries.contains { $0.tag == .mask }
        for index in entries.indices {
            switch entries[index].tag {
            case .owner: entries[index].permissions = UInt16(mode >> 6 & 7)
            case .group where !hasMask: entries[index].permissions = UInt16(mode >> 3 & 7)
            case .mask: entries[index].permissions = UInt16(mode >> 3 & 7)
            case .other: entries[index].permissions = UInt16(mode & 7)
            case .user, .group, .namedGroup: break
            }
        }
    }

    /// What a file or folder made with `mode` begins with in a folder whose default list this is. The umask does not count.
    /// A new folder has this default list too.
    func inherited(mode: UInt32) -> PosixACL {
        var list = self
        list.setPermissions(permissions & mode)
        return list
    }
}
