import CloudMountPlatform
import Glibc
import Synchronization

/// One thread that tasks run on, as transfers share one, and counts their steps: what lies between two waits is one.
public final class StepExecutor: TaskExecutor {
    private struct State {
        var steps = 0
        var thread: pthread_t?
    }

    private let state = Mutex(State())
    private let pool = BlockingPool(name: "steps", width: 1)

    public init() {}

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let executor = asUnownedTaskExecutor()
        pool.submit {
            self.state.withLock { state in
                state.steps += 1
                state.thread = pthread_self()
            }
            job.runSynchronously(on: executor)
            self.state.withLock { $0.thread = nil }
        }
    }

    /// Steps that have begun.
    public var steps: Int { state.withLock { $0.steps } }

    /// The step that the caller is in; nil: it runs on another thread.
    public var current: Int? {
        state.withLock { state in
            state.thread.flatMap { pthread_equal($0, pthread_self()) != 0 ? state.steps : nil }
        }
    }
}
