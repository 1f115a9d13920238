import CloudMountVFS
import Synchronization

/// The files of one mount that are stored behind their programs' backs: those written back, in the order in which they were closed,
/// and those that could not be stored, again and again at longer and longer intervals.
final class UploadQueue: Sendable {
    /// What is to become of a file after a try.
    enum Verdict {
        /// It is stored, or not wanted any more.
        case isOver
        /// Trying again would change nothing.
        case givenUp
        /// It has changed since.
        case again
        case failed
    }

    typealias Store = @Sendable (InodeID) async -> Verdict

    private struct State {
        var store: Store?
        var tasks: [InodeID: Task<Void, Never>] = [:]
        /// Those that were asked for again while they were tried.
        var wanted: Set<InodeID> = []
        /// Sleeping after a failure.
        var resting: [InodeID: Task<Void, Never>] = [:]
        /// How often the store has come back.
        var returns = 0
        var isWatching = false
        var hasEnded = false
        /// What was added before the mount serves; nil: it does.
        var early: [InodeID]? = []
    }

    private static let (first, last) = (Duration.seconds(5), Duration.seconds(300))

    private let context: MountContext
    private let state = Mutex(State())
    private let uploads = Turnstile(width: 64)
    /// What has failed together does not come back together.
    private let retries = Turnstile(width: 4)

    init(context: MountContext) { self.context = context }

    /// - Parameter store: tries once.
    func attach(_ store: @escaping Store) { state.withLock { $0.store = store } }

    /// The mount serves: what was added goes on its way.
    func start() {
        let early = state.withLock { $0.early.take() } ?? []
        for inode in early { add(inode, after: .zero, hasFailed: false) }
    }

    /// - Parameter hasFailed: just now.
    func add(_ inode: InodeID, after delay: Duration, hasFailed: Bool) {
        state.withLock { state in
            guard !state.hasEnded, let store = state.store else { return }
            if state.early != nil {
                state.early?.append(inode)
                return
            }
            guard state.tasks[inode] == nil else {
                state.wanted.insert(inode)
                return
            }
            state.tasks[inode] = Task(executorPreference: context.provider.executor) {
                await self.run(inode, hasFailed ? Self.first : delay, hasFailed: hasFailed, store)
            }
        }
    }

    private func run(_ inode: InodeID, _ start: Duration, hasFailed: Bool, _ store: Store) async {
        var (delay, failures) = (start, hasFailed ? 1 : 0)
        while true {
            if failures > 0 {
                if await rest(inode, delay * Double.random(in: 0.75...1.25)) { failures = 0 }
            } else if delay > .zero {
                await context.clock.sleep(delay)
            }
            let gate = failures > 0 ? retries : uploads
            guard await gate.enter() else { break }
            state.withLock { _ = $0.wanted.remove(inode) }
            let verdict = await store(inode)
            gate.leave()
            switch verdict {
            case .failed:
                failures += 1
                delay = min(Self.first * (1 << min(failures - 1, 6)), Self.last)
                if context.isCutOff() { watch() }
                continue
            case .again:
                (failures, delay) = (0, context.policy().writeDelay)
                continue
            case .givenUp: state.withLock { _ = $0.wanted.remove(inode) }
            case .isOver: break
            }
            let isOver = state.withLock { state in
                if state.wanted.contains(inode) { return false }
                state.tasks[inode] = nil
                return true
            }
            if isOver { return }
            (failures, delay) = (0, context.policy().writeDelay)
        }
        state.withLock { state in
            state.tasks[inode] = nil
            state.wanted.remove(inode)
        }
    }

    /// Sleeps, until the store is back at most.
    /// - Returns: whether it is back.
    private func rest(_ inode: InodeID, _ time: Duration) async -> Bool {
        let clock = context.clock
        let sleep = Task { await clock.sleep(time) }
        let before = state.withLock { state in
            state.resting[inode] = sleep
            if state.hasEnded { sleep.cancel() }
            return state.returns
        }
        await sleep.value
        return state.withLock { state in
            state.resting[inode] = nil
            return state.returns != before
        }
    }

    /// The store cannot be reached: when it can, all that has failed goes at once.
    private func watch() {
        let isFirst = state.withLock { state in
            defer { state.isWatching = true }
            return !state.isWatching
        }
        guard isFirst else { return }
        let context = context
        context.begin { [weak self] in
            repeat { await context.clock.sleep(.seconds(1)) } while self?.isAway ?? false
            self?.returned()
        }
    }

    private var isAway: Bool { context.isCutOff() && !state.withLock { $0.hasEnded } }

    private func returned() {
        let resting = state.withLock { state in
            state.isWatching = false
            state.returns += 1
            return state.resting.values
        }
        for sleep in resting { sleep.cancel() }
    }

    /// Nothing is tried any more.
    func end() {
        let tasks = state.withLock { state in
            state.hasEnded = true
            return Array(state.tasks.values) + Array(state.resting.values)
        }
        uploads.close()
        retries.close()
        for task in tasks { task.cancel() }
    }
}
