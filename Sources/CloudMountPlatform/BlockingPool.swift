import Glibc
import Synchronization

/// A few named threads for work that blocks on local disk, so that the cooperative pool never does.
///
/// Threads start when there is work and end after some idle seconds.
public final class BlockingPool: Sendable {
    public static let shared = BlockingPool(name: "cm-disk", width: 4)

    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var head = 0
        var threads = 0
        var idle = 0
    }

    private let name: String
    private let width: Int
    private let state = Mutex(State())
    private let wakeups = Semaphore()

    public init(name: String, width: Int) {
        self.name = name
        self.width = width
    }

    /// Runs `work` on one of the pool's threads. Jobs start in order.
    public func submit(_ work: @escaping @Sendable () -> Void) {
        let start = state.withLock { state in
            state.jobs.append(work)
            if state.idle > 0 || state.threads >= width { return false }
            state.threads += 1
            return true
        }
        if start { NamedThread(name) { self.work() }.detach() }
        wakeups.signal()
    }

    /// Runs `work` on one of the pool's threads and waits for it without holding a thread of the caller's.
    public func run<Value: Sendable, Failure: Error>(
        _ work: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
            submit {
                do throws(Failure) {
                    continuation.resume(returning: .success(try work()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try result.get()
    }

    private func work() {
        while true {
            state.withLock { $0.idle += 1 }
            let woken = wakeups.wait(seconds: 10)
            let job: (@Sendable () -> Void)? = state.withLock { state in
                state.idle -= 1
                guard state.head < state.jobs.count else {
                    if !woken { state.threads -= 1 }
                    return nil
                }
                let job = state.jobs[state.head]
                state.head += 1
                if state.head == state.jobs.count {
                    state.jobs.removeAll(keepingCapacity: true)
                    state.head = 0
                } else if state.head > 1024, state.head * 2 > state.jobs.count {
                    state.jobs.removeFirst(state.head)
                    state.head = 0
                }
                return job
            }
            if let job { job() } else if !woken { return }
        }
    }
}

/// A counting semaphore (`sem_t`), for threads of our own; never waited on from a task.
public final class Semaphore: @unchecked Sendable {
    // SAFETY: the pointee is a `sem_t`, made for use by many threads; the pointer never changes.
    private let semaphore: UnsafeMutablePointer<sem_t>

    public init(value: UInt32 = 0) {
        semaphore = .allocate(capacity: 1)
        sem_init(semaphore, 0, value)
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    public func signal() { sem_post(semaphore) }

    public func wait() {
        while sem_wait(semaphore) != 0 && errno == EINTR {}
    }

    /// False when the time ran out.
    public func wait(seconds: Int) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        deadline.tv_sec += seconds
        while sem_timedwait(semaphore, &deadline) != 0 {
            if errno == ETIMEDOUT { return false }
        }
        return true
    }
}
