public import CloudMountFilesystem
public import CloudMountVFS

public struct FUSEMountOptions: Sendable {
    /// First column of `/proc/mounts`, such as `cloudmount:photos`.
    public var source: String
    public var allowOther = false
    public var readOnly = false
    /// Threads that serve requests.
    public var threads = 2
    /// What the kernel reads ahead of a sequential reader, bytes; set on the mount's bdi where permitted.
    public var readAhead = 1 << 20

    public init(source: String) { self.source = source }
}

/// A kernel mount served by `operations`, from `init` until it is unmounted by anyone.
public final class FUSEMount: Sendable {
    public let path: String

    /// Mounts at `path` (an existing directory) and starts to serve. As root by mount(2), else through fusermount3.
    /// - Throws: `notFound`, `notDirectory`, `busy` (already a mount point), `permissionDenied`, `io`.
    public init(path: String, options: FUSEMountOptions, operations: any FileOperations) throws(VFSError) {
        self.path = path
    }

    public var notifier: any KernelNotifier { fatalError() }

    /// Unmounts. `lazy` detaches at once even while files are open (they go on being served until closed).
    /// - Throws: `busy` when files are open and not `lazy`.
    public func unmount(lazy: Bool) throws(VFSError) {}

    /// Returns when the kernel has closed the session and all threads have ended.
    public func waitUntilClosed() async {}

    /// Detaches a mount left at `path` by a process that died (stat says ENOTCONN). False when there is none.
    public static func clearDeadMount(at path: String) throws(VFSError) -> Bool { false }
}
