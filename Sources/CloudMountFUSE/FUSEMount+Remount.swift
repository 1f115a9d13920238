import CFUSE3
import CloudMountPlatform
public import CloudMountVFS
import Glibc

/// What a command does to a mount of another process.
extension FUSEMount {
    /// The extended attribute of a mount's root that names its daemon's control socket.
    static let controlAttribute = "user.cloudmount.control"

    /// `path` as the mount table has it.
    public static func resolve(_ path: String) throws(VFSError) -> String { try MountTable.resolve(path) }

    /// The source (`cloudmount:NAME`) of the mount of ours that an absolute path is in, by its words: no file system is asked.
    public static func source(containing path: String) -> String? {
        let path = Array(path.utf8)
        let around = MountTable.all().filter { mount in
            path.starts(with: mount.path)
                && (path.count == mount.path.count || mount.path == [UInt8(ascii: "/")]
                    || path[mount.path.count] == UInt8(ascii: "/"))
        }
        guard let longest = around.map(\.path.count).max(), let top = around.last(where: { $0.path.count == longest }),
            top.type == Mounting.type
        else { return nil }
        return top.source
    }

    /// Which mounted file system `path` is in, and where in it, whatever links and bind mounts lead there: `MAJOR:MINOR`, and the names from
    /// its root on, with a slash between them. Blocks, as whoever serves the mount is asked for the path.
    /// - Throws: `notFound`, also for what is in no mount of cloudmount; `busy` when the path keeps changing.
    public static func locate(_ path: String) throws(VFSError) -> (device: String, path: String) {
        for _ in 0..<8 {
            // O_PATH: looked up, not opened.
            let raw = open(path, 0o10000000 | O_CLOEXEC)
            guard raw >= 0 else { throw VFSError(systemCall: errno, path) }
            let place = Descriptor(owning: raw)
            let id = MountTable.mount(of: place)
            guard let mount = MountTable.all().first(where: { $0.id == id }), mount.type == Mounting.type else {
                throw VFSError(.notFound, "\(path) is not in a mount of cloudmount")
            }
            let full = MountTable.link("/proc/self/fd/\(raw)")
            // Of what has lost its name meanwhile, or of which the kernel has just forgotten it, the link says another.
            var (held, named) = (stat(), stat())
            guard full.starts(with: mount.path), fstat(raw, &held) == 0,
                (full + [0]).withUnsafeBufferPointer({ bytes in
                    bytes.withMemoryRebound(to: CChar.self) { $0.baseAddress.map { lstat($0, &named) } ?? -1 }
                }) == 0, held.st_dev == named.st_dev, held.st_ino == named.st_ino
            else { continue }
            let names = (mount.root + [UInt8(ascii: "/")] + full.dropFirst(mount.path.count))
                .split(separator: UInt8(ascii: "/")).map { String(decoding: $0, as: UTF8.self) }
            return (mount.device, names.joined(separator: "/"))
        }
        throw VFSError(.busy, "\(path) keeps changing")
    }

    /// The control socket of the daemon that serves the mount at `path`; nil when that is nobody, or does not tell this
    /// user. Blocks.
    public static func controlSocket(of path: String) -> String? {
        guard MountTable.top(at: path)?.type == Mounting.type else { return nil }
        let raw = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0, let value = try? Descriptor(owning: raw).attribute(controlAttribute) else { return nil }
        return String(validating: value, as: UTF8.self)
    }

    /// The user who mounted what is at `path`; nil when it is no mount of cloudmount.
    public static func owner(of path: String) -> UInt32? {
        MountTable.top(at: path).flatMap { $0.type == Mounting.type ? $0.owner : nil }
    }

    /// Makes the mount at `path` read-only or writable, in the kernel: as root, for everybody, at once.
    /// - Parameter options: of mount(8); what they do not say stays as it is.
    /// - Throws: `busy` when files are open for writing and it shall be read-only; `notFound` when it is no mount of ours.
    public static func remount(_ path: String, options: [String], readOnly: Bool) throws(VFSError) {
        guard let mounted = MountTable.top(at: path), mounted.type == Mounting.type else {
            throw VFSError(.notFound, "\(path) is not a mount of cloudmount")
        }
        var flags = UInt(MS_REMOUNT)
        for option in mounted.options + options {
            guard let (bit, isSet) = Self.flags[option] else { continue }
            flags = isSet ? flags | UInt(bit) : flags & ~UInt(bit)
        }
        flags = readOnly ? flags | UInt(MS_RDONLY) : flags & ~UInt(MS_RDONLY)
        // The mount itself, whatever the path leads to by now.
        let held = try HeldMount(mounted).itself
        let error = withExtendedLifetime(held) {
            CFUSE3.mount(mounted.source, "/proc/self/fd/\(held.raw)", Mounting.type, flags, nil) == 0 ? 0 : errno
        }
        if error == 0 { return }
        if error == EBUSY { throw VFSError(.busy, "\(path) is busy: files are open for writing") }
        throw VFSError(systemCall: error, path)
    }

    private static let flags: [String: (bit: Int, isSet: Bool)] = [
        "nosuid": (Int(MS_NOSUID), true), "suid": (Int(MS_NOSUID), false), "nodev": (Int(MS_NODEV), true),
        "dev": (Int(MS_NODEV), false), "noexec": (Int(MS_NOEXEC), true), "exec": (Int(MS_NOEXEC), false),
        "noatime": (Int(MS_NOATIME), true), "atime": (Int(MS_NOATIME), false),
        "nodiratime": (Int(MS_NODIRATIME), true), "diratime": (Int(MS_NODIRATIME), false),
        "relatime": (Int(MS_RELATIME), true), "norelatime": (Int(MS_RELATIME), false),
        "strictatime": (Int(MS_STRICTATIME), true), "sync": (Int(MS_SYNCHRONOUS), true),
        "async": (Int(MS_SYNCHRONOUS), false), "dirsync": (Int(MS_DIRSYNC), true),
        "nosymfollow": (Mounting.noSymlinkFollow, true), "symfollow": (Mounting.noSymlinkFollow, false),
    ]
}
