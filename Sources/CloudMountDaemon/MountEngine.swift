import CloudMountConfig
import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS

/// Brings one mount up. The supervisor knows mounts only by this and `RunningMount`, so that it is tested without a kernel.
protocol MountEngine: Sendable {
    /// Makes contact with the store and mounts. Cancellation gives up.
    func begin(_ mount: Configuration.Mount) async throws(VFSError) -> any RunningMount
}

/// A mount that the kernel shows.
protocol RunningMount: Sendable {
    /// Commits what the store does not have yet; failures are in `statistics`.
    func drain() async
    /// - Throws: `busy` when files are open and not `lazy`.
    func unmount(lazy: Bool) async throws(VFSError)
    /// Returns when the kernel has let go, whoever asked for it.
    func waitUntilClosed() async
    /// Removes the mount's folder if it was made for the mount.
    func cleanUp() async
    /// Goes on with the policy and the defaults of `mount`; open files are not disturbed.
    func apply(_ mount: Configuration.Mount)
    /// Goes on with the credentials of `mount`, once they have proved to work; calls under way end with the old ones.
    /// - Returns: false when the store can do other things with these, so that only a remount will do.
    /// - Throws: what the store has against them; the old ones stay in use.
    func rotateCredentials(_ mount: Configuration.Mount) async throws(VFSError) -> Bool
    func statistics() -> MountStatistics
    func requests() -> [Verb: VerbMeasurement]
    func billedCalls() -> [BilledCalls]
    /// Why the store's credentials allow no writing, where they do not.
    func readOnlyReason() -> String?
    func endpoint() -> (name: String, limit: Int, inFlight: Int, waiting: Int)
    /// What keeps calls from the endpoint; nil when nothing does.
    func outage() -> OutageReport?
    /// What a quota or cap keeps the mount from doing.
    func caps() -> [Caps.Report]
}
