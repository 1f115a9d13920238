import CloudMountConfig
import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import Logging

/// Keeps the mounts of one configuration up, each on its own: one that fails is tried again while the others serve.
///
/// A mount's life: starting → mounted → draining → ended; a failure to start leads to failed and back to starting. A reload
/// adds mounts, and takes others out; the work of each is a task, so that the actor itself never waits for one. What others
/// do for it (stores, the kernel, programs) it waits for within `Limits`.
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

    /// One life of one mount; a mount that is remounted gets another.
    typealias ID = Int

    struct Entry {
        /// As it is in use.
        var mount: Configuration.Mount
        var phase = Phase.starting
        /// The attempt or the pause that a stop interrupts.
        var interrupt: (@Sendable () -> Void)?
        var isUnwanted = false
        /// Its settings are others by now, or it shall be tried again at once.
        var isRestarted = false
        /// Lazily unmounted: nobody can reach it any more, but open files keep it alive.
        var isDetached = false
        /// The kernel has let go of it: what is left is drained, and then it ends.
        var isClosed = false
        var pending: Pending?
        var pendingReason: String?
        /// What keeps it alive though it has been unmounted.
        var held: String?
        /// A reload's drain is under way.
        var isDraining = false
        /// `mount -o remount` has made it read-only.
        var isReadOnly = false
        /// Mounted in its place when it has ended.
        var successor: Configuration.Mount?
        /// Leaves the table when it has ended.
        var isForgotten = false
        /// Resumed when it has ended.
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    /// Changed by what follows and by `Supervisor+Reload` alone.
    var entries: [ID: Entry] = [:]
    /// Names, as the file has them.
    var order: [String]
    var isReloading = false
    var isWatchingPending = false
    var isSettling = false
    let logger: Logger
    let pause: @Sendable (Duration) async -> Void
    let limits: Limits
    private var nextID = 0
    private let engine: any MountEngine
    private let announce: @Sendable (String) -> Void
    private var waiters: [CheckedContinuation<Void, Never>] = []
    private var endings: [String: Ending] = [:]
    private(set) var isStopping = false

    /// - Parameters:
    ///   - announce: takes one line for a person.
    ///   - limits: how long others are waited for.
    ///   - pause: sleeps; returns early when its task is cancelled.
    init(
        mounts: [Configuration.Mount], engine: any MountEngine, logger: Logger,
        announce: @escaping @Sendable (String) -> Void, limits: Limits = Limits(),
        pause: @escaping @Sendable (Duration) async -> Void = { try? await Task.sleep(for: $0) }
    ) {
        for mount in mounts {
            entries[nextID] = Entry(mount: mount)
            nextID += 1
        }
        order = mounts.map(\.name)
        self.engine = engine
        self.logger = logger
        self.announce = announce
        self.limits = limits
        self.pause = pause
    }

    /// Starts all mounts at once; returns when every one has ended, with what each left behind.
    func run() async -> [String: Ending] {
        for id in entries.keys { Task { await self.serve(id) } }
        if !isOver { await withCheckedContinuation { waiters.append($0) } }
        for entry in entries.values { if case .ended(let ending) = entry.phase { note(ending, of: entry) } }
        entries = [:]
        return endings
    }

    /// Every mount has ended, and none is to come.
    var isOver: Bool {
        !isReloading && entries.values.allSatisfy { if case .ended = $0.phase { true } else { false } }
    }

    func endIfOver() {
        guard isOver else { return }
        for waiter in waiters { waiter.resume() }
        waiters = []
    }

    // MARK: One mount

    /// Begins the life of one more mount.
    @discardableResult
    func add(_ mount: Configuration.Mount) -> ID {
        let id = nextID
        nextID += 1
        entries[id] = Entry(mount: mount)
        if isStopping { entries[id]?.isUnwanted = true }
        Task { await self.serve(id) }
        return id
    }

    private func serve(_ id: ID) async {
        var backOff = BackOff()
        var told: VFSError.Code?
        while let entry = entries[id], !entry.isUnwanted {
            let mount = entry.mount
            entries[id]?.phase = .starting
            entries[id]?.isRestarted = false
            let attempt = Task { [engine, limits] in await Self.attempt(engine, mount, limits) }
            entries[id]?.interrupt = { attempt.cancel() }
            switch await attempt.value {
            case .success(let running):
                if entries[id]?.isRestarted == true, entries[id]?.isUnwanted == false {
                    // It is to be another one; nobody can have begun to use it.
                    await Self.undo(running, limits)
                    continue
                }
                await serve(id, running)
                return
            case .failure(let error):
                if entries[id]?.isUnwanted != false { break }
                if entries[id]?.isRestarted == true {
                    (backOff, told) = (BackOff(), nil)
                    continue
                }
                let delay = backOff.pause()
                entries[id]?.phase = .failed(error, retryAt: .now + delay)
                // Once per kind of failure: it may last for days.
                logger.log(
                    level: told == error.code ? .info : .error,
                    "mount '\(mount.name)' failed: \(error.description); trying again in \(Units.text(delay))")
                told = error.code
                let sleep = Task { [pause] in await pause(delay) }
                entries[id]?.interrupt = { sleep.cancel() }
                await sleep.value
                if entries[id]?.isRestarted == true { (backOff, told) = (BackOff(), nil) }
            }
        }
        end(id, Ending())
    }

    private static func attempt(
        _ engine: any MountEngine, _ mount: Configuration.Mount, _ limits: Limits
    ) async -> Result<any RunningMount, VFSError> {
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

    private func serve(_ id: ID, _ running: any RunningMount) async {
        guard let mount = entries[id]?.mount else { return }
        entries[id]?.interrupt = nil
        entries[id]?.phase = .mounted(running)
        announce("\(mount.name): \(mount.provider.name) \(mount.context.bucket) is mounted at \(mount.path)")
        logger.info("mounted", metadata: ["mount": "\(mount.name)", "path": "\(mount.path)"])
        if entries[id]?.isUnwanted == true { Task { await self.takeDown(id, running) } }
        await running.waitUntilClosed()
        guard hasNotEnded(id) else { return }
        entries[id]?.phase = .draining(running)
        entries[id]?.isClosed = true
        await drain(running, mount.name)
        await running.cleanUp()
        end(id, await Self.ending(running))
    }

    /// Stores what the store does not have yet; given up when nothing is to be seen of it.
    private func drain(_ running: any RunningMount, _ name: String) async {
        @Sendable func calls() -> (ended: Int, underWay: Int) {
            running.requests().values.reduce((0, 0)) { ($0.0 + $1.calls, $0.1 + $1.inFlight) }
        }
        let work = Task { await running.drain() }
        var ended = calls().ended
        while await within(limits.stall, { await work.value }) == nil {
            let now = calls()
            if now.underWay == 0, now.ended == ended {
                logger.error("mount '\(name)' stores nothing any more; it is not waited for")
                return
            }
            ended = now.ended
        }
    }

    func hasNotEnded(_ id: ID) -> Bool {
        switch entries[id]?.phase {
        case nil, .ended: false
        default: true
        }
    }

    /// What a mount holds just now, asked for outside the actor: it may have to wait for the mount's own doings.
    @concurrent static func statistics(_ running: any RunningMount) async -> MountStatistics { running.statistics() }

    private static func ending(_ running: any RunningMount) async -> Ending {
        let statistics = await statistics(running)
        return Ending(
            dirtyFiles: statistics.dirtyFiles, dirtyBytes: statistics.dirtyBytes,
            stagedPaths: statistics.failedCommits.compactMap { $0.isFinal ? nil : $0.stagedPath })
    }

    private func end(_ id: ID, _ ending: Ending) {
        guard hasNotEnded(id), let entry = entries[id] else { return }
        if case .draining = entry.phase { announce("\(entry.mount.name): unmounted") }
        entries[id]?.phase = .ended(ending)
        entries[id]?.waiters = []
        entries[id]?.pending = nil
        for waiter in entry.waiters { waiter.resume() }
        if case .removal = entry.pending { entries[id]?.isForgotten = true }
        if entries[id]?.isForgotten == true {
            note(ending, of: entry)
            entries[id] = nil
        }
        if let successor = entry.successor { add(successor) }
        // A mount that was in the way of another is so no more.
        for other in entries.values where other.mount.path == entry.mount.path {
            if case .failed = other.phase { other.interrupt?() }
        }
        endIfOver()
    }

    private func note(_ ending: Ending, of entry: Entry) {
        var sum = endings[entry.mount.name] ?? Ending()
        sum.dirtyFiles += ending.dirtyFiles
        sum.dirtyBytes += ending.dirtyBytes
        sum.stagedPaths += ending.stagedPaths
        endings[entry.mount.name] = sum
    }

    // MARK: Taking down

    /// Drains and unmounts everything; `run` returns when that is done.
    func stop() {
        guard !isStopping else { return }
        isStopping = true
        for id in entries.keys { discard(id) }
    }

    func discard(_ id: ID) {
        entries[id]?.isUnwanted = true
        entries[id]?.successor = nil
        entries[id]?.interrupt?()
        switch entries[id]?.phase {
        case .mounted(let running), .draining(let running): Task { await self.takeDown(id, running) }
        default: break
        }
    }

    /// The daemon is ending: whatever holds the mount, it goes.
    private func takeDown(_ id: ID, _ running: any RunningMount) async {
        guard let name = entries[id]?.mount.name else { return }
        entries[id]?.phase = .draining(running)
        await drain(running, name)
        // About 2.5 s for programs to let go.
        for attempt in 0..<9 {
            guard hasNotEnded(id) else { return }
            do throws(VFSError) {
                if entries[id]?.isDetached == false { try await running.unmount(lazy: false) }
                entries[id]?.isDetached = true
                break
            } catch {
                guard error.code == .busy else {
                    logger.error("mount '\(name)' cannot be unmounted: \(error.description)")
                    break
                }
            }
            await pause(.milliseconds(5 << attempt))
        }
        if entries[id]?.isDetached == true, await waitForEnd(id) { return }
        guard hasNotEnded(id), entries[id]?.isClosed == false else { return }
        logger.warning("mount '\(name)' is in use; programs with files open there will see errors")
        if entries[id]?.isDetached == false { try? await running.unmount(lazy: true) }
        await drain(running, name)
        await running.cleanUp()
        end(id, await Self.ending(running))
    }

    /// Ends every mount now, drained or not.
    func abandon() async {
        isStopping = true
        await withTaskGroup(of: Void.self) { group in
            for id in entries.keys { group.addTask { await self.abandon(id) } }
        }
    }

    private func abandon(_ id: ID) async {
        entries[id]?.isUnwanted = true
        entries[id]?.successor = nil
        entries[id]?.interrupt?()
        switch entries[id]?.phase {
        case .mounted(let running), .draining(let running):
            try? await running.unmount(lazy: true)
            end(id, await Self.ending(running))
        case .starting, .failed: end(id, Ending())
        case .ended, nil: break
        }
    }

    /// Unmounts on request, several side by side: one whose store hangs holds up none of the others.
    /// - Parameter target: a mount's name or path; nil: all.
    /// - Returns: what the stores did not take, a line for each mount.
    /// - Throws: `notFound`; `busy` when files are open and not `lazy`: the mount goes on.
    func unmount(_ target: String?, lazy: Bool) async throws(VFSError) -> [String] {
        let chosen = sorted.filter { id in
            guard let target else { return true }
            guard let mount = entries[id]?.mount else { return false }
            return mount.name.utf8.elementsEqual(target.utf8) || mount.path.utf8.elementsEqual(target.utf8)
        }
        guard !chosen.isEmpty else {
            let names = sorted.compactMap { entries[$0]?.mount.name }.joined(separator: ", ")
            throw VFSError(.notFound, "there is no mount '\(target ?? "")'; there are \(names)")
        }
        var refusals: [String] = []
        var remarks: [String] = []
        await withTaskGroup(of: (refusal: String?, remark: String?).self) { group in
            for id in chosen { group.addTask { await self.unmount(id, lazy: lazy) } }
            for await (refusal, remark) in group {
                if let refusal { refusals.append(refusal) }
                if let remark { remarks.append(remark) }
            }
        }
        guard refusals.isEmpty else { throw VFSError(.busy, (refusals + remarks).joined(separator: "; ")) }
        return remarks
    }

    private func unmount(_ id: ID, lazy: Bool) async -> (refusal: String?, remark: String?) {
        guard let entry = entries[id] else { return (nil, nil) }
        let name = entry.mount.name
        guard case .mounted(let running) = entry.phase else {
            if case .draining = entry.phase, let held = entry.held { return (nil, "\(name): \(held)") }
            discard(id)
            return (nil, nil)
        }
        await drain(running, name)
        let left = await Self.ending(running)
        do throws(VFSError) {
            try await detach(id, running, lazy: lazy)
        } catch {
            guard error.code == .busy else { return ("\(name): \(error.description)", nil) }
            let what = await running.uses().insideText ?? "files are open or a program works in it"
            return ("\(name) is in use: \(what) (--lazy detaches it)", nil)
        }
        var remark = left.isClean ? nil : "\(name): \(left.text)"
        if !lazy, let held = await waitForEnd(id, running) {
            remark = [remark, "\(name): \(held)"].compactMap { $0 }.joined(separator: "; ")
        }
        return (nil, remark)
    }

    /// Takes a mount out of the file system; its end follows when the kernel has let go of it.
    func detach(_ id: ID, _ running: any RunningMount, lazy: Bool) async throws(VFSError) {
        try await running.unmount(lazy: lazy)
        entries[id]?.isDetached = true
        if case .mounted? = entries[id]?.phase { entries[id]?.phase = .draining(running) }
    }

    /// Waits for the end of a mount that has been detached, within the limit.
    /// - Returns: what keeps it alive; nil when it has ended.
    func waitForEnd(_ id: ID, _ running: any RunningMount) async -> String? {
        if await waitForEnd(id) { return nil }
        let held = await running.uses().elsewhereText
        guard hasNotEnded(id) else { return nil }
        entries[id]?.held = held
        logger.warning("mount '\(entries[id]?.mount.name ?? "")': \(held)")
        return held
    }

    /// - Returns: false when it does not end within the limit.
    func waitForEnd(_ id: ID) async -> Bool {
        await within(limits.end) { await self.untilEnd(id) } != nil
    }

    private func untilEnd(_ id: ID) async {
        guard hasNotEnded(id) else { return }
        await withCheckedContinuation { entries[id]?.waiters.append($0) }
    }

    // MARK: Read-only and back

    /// Before a remount through the kernel (`mount -o remount`): stores what is not stored, or tells what is against it.
    /// - Parameter target: a mount's path.
    /// - Returns: what a person should know.
    func prepareRemount(_ target: String, readOnly: Bool) async throws(VFSError) -> String? {
        let (id, running) = try mounted(at: target)
        guard let mount = entries[id]?.mount else { return nil }
        if !readOnly {
            if mount.readOnly { throw VFSError(.readOnly, "the configuration says read_only for '\(mount.name)'") }
            if let reason = running.readOnlyReason() { throw VFSError(.readOnly, reason) }
            return nil
        }
        await drain(running, mount.name)
        let left = await Self.ending(running)
        return left.isClean ? nil : "\(mount.name): \(left.text)"
    }

    /// After it: the mount itself refuses changes, or takes them again.
    func finishRemount(_ target: String, readOnly: Bool) async throws(VFSError) {
        let (id, running) = try mounted(at: target)
        running.setReadOnly(readOnly)
        entries[id]?.isReadOnly = readOnly
    }

    private func mounted(at path: String) throws(VFSError) -> (ID, any RunningMount) {
        for id in sorted {
            guard let entry = entries[id], entry.mount.path.utf8.elementsEqual(path.utf8), !entry.isDetached,
                case .mounted(let running) = entry.phase
            else { continue }
            return (id, running)
        }
        throw VFSError(.notFound, "nothing of this daemon is mounted at \(path)")
    }

    // MARK: Looking

    /// In the order of the file; of one name, the older first.
    private var sorted: [ID] {
        let places = Dictionary(order.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        func place(_ id: ID) -> Int { entries[id].flatMap { places[$0.mount.name] } ?? .max }
        return entries.keys.sorted { (place($0), $0) < (place($1), $1) }
    }

    struct Look: Sendable {
        var id: ID
        var mount: Configuration.Mount
        var phase: Phase
        var pending: String?
        /// By `mount -o remount`.
        var isReadOnly: Bool
    }

    var phases: [Look] {
        sorted.compactMap { id in
            entries[id].map {
                Look(
                    id: id, mount: $0.mount, phase: $0.phase, pending: $0.pendingText ?? $0.held,
                    isReadOnly: $0.isReadOnly)
            }
        }
    }

    private var running: [any RunningMount] {
        entries.values.compactMap { entry in
            switch entry.phase {
            case .mounted(let running), .draining(let running): running
            default: nil
            }
        }
    }

    /// Files and bytes that the store does not have yet, all mounts together.
    nonisolated var dirty: (files: Int, bytes: Int) {
        get async {
            await running.reduce((0, 0)) { sum, running in
                let statistics = running.statistics()
                return (sum.0 + statistics.dirtyFiles, sum.1 + statistics.dirtyBytes)
            }
        }
    }
}
