public import CloudMountCache
public import CloudMountPlatform
public import CloudMountVFS

/// One bucket (or a prefix of one) as a file system.
public final class MountedBucket: Sendable {
    public let settings: MountSettings

    /// - Parameters:
    ///   - provider: prepared, and already wrapped in its layers.
    ///   - staging: where the bytes of writers are kept until they are committed; shared by all mounts.
    ///   - memory: the process-wide budget for bytes read ahead; shared by all mounts.
    public init(settings: MountSettings, provider: any ObjectProvider, staging: StagingArea, memory: BufferPool) {
        self.settings = settings
    }

    /// Whom to tell of changes that the kernel must learn of; set once, before the first request.
    public func attach(_ notifier: any KernelNotifier) {}

    /// Commits what open files hold that the store does not have. Failures stay in `statistics`.
    public func drain() async {}

    public func statistics() -> MountStatistics { MountStatistics() }
}
