import CloudMountConfig
import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import Logging

/// One life of one mount: starting → mounted → draining → ended; a failure to start leads to failed and back to starting.
/// A mount that is remounted gets another life, so that the old one may still drain while the new one serves.
///
/// What others do for it (stores, the kernel, programs) it waits for within `Limits`.
@Supervision
final class MountLife {
    typealias ID = Int

    enum Phase {
        case starting
        case failed(VFSError, retryAt: ContinuousClock.Instant)
        case mounted(any RunningMount)
        /// On its way out: asked to, or unmounted by somebody.
        case draining(any RunningMount)
        case ended(Ending)
    }

    /// What a mount left behind.
    struct Ending: Sendable {
        var dirtyFiles = 0
        var dirtyBytes = 0
        /// Files whose bytes the store did not take.
        var stagedPaths: [String] = []

        var isClean: Bool { dirtyFiles == 0 && stagedPaths.isEmpty }

        /// For a person, when it is not clean.
        var text: String {
            let files = max(dirtyFiles, stagedPaths.count)
            let places = stagedPaths.filter { !$0.isEmpty }.prefix(10).joined(separator: ", ")
            return "\(files) \(files == 1 ? "file" : "files") with \(dirtyBytes) bytes could not be stored"
                + (places.isEmpty ? "" : "; the bytes are kept in \(places)")
        }
    }

    /// What a reload wants of a mount that is in use.
    enum Pending: Sendable {
        case removal
        case remount(Configuration.Mount)
    }

    /// How long is waited; what takes longer goes on by itself.
    struct Limits: Sendable {
        /// For a store and the kernel to bring a mount up; then it is tried again.
        var start = Duration.seconds(300)
        /// For the kernel to let go of what has been unmounted: bind mounts and containers may keep it for ever.
        var end = Duration.seconds(3)
        /// For a drain that a reload waits for.
        var reload = Duration.seconds(10)
        /// For a drain of which nothing is to be seen: no call to the store is under way, and none has ended. Calls have
        /// deadlines of their own.
        var stall = Duration.seconds(60)
    }

    /// What all lives have in common.
    struct Surroundings: Sendable {
        var engine: any MountEngine
        var logger: Logger
        /// Takes one line for a person.
        var announce: @Sendable (String) -> Void
        var limits: Limits
        /// Sleeps; returns early when its task is cancelled.
        var pause: @Sendable (Duration) async -> Void
    }

    /// As `status` is told.
    struct Look: Sendable {
        var id: ID
        var mount: Configuration.Mount
        var phase: Phase
        var pending: String?
        /// By `mount -o remount`.
        var isReadOnly: Bool
    }

    let id: ID
    /// As it is in use.
    var mount: Configuration.Mount
    private(set) var phase = Phase.starting
    private(set) var isUnwanted = false
    /// It came up, failed or was given up once.
    private(set) var wasTried = false
    /// Out of the file system: nobody can reach it any more, but open files may keep it alive.
    private(set) var isDetached = false
    var pending: Pending?
    var pendingReason: String?
    /// Mounted in its place when it has ended.
    var successor: Configuration.Mount?
    /// Leaves the table when it has ended.
    var isForgotten = false
    /// Called once, when it has ended.
    var whenEnded: @Supervision (MountLife, Ending) -> Void = { _, _ in }
    /// Called when it is to be remounted though no reload has asked for that.
    var whenPending: @Supervision () -> Void = {}
    /// The attempt or the pause that a stop interrupts.
    private var interrupt: (@Sendable () -> Void)?
    /// Its settings are others by now, or it shall be tried again at once.
    private var isRestarted = false
    /// The kernel has let go of it: what is left is drained, and then it ends.
    private var isClosed = false
    /// What keeps it alive though it has been unmounted.
    private var held: String?
    /// A reload's drain is under way.
    private var isDraining = false
    /// `mount -o remount` has made it read-only.
    private var isReadOnly = false
    /// Resumed when it has ended.
    private var waiters: [CheckedContinuation<Void, Never>] = []
    private let around: Surroundings

    nonisolated init(_ id: ID, _ mount: Configuration.Mount, _ around: Surroundings) {
        self.id = id
        self.mount = mount
        self.around = around
    }

    var name: String { mount.name }
    var hasNotEnded: Bool { if case .ended = phase { false } else { true } }
    var isMounted: Bool { if case .mounted = phase { true } else { false } }
    var isStarting: Bool { if case .starting = phase { !isUnwanted } else { false } }

    /// Why it is not up.
    var failureText: String? { if case .failed(let error, _) = phase { error.description } else { nil } }

    /// While there is something that serves.
    var running: (any RunningMount)? {
        switch phase {
        case .mounted(let running), .draining(let running): running
        default: nil
        }
    }

    var look: Look {
        Look(id: id, mount: mount, phase: phase, pending: pendingText ?? held, isReadOnly: isReadOnly)
    }

    private var pendingText: String? {
        let what: String
        switch pending {
        case nil: return nil
        case .removal: what = "to be removed"
        case .remount: what = "to be remounted"
        }
        return what + (pendingReason.map { ": \($0)" } ?? "")
    }

    /// What a mount holds just now, asked for outside `Supervision`: it may have to wait for the mount's own doings.
    @concurrent static func statistics(_ running: any RunningMount) async -> MountStatistics { running.statistics() }

    private static func ending(_ running: any RunningMount) async -> Ending {
        let statistics = await statistics(running)
        return Ending(
            dirtyFiles: statistics.dirtyFiles, dirtyBytes: statistics.dirtyBytes,
            stagedPaths: statistics.failedCommits.compactMap { $0.isFinal ? nil : $0.stagedPath })
    }

    // MARK: Up

    /// From the first attempt to the end.
    func serve() async {
        var backOff = BackOff()
        var told: VFSError.Code?
        while !isUnwanted {
            let mount = mount
            phase = .starting
            isRestarted = false
            let attempt = Task { [around] in await Self.attempt(mount, around) }
            interrupt = { attempt.cancel() }
            switch await attempt.value {
            case .success(let running):
                if !hasNotEnded || isRestarted && !isUnwanted {
                    // It is given up or to be another one; nobody can have begun to use it.
                    await Self.undo(running, around.limits)
                    continue
                }
                await serve(running)
                return
            case .failure(let error):
                if isUnwanted { break }
                if isRestarted {
                    (backOff, told) = (BackOff(), nil)
                    continue
                }
                let delay = backOff.pause()
                phase = .failed(error, retryAt: .now + delay)
                wasTried = true
                // Once per kind of failure: it may last for days.
                around.logger.log(
                    level: told == error.code ? .info : .error,
                    "mount '\(mount.name)' failed: \(error.description); trying again in \(Units.text(delay))")
                told = error.code
                let sleep = Task { [around] in await around.pause(delay) }
                interrupt = { sleep.cancel() }
                await sleep.value
                if isRestarted { (backOff, told) = (BackOff(), nil) }
            }
        }
        end(Ending())
    }

    private static func attempt(
        _ mount: Configuration.Mount, _ around: Surroundings
    ) async -> Result<any RunningMount, VFSError> {
        let (engine, limits) = (around.engine, around.limits)
        let late: @Sendable (Result<any RunningMount, VFSError>) async -> Void = { result in
            if case .success(let running) = result { await undo(running, limits) }
        }
        let result = await within(limits.start, cancelling: true, grace: limits.end, late: late) {
            () -> Result<any RunningMount, VFSError> in
            do throws(VFSError) { return .success(try await engine.begin(mount)) } catch { return .failure(error) }
        }
        return result ?? .failure(VFSError(.timedOut, "it did not come up within \(Units.text(limits.start))"))
    }

    /// Takes down what nobody can have begun to use.
    private static func undo(_ running: any RunningMount, _ limits: Limits) async {
        try? await running.unmount(lazy: true)
        _ = await within(limits.end) { await running.waitUntilClosed() }
        await running.cleanUp()
    }

    private func serve(_ running: any RunningMount) async {
        interrupt = nil
        phase = .mounted(running)
        wasTried = true
        around.announce("\(name): \(mount.provider.name) \(mount.context.bucket) is mounted at \(mount.path)")
        if isUnwanted { Task { await self.takeDown(running) } }
        running.whenOutdated { [weak self] in Task { await self?.outdated() } }
        await running.waitUntilClosed()
        guard hasNotEnded else { return }
        phase = .draining(running)
        isClosed = true
        await drain(running)
        _ = await within(around.limits.stall) { await running.saveNames() }
        await running.cleanUp()
        end(await Self.ending(running))
    }

    private func outdated() {
        guard isMounted, !isUnwanted, pending == nil else { return }
        pending = .remount(mount)
        pendingReason = "the store can do other things than when it was last reached"
        whenPending()
    }

    /// Starts again, as the file has it now: nobody uses it.
    func restart(as mount: Configuration.Mount) {
        self.mount = mount
        isRestarted = true
        phase = .starting
        interrupt?()
    }

    /// What was in the way of a failed one is so no more.
    func retry() { if case .failed = phase { interrupt?() } }

    // MARK: Down

    /// Stores what the store does not have yet; given up when nothing is to be seen of it.
    private func drain(_ running: any RunningMount) async {
        @Sendable func calls() -> (ended: Int, underWay: Int) {
            running.requests().values.reduce((0, 0)) { ($0.0 + $1.calls, $0.1 + $1.inFlight) }
        }
        let before = await within(around.limits.end) { await Self.statistics(running) }
        let work = Task { await running.drain() }
        var ended = calls().ended
        while await within(around.limits.stall, { await work.value }) == nil {
            let now = calls()
            if now.underWay == 0, now.ended == ended {
                around.logger.error("mount '\(name)' stores nothing any more; it is not waited for")
                return
            }
            ended = now.ended
        }
        guard let before, before.dirtyFiles > 0 else { return }
        let left = await Self.statistics(running)
        let files = max(0, before.dirtyFiles - left.dirtyFiles)
        let bytes = Units.rounded(bytes: max(0, before.dirtyBytes - left.dirtyBytes))
        around.announce("\(name): drained: \(files) of \(before.dirtyFiles) files stored, \(bytes)")
    }

    /// The same within the limit of a reload. One at a time: an earlier one goes on meanwhile.
    /// - Returns: false when it is not at its end.
    func drainForReload(_ running: any RunningMount) async -> Bool {
        guard !isDraining else { return false }
        isDraining = true
        return await within(around.limits.reload) {
            await running.drain()
            await self.drained()
        } != nil
    }

    private func drained() { isDraining = false }

    private func end(_ ending: Ending) {
        guard hasNotEnded else { return }
        if case .draining = phase {
            around.announce("\(name): unmounted" + (ending.isClean ? "" : "; \(ending.text)"))
        }
        phase = .ended(ending)
        wasTried = true
        if case .removal = pending { isForgotten = true }
        pending = nil
        for waiter in waiters { waiter.resume() }
        waiters = []
        whenEnded(self, ending)
    }

    /// It shall not begin, or end.
    func refuse() {
        isUnwanted = true
        interrupt?()
    }

    /// Ends it, with what it holds stored.
    func discard() {
        successor = nil
        refuse()
        if let running { Task { await self.takeDown(running) } }
    }

    /// The daemon is ending: whatever holds the mount, it goes.
    private func takeDown(_ running: any RunningMount) async {
        guard hasNotEnded else { return }
        phase = .draining(running)
        await drain(running)
        // About 2.5 s for programs to let go.
        for attempt in 0..<9 {
            guard hasNotEnded else { return }
            do throws(VFSError) {
                if !isDetached { try await running.unmount(lazy: false) }
                isDetached = true
                break
            } catch {
                guard error.code == .busy else {
                    around.logger.error("mount '\(name)' cannot be unmounted: \(error.description)")
                    break
                }
            }
            await around.pause(.milliseconds(5 << attempt))
        }
        if isDetached, await waitForEnd() { return }
        guard hasNotEnded, !isClosed else { return }
        around.logger.warning("mount '\(name)' is in use; programs with files open there will see errors")
        if !isDetached { try? await running.unmount(lazy: true) }
        await drain(running)
        await running.cleanUp()
        end(await Self.ending(running))
    }

    /// Ends it now, drained or not.
    func abandon() async {
        successor = nil
        refuse()
        if let running {
            try? await running.unmount(lazy: true)
            end(await Self.ending(running))
        } else {
            end(Ending())
        }
    }

    /// Unmounts on request.
    /// - Returns: why not, or what a person should know.
    func unmount(lazy: Bool) async -> (refusal: String?, remark: String?) {
        guard case .mounted(let running) = phase else {
            if case .draining = phase, let held { return (nil, "\(name): \(held)") }
            discard()
            return (nil, nil)
        }
        let name = name
        await drain(running)
        let left = await Self.ending(running)
        do throws(VFSError) {
            try await detach(running, lazy: lazy)
        } catch {
            guard error.code == .busy else { return ("\(name): \(error.description)", nil) }
            let what = await running.uses().insideText ?? "files are open or a program works in it"
            return ("\(name) is in use: \(what) (--lazy detaches it)", nil)
        }
        var remark = left.isClean ? nil : "\(name): \(left.text)"
        if !lazy, let held = await waitForEnd(running) {
            remark = [remark, "\(name): \(held)"].compactMap { $0 }.joined(separator: "; ")
        }
        return (nil, remark)
    }

    /// Takes it out of the file system; its end follows when the kernel has let go of it.
    func detach(_ running: any RunningMount, lazy: Bool) async throws(VFSError) {
        try await running.unmount(lazy: lazy)
        isDetached = true
        if isMounted { phase = .draining(running) }
    }

    /// What somebody has unmounted, and something keeps alive elsewhere, is on its way out.
    func noteUnmounted() async {
        guard case .mounted(let running) = phase, await !running.isInPlace() else { return }
        let held = await running.uses().elsewhereText
        guard isMounted else { return }
        phase = .draining(running)
        isDetached = true
        self.held = held
    }

    /// Waits for the end of what has been detached, within the limit.
    /// - Returns: what keeps it alive; nil when it has ended.
    func waitForEnd(_ running: any RunningMount) async -> String? {
        if await waitForEnd() { return nil }
        let held = await running.uses().elsewhereText
        guard hasNotEnded else { return nil }
        self.held = held
        around.logger.warning("mount '\(name)': \(held)")
        return held
    }

    /// - Returns: false when it does not end within the limit.
    func waitForEnd() async -> Bool { await within(around.limits.end) { await self.untilEnd() } != nil }

    private func untilEnd() async {
        guard hasNotEnded else { return }
        await withCheckedContinuation { waiters.append($0) }
    }

    // MARK: Read-only and back

    /// Before a remount through the kernel (`mount -o remount`): stores what is not stored, or tells what is against it.
    /// - Returns: what a person should know.
    func prepareRemount(_ running: any RunningMount, readOnly: Bool) async throws(VFSError) -> String? {
        if !readOnly {
            if mount.readOnly {
                throw VFSError(
                    .readOnly,
                    "'\(name)' is read-only by its configuration, or by the words that mounted it; unmount it, and mount it without"
                )
            }
            if let reason = running.readOnlyReason() { throw VFSError(.readOnly, reason) }
            return nil
        }
        let name = name
        await drain(running)
        let left = await Self.ending(running)
        return left.isClean ? nil : "\(name): \(left.text)"
    }

    /// After it: the mount itself refuses changes, or takes them again.
    func finishRemount(_ running: any RunningMount, readOnly: Bool) {
        running.setReadOnly(readOnly)
        isReadOnly = readOnly
    }
}
