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
        case name(String)
        /// The folder that has been reached by a link of this user's.
        case belongs(to: uid_t, link: String)
    }

    private static let mostLinks = 40

    /// - Parameter path: absolute.
    /// - Returns: nil when something on the way is missing.
    /// - Throws: `permissionDenied` for a link that is not followed.
    static func find(_ path: String) throws(VFSError) -> MountPoint? {
        let root = try open("/", in: AT_FDCWD, path)
        guard var here = root else { return nil }
        var steps = names(path)
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
            case .name(let name):
                guard let next = try open(name, in: here.raw, path) else { return nil }
                let found = try status(next, path)
                guard found.st_mode & S_IFMT == S_IFLNK else {
                    here = next
                    continue
                }
                links += 1
                guard links <= mostLinks else { throw VFSError(systemCall: ELOOP, path) }
                if found.st_uid != 0, found.st_uid != geteuid() {
                    steps.append(.belongs(to: found.st_uid, link: name))
                }
                let target = try target(next, path)
                steps += names(target)
                if target.hasPrefix("/"), let root { here = root }
            }
        }
        guard let resolved = link("/proc/self/fd/\(here.raw)") else { throw VFSError(systemCall: errno, path) }
        return MountPoint(directory: here, path: resolved)
    }

    /// The last one first.
    private static func names(_ path: String) -> [Step] {
        path.split(separator: "/").reversed().filter { $0 != "." }.map { .name(String($0)) }
    }

    private static func open(_ name: String, in directory: Int32, _ path: String) throws(VFSError) -> Descriptor? {
        // O_PATH: held, not opened, so that nobody who serves it is asked.
        let raw = openat(directory, name, 0o10000000 | O_NOFOLLOW | O_CLOEXEC)
        if raw >= 0 { return Descriptor(owning: raw) }
        if errno == ENOENT { return nil }
        throw VFSError(systemCall: errno, path)
    }

    private static func status(_ descriptor: Descriptor, _ path: String) throws(VFSError) -> stat {
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

extension FUSEMount {
    /// Before root makes folders on the way to a mount.
    /// - Throws: `permissionDenied` when another user's link leads there that is not followed.
    public static func checkLinks(on path: String) throws(VFSError) {
        if geteuid() == 0 { _ = try MountPoint.find(path) }
    }
}
