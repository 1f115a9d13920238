import CloudMountCache
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
    private let journal: Journal?
    private let versions: VersionStore?
    private let names: NamesFolder?
    private let memory: BufferPool
    private let logger: Logger
    /// Mounts of one store draw on one endpoint's limits.
    private let endpoints = Mutex<[String: Endpoint]>([:])
    private let folders = MountFolders()
    private let places = MountPlaces()
    /// The control socket, which a mount's root tells of.
    private let control: String
    /// By path: a folder that hangs keeps the mounts of others from nothing.
    private let work = Mutex<[String: MountWork]>([:])

    private struct Endpoint {
        weak var load: EndpointLoad?
        var isRemote = false
    }

    init(
        staging: StagingArea, journal: Journal?, versions: VersionStore?, names: NamesFolder?, memory: BufferPool,
        control: String, logger: Logger
    ) {
        self.staging = staging
        self.versions = versions
        self.names = names
        self.journal = journal
        self.memory = memory
        self.control = control
        self.logger = logger
    }

    @concurrent func begin(_ mount: Configuration.Mount) async throws(VFSError) -> any RunningMount {
        let place = try places.take()
        let settings = try layerSettings(mount)
        let contact = try await contact(mount, settings)
        let layered = Layers.stack(contact.provider, settings: settings)
        layered.reach.contact = contact.start
        let cannotWrite = layered.provider.capabilities.readOnlyReason
        let readOnly = mount.readOnly || cannotWrite != nil
        if let cannotWrite, !mount.readOnly { settings.logger.warning("mounted read-only: \(cannotWrite)") }
        let bucket = MountedBucket(
            settings: MountSettings(mount, endpoint: settings.endpoint.name, readOnly: readOnly),
            provider: layered.provider, staging: staging, memory: memory, journal: journal, versions: versions,
            names: names,
            refusesWrites: { layered.caps.writeRefusal }, isCutOff: { layered.isCutOff })
        await BlockingPool.shared.run("names") { bucket.upkeep.takeUpNames() }
        let leavings = bucket.upkeep.recovery.leavings
        let recovered = try await recover(bucket.upkeep.recovery, isReadOnly: readOnly, settings.logger)
        var options = FUSEMountOptions(mount, readOnly: readOnly)
        options.control = control
        let work = self.work.withLock { all in
            let work = all[mount.path] ?? MountWork()
            all[mount.path] = work
            return work
        }
        // Told to end, the process waits a moment for the kernel: a mount that came up behind it would stay, and be dead.
        let made = await work.run(
            .mount, limit: .seconds(30), grace: .milliseconds(2500), late: Self.undo
        ) { [options, folders] in
            Result { () throws(VFSError) in
                try folders.prepare(mount.path)
                do throws(VFSError) {
                    let fuse = try FUSEMount(path: mount.path, options: options, operations: bucket)
                    bucket.attach(fuse.notifier)
                    return KernelMount(
                        fuse: fuse, bucket: bucket, layered: layered, contact: contact, folders: folders, place: place,
                        prepared: { mount throws(VFSError) in
                            try await self.prepared(mount, self.layerSettings(mount))
                        })
                } catch {
                    folders.remove(mount.path)
                    throw error
                }
            }
        }
        guard let made else {
            throw VFSError(.timedOut, "the folder \(mount.path), or the kernel, does not answer")
        }
        let running = try made.get()
        bucket.upkeep.recovery.start()
        Task { [weak bucket] in await contact.run(layered, settings.logger, while: { [weak bucket] in bucket != nil }) }
        recoverLater(
            bucket, isReadOnly: readOnly, since: recovered.held > 0 ? -1 : leavings, settings.logger)
        return running
    }

    /// Nobody waits any more for a mount that came up at last.
    private static func undo(_ made: Result<KernelMount, VFSError>) async {
        guard case .success(let mount) = made else { return }
        try? await mount.unmount(lazy: true)
        await mount.cleanUp()
    }

    private func layerSettings(_ mount: Configuration.Mount) throws(VFSError) -> LayerSettings {
        var settings = LayerSettings(
            prefix: ObjectKey(mount.context.prefix), retry: LayerSettings.retryPolicy(mount.policy),
            endpoint: try endpoint(of: mount), logger: logger)
        settings.logger[metadataKey: "mount"] = "\(mount.name)"
        return settings
    }

    /// What an earlier run could not store goes on behind the mount.
    private func recover(
        _ recovery: Recovery, isReadOnly: Bool, _ logger: Logger
    ) async throws(VFSError) -> Recovery.Count {
        let count = try await BlockingPool.shared.run("journal") { () throws(VFSError) in
            try recovery.run(isReadOnly: isReadOnly)
        }
        if count.restored > 0 {
            logger.notice("\(count.restored) files that an earlier run has not stored are being stored")
        }
        return count
    }

    /// An earlier life of the mount may not have ended: what it leaves is taken up when it has.
    private func recoverLater(_ bucket: MountedBucket, isReadOnly: Bool, since start: Int, _ logger: Logger) {
        Task { [weak bucket] in
            var seen = start
            while true {
                try? await Task.sleep(for: .seconds(2))
                guard let recovery = bucket?.upkeep.recovery else { return }
                let now = recovery.leavings
                if now == seen { continue }
                let count = await attempt { () async throws(VFSError) in
                    try await self.recover(recovery, isReadOnly: isReadOnly, logger)
                }
                if case .success(let count) = count, count.held == 0 || seen == now { seen = now }
            }
        }
    }

    private func contact(
        _ mount: Configuration.Mount, _ settings: LayerSettings
    ) async throws(VFSError) -> FirstContact {
        let provider = try made(mount, settings)
        let known = KnownStore(mount, endpoint: settings.endpoint.name, in: FindingsFolder(in: staging.directory))
        return try await FirstContact(provider, known: known, servesKnown: mount.policy.offline == .serve) {
            () async throws(VFSError) in
            try await Self.prepare(provider, mount, settings)
        }
    }

    /// A provider that has made contact with its store.
    private func prepared(
        _ mount: Configuration.Mount, _ settings: LayerSettings
    ) async throws(VFSError) -> any ObjectProvider {
        let provider = try made(mount, settings)
        try await Self.prepare(provider, mount, settings)
        return provider
    }

    private func made(
        _ mount: Configuration.Mount, _ settings: LayerSettings
    ) throws(VFSError) -> any ObjectProvider {
        var context = mount.context
        context.memory = FindingsFolder(in: staging.directory)
        let provider = try mount.provider.make(context)
        if provider.executor != nil { countConnections(of: settings.endpoint) }
        return provider
    }

    private static func prepare(
        _ provider: any ObjectProvider, _ mount: Configuration.Mount, _ settings: LayerSettings
    ) async throws(VFSError) {
        // The supervisor tries again, and says so; here a second attempt is enough.
        var preparation = settings
        preparation.retry.maxAttempts = 2
        // Nobody waits for it as for a file, and one cut short leaves probes behind.
        preparation.retry.deadline = max(preparation.retry.deadline, .seconds(30))
        preparation.logger.logLevel = .critical
        try await Layers.stack(provider, settings: preparation).provider.prepare(writable: !mount.readOnly)
    }

    private func endpoint(of mount: Configuration.Mount) throws(VFSError) -> EndpointLoad {
        let name = try mount.endpointName
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
    let contact: FirstContact
    let folders: MountFolders
    let place: MountPlaces.Place
    let prepared: @Sendable (Configuration.Mount) async throws(VFSError) -> any ObjectProvider
    let work = MountWork()

    func apply(_ mount: Configuration.Mount) {
        bucket.update(
            MountSettings(
                mount, endpoint: layered.endpoint.name, readOnly: mount.readOnly || readOnlyReason() != nil))
        layered.retry.replace(LayerSettings.retryPolicy(mount.policy))
    }

    @concurrent func rotateCredentials(_ mount: Configuration.Mount) async throws(VFSError) -> Bool {
        // Those of another account share their limits with others.
        guard try layered.endpoint.name == mount.endpointName else { return false }
        let answer = await within(.seconds(90)) { [prepared] () -> Result<any ObjectProvider, VFSError> in
            do throws(VFSError) { return .success(try await prepared(mount)) } catch { return .failure(error) }
        }
        guard let answer else { throw VFSError(.timedOut, "the store does not answer") }
        let fresh = try answer.get()
        guard fresh.capabilities == layered.current.now.capabilities else { return false }
        layered.current.replace(fresh)
        layered.reach.contact = .made
        return true
    }

    var reach: Reach { layered.reach }
    func whenOutdated(_ tell: @escaping @Sendable () -> Void) { contact.whenOutdated(tell) }

    var device: String { fuse.device }
    var servingPulse: ServingPulse { fuse.pulse }
    var executor: (any TaskExecutor)? { layered.provider.executor }

    @concurrent func drain() async {
        await takePages()
        await bucket.drain()
    }

    @concurrent func sync(_ paths: [ObjectKey], retries: Bool, _ progress: SyncProgress) async {
        await takePages()
        await bucket.upkeep.sync.run(paths, retries: retries, progress)
    }

    @concurrent func refresh(_ path: ObjectKey) async { await bucket.upkeep.invalidator.invalidate(path) }

    func kept() -> [MountStatistics.FailedCommit] { bucket.upkeep.kept() }

    @concurrent func discard(_ kept: MountStatistics.FailedCommit) async throws(VFSError) {
        try await bucket.upkeep.discard(kept)
    }

    /// Pages of shared maps are the kernel's until they are asked for.
    private func takePages() async {
        await work.run(.writeBack, limit: .seconds(60)) { [fuse] in fuse.writeBack() }
    }

    @concurrent func unmount(lazy: Bool) async throws(VFSError) {
        let done = await work.run(lazy ? .detach : .unmount, limit: .seconds(30)) { [fuse] in
            Result { () throws(VFSError) in try fuse.unmount(lazy: lazy) }
        }
        guard let done else { throw VFSError(.timedOut, "the kernel does not answer the unmount of \(fuse.path)") }
        try done.get()
    }

    @concurrent func uses() async -> MountUses {
        await work.run(.look, limit: .seconds(2)) { [fuse] in
            MountUses(inside: fuse.mountsInside, elsewhere: fuse.otherPlaces)
        } ?? MountUses()
    }

    @concurrent func isInPlace() async -> Bool {
        await work.run(.look, limit: .seconds(2)) { [fuse] in fuse.isInPlace } ?? true
    }

    func setReadOnly(_ on: Bool) { bucket.setReadOnly(on) }
    @concurrent func waitUntilClosed() async { await fuse.waitUntilClosed() }
    @concurrent func saveNames() async {
        await BlockingPool.shared.run("names") { [bucket] in bucket.upkeep.saveNames() }
    }
    @concurrent func cleanUp() async {
        await work.run(.cleanUp, limit: .seconds(5)) { [folders, fuse] in folders.remove(fuse.path) }
    }
    func statistics() -> MountStatistics { bucket.statistics() }
    func requests() -> [Verb: VerbMeasurement] { layered.measurements.snapshot() }
    func billedCalls() -> [BilledCalls] { layered.provider.billedCalls }
    func credentials() -> CredentialReport? { layered.provider.credentials }
    func readOnlyReason() -> String? { layered.provider.capabilities.readOnlyReason }

    func endpoint() -> (name: String, limit: Int, inFlight: Int, waiting: Int) {
        let load = layered.endpoint.limit.current
        return (layered.endpoint.name, load.limit, load.inFlight, load.waiting)
    }

    func outage() -> OutageReport? { layered.endpoint.breaker.outage }
    func caps() -> [Caps.Report] { layered.caps.current }
}

extension MountSettings {
    /// - Parameter endpoint: the name of the one that the mount was made for.
    init(_ mount: Configuration.Mount, endpoint: String, readOnly: Bool) {
        self.init(name: mount.name, uid: mount.uid, gid: mount.gid)
        store = "\(endpoint) \(mount.context.bucket)/\(mount.context.prefix)"
        filePermissions = 0o666 & ~mount.umask
        directoryPermissions = 0o777 & ~mount.umask
        self.readOnly = readOnly
        acl = mount.acl
        forced.uid = mount.forceUID
        forced.gid = mount.forceGID
        forced.filePermissions = mount.fileMode
        forced.directoryPermissions = mount.directoryMode
        symlinks = mount.symlinks
        policy = mount.policy
    }
}

extension FUSEMountOptions {
    init(_ mount: Configuration.Mount, readOnly: Bool) {
        self.init(source: "cloudmount:\(mount.name)")
        allowOther = mount.allowOther
        acl = mount.acl
        noExec = !mount.exec
        noSymlinkFollow = mount.noSymlinkFollow
        self.readOnly = readOnly
    }
}
