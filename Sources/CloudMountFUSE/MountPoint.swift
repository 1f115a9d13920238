import CFUSE3
import CloudMountPlatform
public import CloudMountVFS
import Glibc

/// The folder that root covers with a mount, found name by name and then held, whatever happens to the names.
///
/// Parts of the path may be other users', who could set links there to wherever only root may mount. A link of theirs is followed
/// only to a folder that is theirs too.
struct MountPoint {
    let directory: Descriptor
    /// Absolute, without symbolic links.
    let path: String

    private enum Step {
        /// - Parameter depth: how many of the path's names it ends; 0: it is a link's.
        case name(String, depth: Int)
        /// The folder that has been reached by a link of this user's.
        case belongs(to: uid_t, link: String)
    }

    private static let mostLinks = 40

    /// - Parameter path: absolute.
    /// - Returns: nil when something on the way is missing.
    /// - Throws: `permissionDenied` for a link that is not followed.
    static func find(_ path: String) throws(VFSError) -> MountPoint? {
        try walk(path, obeysLinks: true) { _, _, _ in false }
    }

    /// - Parameters:
    ///   - obeysLinks: links of other users are not followed to what is not theirs.
    ///   - make: makes a name of the path that is missing, in the folder that is held; it is told how many names of the path that ends.
    ///     Where a link leads nothing is made.
    static func walk(
        _ path: String, obeysLinks: Bool, _ make: (Descriptor, String, Int) throws(VFSError) -> Bool
    ) throws(VFSError) -> MountPoint? {
        let root = try open("/", in: AT_FDCWD, path)
        guard var here = root else { return nil }
        var steps: [Step] = names(path).enumerated().map { .name($1, depth: $0 + 1) }.reversed()
        var links = 0
        while let step = steps.popLast() {
            switch step {
            case .belongs(let owner, let link):
                guard try status(here, path).st_uid == owner else {
                    throw VFSError(
                        .permissionDenied,
                        "\(path): the link '\(link)' of user \(owner) leads to what is not that user's; root does not follow it"
                    )
                }
            case .name(let name, let depth):
                var next = try open(name, in: here.raw, path)
                if next == nil, depth > 0, try make(here, name, depth) { next = try open(name, in: here.raw, path) }
                guard let next else { return nil }
                let found = try status(next, path)
                guard found.st_mode & S_IFMT == S_IFLNK else {
                    here = next
                    continue
                }
                links += 1
                guard links <= mostLinks else { throw VFSError(systemCall: ELOOP, path) }
                if obeysLinks, found.st_uid != 0, found.st_uid != geteuid() {
                    steps.append(.belongs(to: found.st_uid, link: name))
                }
                let target = try target(next, path)
                steps += names(target).reversed().map { .name($0, depth: 0) }
                if target.utf8.first == UInt8(ascii: "/"), let root { here = root }
            }
        }
        guard let resolved = link("/proc/self/fd/\(here.raw)") else { throw VFSError(systemCall: errno, path) }
        return MountPoint(directory: here, path: resolved)
    }

    fileprivate static func names(_ path: String) -> [String] { ObjectKey(path).names.filter { $0 != "." } }

    fileprivate static func open(_ name: String, in directory: Int32, _ path: String) throws(VFSError) -> Descriptor? {
        // O_PATH: held, not opened, so that nobody who serves it is asked.
        let raw = openat(directory, name, 0o10000000 | O_NOFOLLOW | O_CLOEXEC)
        if raw >= 0 { return Descriptor(owning: raw) }
        if errno == ENOENT { return nil }
        throw VFSError(systemCall: errno, path)
    }

    fileprivate static func status(_ descriptor: Descriptor, _ path: String) throws(VFSError) -> stat {
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0 else { throw VFSError(systemCall: errno, path) }
        return status
    }

    private static func target(_ link: Descriptor, _ path: String) throws(VFSError) -> String {
        var room = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = readlinkat(link.raw, "", &room, room.count - 1)
        guard count > 0 else { throw VFSError(systemCall: count < 0 ? errno : ENOENT, path) }
        return String(decoding: room[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func link(_ path: String) -> String? {
        var room = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = readlink(path, &room, room.count - 1)
        return count > 0 ? String(decoding: room[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }
}

/// A mount as the table has it, found again by its path and held to be this one: parts of the path may be other users', who could have
/// put links there to what is mounted elsewhere.
struct HeldMount {
    private let parent: Descriptor
    private let name: String
    /// The folder that it covers its place with.
    let itself: Descriptor

    /// - Throws: `busy` when the path leads to something else by now.
    init(_ mounted: MountedFileSystem) throws(VFSError) {
        let path = String(decoding: mounted.path, as: UTF8.self)
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), path.utf8.count > 1 else {
            throw VFSError(.busy, "\(path) stays mounted")
        }
        name = String(path[path.utf8.index(after: slash)...])
        let above = slash == path.startIndex ? "/" : String(path[..<slash])
        // No part of the path is a link, nor should be by now.
        guard let parent = try? MountPoint.open(above, in: AT_FDCWD, path),
            let itself = try? MountPoint.open(name, in: parent.raw, path), MountTable.mount(of: itself) == mounted.id
        else { throw VFSError(.busy, "\(path) leads to something else than what was mounted there") }
        (self.parent, self.itself) = (parent, itself)
    }

    /// The folder that it is in, and its name there: as long as it is mounted nobody can give that to anything else.
    var place: (parent: Descriptor, name: String) { (parent, name) }
}

/// A folder that was made for a mount: which one it is, and in which.
public struct MadeFolder: Sendable {
    fileprivate struct Identity: Sendable, Equatable {
        var device: dev_t
        var inode: ino_t

        init(_ status: stat) { (device, inode) = (status.st_dev, status.st_ino) }
    }

    /// As it was asked for, without a slash at its end.
    public let path: String
    private let itself: Identity
    private let parent: Identity

    fileprivate init(path: String, itself: stat, parent: stat) {
        self.path = path
        (self.itself, self.parent) = (Identity(itself), Identity(parent))
    }

    /// Removes it if it is empty and still where it was made, whatever its name and those above it lead to by now.
    /// - Returns: whether it is gone by this.
    public func remove() -> Bool {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return false }
        let name = String(path[path.utf8.index(after: slash)...])
        let above = slash == path.startIndex ? "/" : String(path[..<slash])
        guard let point = try? MountPoint.walk(above, obeysLinks: geteuid() == 0, { _, _, _ in false }),
            let there = try? MountPoint.status(point.directory, path), Identity(there) == parent,
            let folder = try? MountPoint.open(name, in: point.directory.raw, path),
            let now = try? MountPoint.status(folder, path), Identity(now) == itself
        else { return false }
        return unlinkat(point.directory.raw, name, AT_REMOVEDIR) == 0
    }
}

extension FUSEMount {
    /// Makes what is missing of the folder at `path`, each in one that is held: nobody can put a link in the way. Blocks.
    /// - Parameters:
    ///   - path: absolute.
    ///   - made: told what is made, the outermost first.
    /// - Throws: `permissionDenied`, also when another user's link leads there that root does not follow; `notDirectory`, `notFound`, `io`.
    public static func makeFolders(_ path: String, made: (MadeFolder) -> Void) throws(VFSError) {
        let names = MountPoint.names(path)
        func fault(_ code: VFSError.Code, _ what: String) -> VFSError { VFSError(code, "the folder \(path) \(what)") }
        let point = try MountPoint.walk(path, obeysLinks: geteuid() == 0) { parent, name, depth throws(VFSError) in
            guard mkdirat(parent.raw, name, 0o755) == 0 else {
                if errno == EEXIST { return true }
                let reason = String(cString: strerror(errno))
                throw fault(VFSError.Code(systemCall: errno), "cannot be made: \(reason)")
            }
            if let folder = try MountPoint.open(name, in: parent.raw, path) {
                made(
                    MadeFolder(
                        path: "/" + names.prefix(depth).joined(separator: "/"),
                        itself: try MountPoint.status(folder, path), parent: try MountPoint.status(parent, path)))
            }
            return true
        }
        guard let point else { throw fault(.notFound, "is behind a link that leads nowhere") }
        guard try MountPoint.status(point.directory, path).st_mode & S_IFMT == S_IFDIR else {
            throw VFSError(.notDirectory, "\(path) is not a directory")
        }
    }
}
