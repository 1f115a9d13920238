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
            if delay > .zero {
                await context.clock.sleep(failures > 0 ? delay * Double.random(in: 0.75...1.25) : delay)
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

    /// Nothing is tried any more.
    func end() {
        let tasks = state.withLock { state in
            state.hasEnded = true
            return state.tasks.values
        }
        uploads.close()
        retries.close()
        for task in tasks { task.cancel() }
    }
}
