import CloudMountCache
import CloudMountConfig
import CloudMountFUSE
import CloudMountFilesystem
import CloudMountLayers
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Logging
import Synchronization

/// Mounts buckets through the kernel; what all mounts share lives here.
final class KernelMounts: MountEngine {
    private let staging: StagingArea
    private let memory: BufferPool
    private let logger: Logger
    /// Mounts of one store draw on one endpoint's limits.
    private let endpoints = Mutex<[String: EndpointLoad]>([:])
    private let folders = MountFolders()
    private let pool = BlockingPool(name: "cm-mount", width: 8)

    init(staging: StagingArea, memory: BufferPool, logger: Logger) {
        self.staging = staging
        self.memory = memory
        self.logger = logger
    }

    func begin(_ mount: Configuration.Mount) async throws(VFSError) -> any RunningMount {
        let provider = try mount.provider.make(mount.context)
        var settings = LayerSettings(
            prefix: ObjectKey(mount.context.prefix), retry: LayerSettings.retryPolicy(mount.policy),
            endpoint: endpoint(of: mount), logger: logger)
        settings.logger[metadataKey: "mount"] = "\(mount.name)"
        // The supervisor tries again, and says so; here a second attempt is enough.
        var preparation = settings
        preparation.retry.maxAttempts = 2
        preparation.logger.logLevel = .critical
        try await Layers.stack(provider, settings: preparation).provider.prepare(writable: !mount.readOnly)

        let layered = Layers.stack(provider, settings: settings)
        let bucket = MountedBucket(
            settings: MountSettings(mount), provider: layered.provider, staging: staging, memory: memory)
        return try await pool.run { [pool, folders] () throws(VFSError) in
            try folders.prepare(mount.path)
            do throws(VFSError) {
                let fuse = try FUSEMount(
                    path: mount.path, options: FUSEMountOptions(mount), operations: bucket)
                bucket.attach(fuse.notifier)
                return KernelMount(fuse: fuse, bucket: bucket, layered: layered, folders: folders, pool: pool)
            } catch {
                folders.remove(mount.path)
                throw error
            }
        }
    }

    private func endpoint(of mount: Configuration.Mount) -> EndpointLoad {
        let name = "\(mount.provider.name) \(mount.provider.endpoint(mount.context))"
        return endpoints.withLock { endpoints in
            if let known = endpoints[name] { return known }
            let made = EndpointLoad(name)
            endpoints[name] = made
            return made
        }
    }
}

private struct KernelMount: RunningMount {
    let fuse: FUSEMount
    let bucket: MountedBucket
    let layered: LayeredProvider
    let folders: MountFolders
    let pool: BlockingPool

    func drain() async { await bucket.drain() }

    func unmount(lazy: Bool) async throws(VFSError) {
        try await pool.run { [fuse] () throws(VFSError) in try fuse.unmount(lazy: lazy) }
    }

    func waitUntilClosed() async { await fuse.waitUntilClosed() }
    func cleanUp() async { await pool.run { [folders, fuse] in folders.remove(fuse.path) } }
    func statistics() -> MountStatistics { bucket.statistics() }
    func requests() -> [Verb: VerbMeasurement] { layered.measurements.snapshot() }

    func endpoint() -> (name: String, limit: Int, inFlight: Int, waiting: Int) {
        let load = layered.endpoint.limit.current
        return (layered.endpoint.name, load.limit, load.inFlight, load.waiting)
    }
}

extension MountSettings {
    init(_ mount: Configuration.Mount) {
        self.init(name: mount.name, uid: mount.uid, gid: mount.gid)
        filePermissions = 0o666 & ~mount.umask
        directoryPermissions = 0o777 & ~mount.umask
        readOnly = mount.readOnly
        policy = mount.policy
    }
}

extension FUSEMountOptions {
    init(_ mount: Configuration.Mount) {
        self.init(source: "cloudmount:\(mount.name)")
        allowOther = mount.allowOther
        readOnly = mount.readOnly
    }
}
