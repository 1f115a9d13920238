import CloudMountConfig
import CloudMountFUSE
import CloudMountFilesystem
import CloudMountLayers
import CloudMountPlatform
import CloudMountStaging
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
    private let endpoints = Mutex<[String: Endpoint]>([:])
    private let folders = MountFolders()
    private let places = MountPlaces()
    private let pool = BlockingPool(name: "cm-mount", width: 32, laneWidth: 2)

    private struct Endpoint {
        weak var load: EndpointLoad?
        var isRemote = false
    }

    init(staging: StagingArea, memory: BufferPool, logger: Logger) {
        self.staging = staging
        self.memory = memory
        self.logger = logger
    }

    func begin(_ mount: Configuration.Mount) async throws(VFSError) -> any RunningMount {
        let place = try places.take()
        let settings = layerSettings(mount)
        let layered = Layers.stack(try await prepared(mount, settings), settings: settings)
        let cannotWrite = layered.provider.capabilities.readOnlyReason
        let readOnly = mount.readOnly || cannotWrite != nil
        if let cannotWrite, !mount.readOnly { settings.logger.warning("mounted read-only: \(cannotWrite)") }
        let bucket = MountedBucket(
            settings: MountSettings(mount, readOnly: readOnly), provider: layered.provider, staging: staging,
            memory: memory, refusesWrites: { layered.caps.writeRefusal })
        return try await pool.run(mount.path) { [pool, folders] () throws(VFSError) in
            try folders.prepare(mount.path)
            do throws(VFSError) {
                let fuse = try FUSEMount(
                    path: mount.path, options: FUSEMountOptions(mount, readOnly: readOnly), operations: bucket)
                bucket.attach(fuse.notifier)
                return KernelMount(
                    fuse: fuse, bucket: bucket, layered: layered, folders: folders, pool: pool, place: place,
                    prepared: { mount throws(VFSError) in
                        try await self.prepared(mount, self.layerSettings(mount))
                    })
            } catch {
                folders.remove(mount.path)
                throw error
            }
        }
    }

    private func layerSettings(_ mount: Configuration.Mount) -> LayerSettings {
        var settings = LayerSettings(
            prefix: ObjectKey(mount.context.prefix), retry: LayerSettings.retryPolicy(mount.policy),
            endpoint: endpoint(of: mount), logger: logger)
        settings.logger[metadataKey: "mount"] = "\(mount.name)"
        return settings
    }

    /// A provider that has made contact with its store.
    private func prepared(
        _ mount: Configuration.Mount, _ settings: LayerSettings
    ) async throws(VFSError) -> any ObjectProvider {
        let provider = try mount.provider.make(mount.context)
        if provider.executor != nil { countConnections(of: settings.endpoint) }
        // The supervisor tries again, and says so; here a second attempt is enough.
        var preparation = settings
        preparation.retry.maxAttempts = 2
        // Nobody waits for it as for a file, and one cut short leaves probes behind.
        preparation.retry.deadline = max(preparation.retry.deadline, .seconds(30))
        preparation.logger.logLevel = .critical
        try await Layers.stack(provider, settings: preparation).provider.prepare(writable: !mount.readOnly)
        return provider
    }

    fileprivate static func endpointName(of mount: Configuration.Mount) -> String {
        "\(mount.provider.name) \(mount.provider.endpoint(mount.context))"
    }

    private func endpoint(of mount: Configuration.Mount) -> EndpointLoad {
        let name = Self.endpointName(of: mount)
        return endpoints.withLock { endpoints in
            endpoints = endpoints.filter { $0.value.load != nil }
            if let known = endpoints[name]?.load { return known }
            let made = EndpointLoad(name, logger: logger)
            endpoints[name] = Endpoint(load: made)
            return made
        }
    }

    /// Calls at `load` take connections: all such endpoints divide those that the process may have.
    private func countConnections(of load: EndpointLoad) {
        endpoints.withLock { endpoints in
            guard endpoints[load.name]?.isRemote == false else { return }
            endpoints[load.name]?.isRemote = true
            let remote = endpoints.values.filter(\.isRemote).compactMap(\.load)
            for load in remote { load.limit.maximum = ProcessLimits.connections(endpoints: remote.count) }
        }
    }
}

private struct KernelMount: RunningMount {
    let fuse: FUSEMount
    let bucket: MountedBucket
    let layered: LayeredProvider
    let folders: MountFolders
    let pool: BlockingPool
    let place: MountPlaces.Place
    let prepared: @Sendable (Configuration.Mount) async throws(VFSError) -> any ObjectProvider

    func apply(_ mount: Configuration.Mount) {
        bucket.update(MountSettings(mount, readOnly: mount.readOnly || readOnlyReason() != nil))
        layered.retry.replace(LayerSettings.retryPolicy(mount.policy))
    }

    func rotateCredentials(_ mount: Configuration.Mount) async throws(VFSError) -> Bool {
        // Those of another account share their limits with others.
        guard layered.endpoint.name == KernelMounts.endpointName(of: mount) else { return false }
        let fresh = try await prepared(mount)
        guard fresh.capabilities == layered.current.now.capabilities else { return false }
        layered.current.replace(fresh)
        return true
    }

    func drain() async {
        // Pages of shared maps are the kernel's until they are asked for.
        await pool.run(fuse.path) { [fuse] in fuse.writeBack() }
        await bucket.drain()
    }

    func unmount(lazy: Bool) async throws(VFSError) {
        try await pool.run(fuse.path) { [fuse] () throws(VFSError) in try fuse.unmount(lazy: lazy) }
    }

    func waitUntilClosed() async { await fuse.waitUntilClosed() }
    func cleanUp() async { await pool.run(fuse.path) { [folders, fuse] in folders.remove(fuse.path) } }
    func statistics() -> MountStatistics { bucket.statistics() }
    func requests() -> [Verb: VerbMeasurement] { layered.measurements.snapshot() }
    func billedCalls() -> [BilledCalls] { layered.provider.billedCalls }
    func readOnlyReason() -> String? { layered.provider.capabilities.readOnlyReason }

    func endpoint() -> (name: String, limit: Int, inFlight: Int, waiting: Int) {
        let load = layered.endpoint.limit.current
        return (layered.endpoint.name, load.limit, load.inFlight, load.waiting)
    }

    func outage() -> OutageReport? { layered.endpoint.breaker.outage }
    func caps() -> [Caps.Report] { layered.caps.current }
}

extension MountSettings {
    init(_ mount: Configuration.Mount, readOnly: Bool) {
        self.init(name: mount.name, uid: mount.uid, gid: mount.gid)
        filePermissions = 0o666 & ~mount.umask
        directoryPermissions = 0o777 & ~mount.umask
        self.readOnly = readOnly
        policy = mount.policy
    }
}

extension FUSEMountOptions {
    init(_ mount: Configuration.Mount, readOnly: Bool) {
        self.init(source: "cloudmount:\(mount.name)")
        allowOther = mount.allowOther
        self.readOnly = readOnly
    }
}
