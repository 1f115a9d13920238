import CloudMountConfig
import CloudMountFilesystem
import CloudMountVFS
import Logging

/// Keeps the mounts of one configuration up, each on its own: one that fails is tried again while the others serve.
///
/// A mount's life: starting → mounted → draining → ended; a failure to start leads to failed and back to starting.
actor Supervisor {
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
    }

    private struct Entry {
        let mount: Configuration.Mount
        var phase = Phase.starting
        /// The attempt or the pause that a stop interrupts.
        var interrupt: (@Sendable () -> Void)?
        var isUnwanted = false
        /// Lazily unmounted: nobody can reach it any more, but open files keep it alive.
        var isDetached = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private var entries: [Entry]
    private let engine: any MountEngine
    private let logger: Logger
    private let announce: @Sendable (String) -> Void
    private let pause: @Sendable (Duration) async -> Void
    private var waiters: [CheckedContinuation<Void, Never>] = []
    private(set) var isStopping = false

    /// - Parameters:
    ///   - announce: takes one line for a person.
    ///   - pause: sleeps; returns early when its task is cancelled.
    init(
        mounts: [Configuration.Mount], engine: any MountEngine, logger: Logger,
        announce: @escaping @Sendable (String) -> Void,
        pause: @escaping @Sendable (Duration) async -> Void = { try? await Task.sleep(for: $0) }
    ) {
        entries = mounts.map { Entry(mount: $0) }
        self.engine = engine
        self.logger = logger
        self.announce = announce
        self.pause = pause
    }

    /// Starts all mounts at once; returns when every one has ended, with what each left behind.
    func run() async -> [String: Ending] {
        for index in entries.indices { Task { await self.serve(index) } }
        if !isOver { await withCheckedContinuation { waiters.append($0) } }
        var endings: [String: Ending] = [:]
        for entry in entries { if case .ended(let ending) = entry.phase { endings[entry.mount.name] = ending } }
        return endings
    }

    /// Every mount has ended.
    var isOver: Bool {
        entries.allSatisfy { if case .ended = $0.phase { true } else { false } }
    }

    // MARK: One mount

    private func serve(_ index: Int) async {
        let mount = entries[index].mount
        var backOff = BackOff()
        var told: VFSError.Code?
        while !entries[index].isUnwanted {
            entries[index].phase = .starting
            let attempt = Task { [engine] in await Self.attempt(engine, mount) }
            entries[index].interrupt = { attempt.cancel() }
            switch await attempt.value {
            case .success(let running):
                await serve(index, running)
                return
            case .failure(let error):
                if entries[index].isUnwanted { break }
                let delay = backOff.pause()
                entries[index].phase = .failed(error, retryAt: .now + delay)
                // Once per kind of failure: it may last for days.
                logger.log(
                    level: told == error.code ? .info : .error,
                    "mount '\(mount.name)' failed: \(error.description); trying again in \(Units.text(delay))")
                told = error.code
                let sleep = Task { [pause] in await pause(delay) }
                entries[index].interrupt = { sleep.cancel() }
                await sleep.value
            }
        }
        end(index, Ending())
    }

    private static func attempt(
        _ engine: any MountEngine, _ mount: Configuration.Mount
    ) async -> Result<any RunningMount, VFSError> {
        do throws(VFSError) { return .success(try await engine.begin(mount)) } catch { return .failure(error) }
    }

    private func serve(_ index: Int, _ running: any RunningMount) async {
        let mount = entries[index].mount
        entries[index].interrupt = nil
        entries[index].phase = .mounted(running)
        announce("\(mount.name): \(mount.provider.name) \(mount.context.bucket) is mounted at \(mount.path)")
        logger.info("mounted", metadata: ["mount": "\(mount.name)", "path": "\(mount.path)"])
        if entries[index].isUnwanted { Task { await self.takeDown(index, running) } }
        await running.waitUntilClosed()
        if case .ended = entries[index].phase { return }
        entries[index].phase = .draining(running)
        await running.drain()
        await running.cleanUp()
        end(index, Self.ending(running))
    }

    private static func ending(_ running: any RunningMount) -> Ending {
        let statistics = running.statistics()
        return Ending(
            dirtyFiles: statistics.dirtyFiles, dirtyBytes: statistics.dirtyBytes,
            stagedPaths: statistics.failedCommits.map(\.stagedPath))
    }

    private func end(_ index: Int, _ ending: Ending) {
        if case .ended = entries[index].phase { return }
        if case .draining = entries[index].phase { announce("\(entries[index].mount.name): unmounted") }
        entries[index].phase = .ended(ending)
        for waiter in entries[index].waiters { waiter.resume() }
        entries[index].waiters = []
        guard isOver else { return }
        for waiter in waiters { waiter.resume() }
        waiters = []
    }

    // MARK: Taking down

    /// Drains and unmounts everything; `run` returns when that is done.
    func stop() {
        guard !isStopping else { return }
        isStopping = true
        for index in entries.indices { discard(index) }
    }

    private func discard(_ index: Int) {
        entries[index].isUnwanted = true
        entries[index].interrupt?()
        switch entries[index].phase {
        case .mounted(let running), .draining(let running): Task { await self.takeDown(index, running) }
        case .starting, .failed, .ended: break
        }
    }

    /// The daemon is ending: whatever holds the mount, it goes.
    private func takeDown(_ index: Int, _ running: any RunningMount) async {
        let name = entries[index].mount.name
        entries[index].phase = .draining(running)
        await running.drain()
        // About 2.5 s for programs to let go.
        for attempt in 0..<9 {
            if case .ended = entries[index].phase { return }
            do throws(VFSError) {
                if !entries[index].isDetached { try await running.unmount(lazy: false) }
                entries[index].isDetached = true
            } catch {
                guard error.code == .busy else {
                    logger.error("mount '\(name)' cannot be unmounted: \(error.description)")
                    break
                }
            }
            await pause(.milliseconds(5 << attempt))
        }
        if case .ended = entries[index].phase { return }
        logger.warning("mount '\(name)' is in use; programs with files open there will see errors")
        if !entries[index].isDetached { try? await running.unmount(lazy: true) }
        await running.drain()
        await running.cleanUp()
        end(index, Self.ending(running))
    }

    /// Ends every mount now, drained or not.
    func abandon() async {
        isStopping = true
        for index in entries.indices {
            entries[index].isUnwanted = true
            entries[index].interrupt?()
            switch entries[index].phase {
            case .mounted(let running), .draining(let running):
                try? await running.unmount(lazy: true)
                end(index, Self.ending(running))
            case .starting, .failed: end(index, Ending())
            case .ended: break
            }
        }
    }

    /// Unmounts on request.
    /// - Parameter target: a mount's name or path; nil: all.
    /// - Throws: `notFound`; `busy` when files are open and not `lazy`: the mount goes on.
    func unmount(_ target: String?, lazy: Bool) async throws(VFSError) {
        let chosen = entries.indices.filter { index in
            guard let target else { return true }
            let mount = entries[index].mount
            return mount.name.utf8.elementsEqual(target.utf8) || mount.path.utf8.elementsEqual(target.utf8)
        }
        guard !chosen.isEmpty else {
            let names = entries.map(\.mount.name).joined(separator: ", ")
            throw VFSError(.notFound, "there is no mount '\(target ?? "")'; there are \(names)")
        }
        var refusals: [String] = []
        for index in chosen {
            guard case .mounted(let running) = entries[index].phase else {
                discard(index)
                continue
            }
            let name = entries[index].mount.name
            await running.drain()
            do throws(VFSError) {
                try await running.unmount(lazy: lazy)
                entries[index].isDetached = true
                if case .mounted = entries[index].phase { entries[index].phase = .draining(running) }
                if !lazy { await waitForEnd(index) }
            } catch {
                refusals.append(
                    error.code == .busy
                        ? "\(name) is in use: files are open or a program works in it (--lazy detaches it)"
                        : "\(name): \(error.description)")
            }
        }
        guard refusals.isEmpty else { throw VFSError(.busy, refusals.joined(separator: "; ")) }
    }

    private func waitForEnd(_ index: Int) async {
        if case .ended = entries[index].phase { return }
        await withCheckedContinuation { entries[index].waiters.append($0) }
    }

    // MARK: Looking

    var phases: [(mount: Configuration.Mount, phase: Phase)] { entries.map { ($0.mount, $0.phase) } }

    /// Files and bytes that the store does not have yet, all mounts together.
    var dirty: (files: Int, bytes: Int) {
        entries.reduce((0, 0)) { sum, entry in
            switch entry.phase {
            case .mounted(let running), .draining(let running):
                let statistics = running.statistics()
                return (sum.0 + statistics.dirtyFiles, sum.1 + statistics.dirtyBytes)
            default: return sum
            }
        }
    }
}
