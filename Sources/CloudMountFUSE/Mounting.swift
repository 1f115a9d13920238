import CFUSE3
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// mount(2), umount2(2) and the settings of a mount.
enum Mounting {
    static let type = "fuse.cloudmount"
    /// MS_NOSYMFOLLOW, which not every libc knows.
    static let noSymlinkFollow = 256

    /// - Parameter directory: what `path` was when it was looked at, for root.
    /// - Returns: a descriptor of /dev/fuse that is connected to the new mount at `path`.
    static func mount(
        _ path: String, _ options: FUSEMountOptions, on directory: Descriptor?
    ) throws(VFSError) -> Int32 {
        var words = ["default_permissions", "max_read=\(Session.maximumTransfer)"]
        if options.allowOther { words.append("allow_other") }
        if geteuid() == 0, let descriptor = try mountAsRoot(path, options, words, on: directory) { return descriptor }
        // fusermount3 itself adds nosuid and nodev.
        if options.readOnly { words.append("ro") }
        if options.noExec { words.append("noexec") }
        if options.noSymlinkFollow { words.append("nosymfollow") }
        words.append("subtype=cloudmount")
        words.append("fsname=" + escape(options.source))
        return try Fusermount.mount(path, options: words)
    }

    /// Nil: this root may not mount (a container without CAP_SYS_ADMIN).
    private static func mountAsRoot(
        _ path: String, _ options: FUSEMountOptions, _ words: [String], on directory: Descriptor?
    ) throws(VFSError) -> Int32? {
        let descriptor = open("/dev/fuse", O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw VFSError(systemCall: errno, "/dev/fuse") }
        let data =
            (["fd=\(descriptor)", "rootmode=40000", "user_id=\(geteuid())", "group_id=\(getegid())"] + words)
            .joined(separator: ",")
        var flags = UInt(MS_NOSUID | MS_NODEV)
        if options.readOnly { flags |= UInt(MS_RDONLY) }
        if options.noExec { flags |= UInt(MS_NOEXEC) }
        if options.noSymlinkFollow { flags |= UInt(noSymlinkFollow) }
        // The directory itself, whatever the path leads to by now.
        let target = directory.map { "/proc/self/fd/\($0.raw)" } ?? path
        if CFUSE3.mount(options.source, target, type, flags, data) == 0 { return descriptor }
        let error = errno
        close(descriptor)
        if error == EPERM { return nil }
        throw VFSError(systemCall: error, path)
    }

    /// fusermount3 separates options by commas.
    private static func escape(_ text: String) -> String {
        var escaped = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            if scalar == "," || scalar == "\\" { escaped.append("\\") }
            escaped.append(scalar)
        }
        return String(escaped)
    }

    /// - Throws: `busy`, also when its path leads to something else by now.
    static func unmount(_ mounted: MountedFileSystem, lazy: Bool) throws(VFSError) {
        let path = String(decoding: mounted.path, as: UTF8.self)
        if geteuid() == 0 {
            // What holds the mount itself would keep it busy, so it has been let go of again.
            let (parent, name) = try HeldMount(mounted).place
            let flags = Int32(UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0))
            let error = withExtendedLifetime(parent) {
                umount2("/proc/self/fd/\(parent.raw)/\(name)", flags) == 0 ? 0 : errno
            }
            if error == 0 { return }
            if error == EBUSY { throw VFSError(.busy, "\(path) is in use") }
            if error != EPERM { throw VFSError(systemCall: error, path) }
        }
        try Fusermount.unmount(path, lazy: lazy)
    }

    /// Detaches what has just been mounted, if it is still to be found.
    static func detach(_ device: String, at path: String) {
        if let top = MountTable.top(at: path), top.device == device { try? unmount(top, lazy: true) }
    }

    /// How far the kernel reads ahead. False when we may not say.
    static func set(readAhead bytes: Int, device: String) -> Bool {
        let file = open("/sys/class/bdi/\(device)/read_ahead_kb", O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { close(file) }
        let text = "\(max(4, bytes / 1024))\n"
        return write(file, text, text.utf8.count) > 0
    }

    /// Whether the daemon behind the mount at `path` is gone.
    static func isDead(_ path: String) -> Bool {
        // Unlike stat, which the kernel may answer from its cache, this always asks the daemon.
        var statistics = statvfs()
        return statvfs(path, &statistics) != 0 && errno == ENOTCONN
    }
}
