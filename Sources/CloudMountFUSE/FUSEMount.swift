import CFUSE3
public import CloudMountFilesystem
import CloudMountPlatform
public import CloudMountVFS
import Glibc
import Logging

public struct FUSEMountOptions: Sendable {
    /// First column of `/proc/mounts`, such as `cloudmount:photos`.
    public var source: String
    public var allowOther = false
    public var readOnly = false
    /// No program on it is run (MS_NOEXEC).
    public var noExec = false
    /// No symbolic link on it is followed, though it can be read (MS_NOSYMFOLLOW, Linux 5.10).
    public var noSymlinkFollow = false
    /// The kernel enforces POSIX ACLs, which the file system keeps as extended attributes.
    public var acl = false
    /// The daemon's control socket, for commands that know only the mount's path.
    public var control: String?
    /// Threads that serve requests.
    public var threads = 2
    /// What the kernel reads ahead of a sequential reader, bytes; set on the mount's bdi where permitted.
    public var readAhead = 1 << 20

    public init(source: String) { self.source = source }
}

/// How far the threads of a mount are. Busy with the same number of moves for long, they are stuck.
public struct ServingPulse: Sendable, Equatable {
    /// The next request waits for one that is being served.
    public var isBusy: Bool
    /// Grows with every request.
    public var moves: Int

    public init(isBusy: Bool = false, moves: Int = 0) {
        self.isBusy = isBusy
        self.moves = moves
    }
}

/// A kernel mount served by `operations`, from `init` until it is unmounted by anyone.
///
/// It goes on being served when the value is dropped. Handles that the kernel had not yet released when the last user
/// unmounted are never released: what they hold is the file system's to finish after `waitUntilClosed`.
public final class FUSEMount: Sendable {
    /// As the kernel has it: absolute, without symbolic links.
    public let path: String
    let session: Session
    /// `MAJOR:MINOR`, by which the kernel knows the mounted file system, wherever it shows it; empty when it did not tell.
    public let device: String
    private let notices: Notifier

    /// Mounts at `path` (an existing directory) and starts to serve. As root by mount(2), else through fusermount3.
    ///
    /// Blocks for the time that the kernel takes to greet; call it from a thread that may.
    /// - Throws: `notFound`, `notDirectory`, `busy` (already a mount point), `permissionDenied`, `nameTooLong`, `notSupported`, `io`.
    public init(path: String, options: FUSEMountOptions, operations: any FileOperations) throws(VFSError) {
        let named = try MountTable.resolve(path)
        // What waits there to be covered as soon as anybody looks (autofs) is no mount yet.
        if let mounted = MountTable.top(at: named), mounted.type != "autofs" {
            throw VFSError(.busy, "\(named) is a mount point already (\(mounted.source), \(mounted.type))")
        }
        let point = geteuid() == 0 ? try MountPoint.find(path) : nil
        guard point != nil || geteuid() != 0 else { throw VFSError(systemCall: ENOENT, path) }
        let path = point?.path ?? named
        var status = stat()
        guard point.map({ fstat($0.directory.raw, &status) }) ?? stat(path, &status) == 0 else {
            throw VFSError(systemCall: errno, path)
        }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw VFSError(.notDirectory, "\(path) is not a directory") }

        self.path = path
        session = try Session(operations: operations, acl: options.acl, control: options.control)
        notices = Notifier(session)
        let descriptor = try Mounting.mount(path, options, on: point?.directory)
        let mounted = MountTable.top(at: path)
        device = mounted?.device ?? ""
        // Kernels before it take the flag and forget it.
        if options.noSymlinkFollow, mounted?.options.contains("nosymfollow") != true {
            close(descriptor)
            Mounting.detach(device, at: path)
            throw VFSError(.notSupported, "\(path): this kernel has no nosymfollow; it came with Linux 5.10")
        }
        let name = options.source.split(separator: ":").last.map(String.init) ?? options.source
        try session.start(descriptor: descriptor, threads: max(1, options.threads), name: name)
        session.atEnd { [notices] in notices.close() }
        guard session.waitUntilReady() else {
            Mounting.detach(device, at: path)
            throw VFSError(.io, "\(path): the kernel does not greet")
        }
        if !Mounting.set(readAhead: options.readAhead, device: device) {
            session.log.debug("the kernel's read-ahead stays as it is", metadata: ["path": "\(path)"])
        }
    }

    public var notifier: any KernelNotifier { notices }

    /// Unmounts; does nothing when that has been done already, by anyone. Blocks while the kernel writes back.
    /// - Parameter lazy: detach at once even while files are open (they go on being served until closed).
    /// - Throws: `busy` when files are open and not `lazy`, or when something else is mounted over it; `io`.
    public func unmount(lazy: Bool) throws(VFSError) {
        if session.isClosed { return }
        guard let top = MountTable.top(at: path) else { return }
        guard top.device == device else {
            throw VFSError(.busy, "\(top.source) (\(top.type)) is mounted over \(path)")
        }
        try Mounting.unmount(top, lazy: lazy)
    }

    /// Something is mounted at `path`, and it is this.
    public var isInPlace: Bool {
        !session.isClosed && MountTable.all().contains { $0.device == device && $0.path == Array(path.utf8) }
    }

    /// Mount points inside this one, which keep it from being unmounted.
    public var mountsInside: [String] {
        let prefix = Array(path.utf8) + [UInt8(ascii: "/")]
        return MountTable.all().filter { $0.path.starts(with: prefix) }.map { String(decoding: $0.path, as: UTF8.self) }
    }

    /// Where else this file system is mounted, in words: bind mounts and containers keep it alive when it is unmounted.
    public var otherPlaces: [String] {
        session.isClosed ? [] : MountTable.places(of: device, except: path)
    }

    /// Has the kernel send what it holds of shared writable maps. Blocks as long as it takes to serve that.
    public func writeBack() {
        guard !session.isClosed, let top = MountTable.top(at: path), top.device == device else { return }
        let raw = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else { return }
        let root = Descriptor(owning: raw)
        if MountTable.mount(of: root) == top.id { root.syncFileSystem() }
    }

    /// How the threads that serve the mount move.
    public var pulse: ServingPulse { session.pulse }

    /// Returns when the kernel has closed the session and all threads have ended.
    public func waitUntilClosed() async { await session.waitUntilClosed() }

    /// Detaches a mount of ours left at `path` by a process that died. False when there is none.
    ///
    /// Asks whoever serves the mount, so it may block; call it from a thread that may.
    public static func clearDeadMount(at path: String) throws(VFSError) -> Bool {
        let resolved: String
        do throws(VFSError) {
            resolved = try MountTable.resolve(path)
        } catch {
            if error.code == .notFound { return false }
            throw error
        }
        var cleared = false
        // One over another, when several daemons died here.
        while let top = MountTable.top(at: resolved), top.type == Mounting.type, Mounting.isDead(resolved) {
            try Mounting.unmount(top, lazy: true)
            cleared = true
        }
        return cleared
    }
}
