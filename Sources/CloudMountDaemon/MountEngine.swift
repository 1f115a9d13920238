import CloudMountConfig
import CloudMountFUSE
import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS

/// Brings one mount up. The supervisor knows mounts only by this and `RunningMount`, so that it is tested without a kernel.
protocol MountEngine: Sendable {
    /// Makes contact with the store and mounts. Cancellation gives up.
    @concurrent func begin(_ mount: Configuration.Mount) async throws(VFSError) -> any RunningMount
}

/// Other mounts that a mount is in use by.
struct MountUses: Sendable {
    /// Mount points inside it: they keep it from being unmounted.
    var inside: [String] = []
    /// Where else it is mounted, by `mount --bind` or in a container: there it goes on when it has been unmounted.
    var elsewhere: [String] = []

    var insideText: String? {
        inside.isEmpty ? nil : "something is mounted inside it: \(Self.list(inside))"
    }

    /// For a mount that has been unmounted and goes on.
    var elsewhereText: String {
        "unmounted here and still in use"
            + (elsewhere.isEmpty ? " by open files" : " elsewhere: \(Self.list(elsewhere))") + "; it ends with that"
    }

    private static func list(_ places: [String]) -> String {
        places.prefix(3).joined(separator: ", ") + (places.count > 3 ? " and \(places.count - 3) more" : "")
    }
}

/// A mount that the kernel shows. What is asynchronous never runs on `Supervision`.
protocol RunningMount: Sendable {
    /// By which the kernel knows it: `MAJOR:MINOR`; empty when that is not known.
    var device: String { get }
    /// How the threads that serve it move.
    var servingPulse: ServingPulse { get }
    /// On whose thread its transfers run, if not anywhere.
    var executor: (any TaskExecutor)? { get }
    /// As `StoreSync.run`.
    @concurrent func sync(_ paths: [ObjectKey], retries: Bool, _ progress: SyncProgress) async
    /// As `Invalidator.invalidate`.
    @concurrent func refresh(_ path: ObjectKey) async
    /// Commits what the store does not have yet; failures are in `statistics`.
    @concurrent func drain() async
    /// What will never be stored by itself. Blocks on local disk.
    func kept() -> [MountStatistics.FailedCommit]
    /// Takes away what is kept of one of them.
    @concurrent func discard(_ kept: MountStatistics.FailedCommit) async throws(VFSError)
    /// - Throws: `busy` when files are open and not `lazy`; `timedOut` when the kernel does not answer.
    @concurrent func unmount(lazy: Bool) async throws(VFSError)
    /// It is where it was mounted: not unmounted by somebody while a bind mount or a container keeps it alive.
    @concurrent func isInPlace() async -> Bool
    /// What uses the mount, as far as can be told: other mounts, not programs.
    @concurrent func uses() async -> MountUses
    /// Refuses changes from now on, or takes them again.
    func setReadOnly(_ on: Bool)
    /// Returns when the kernel has let go, whoever asked for it.
    @concurrent func waitUntilClosed() async
    /// Writes down what is known of names, for the next start: the kernel has let go, and what can be stored is.
    @concurrent func saveNames() async
    /// Removes the mount's folder if it was made for the mount.
    @concurrent func cleanUp() async
    /// Goes on with the policy and the defaults of `mount`; open files are not disturbed.
    func apply(_ mount: Configuration.Mount)
    /// Goes on with the credentials of `mount`, once they have proved to work; calls under way end with the old ones.
    /// - Returns: false when the store can do other things with these, so that only a remount will do.
    /// - Throws: what the store has against them; the old ones stay in use.
    @concurrent func rotateCredentials(_ mount: Configuration.Mount) async throws(VFSError) -> Bool
    /// Whether it asks its store at all.
    var reach: Reach { get }
    /// - Parameter tell: called when the store has been reached and can do other things than the mount believes: it is to be mounted anew.
    func whenOutdated(_ tell: @escaping @Sendable () -> Void)
    func statistics() -> MountStatistics
    func requests() -> [Verb: VerbMeasurement]
    func billedCalls() -> [BilledCalls]
    /// Whose name calls are made in, where more is known than the configuration says.
    func credentials() -> CredentialReport?
    /// Why the store's credentials allow no writing, where they do not.
    func readOnlyReason() -> String?
    func endpoint() -> (name: String, limit: Int, inFlight: Int, waiting: Int)
    /// What keeps calls from the endpoint; nil when nothing does.
    func outage() -> OutageReport?
    /// What a quota or cap keeps the mount from doing.
    func caps() -> [Caps.Report]
}
