import CLinux
import Glibc

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

    /// False when the time ran out, by a clock that nobody sets.
    public func wait(seconds: Int) -> Bool { wait(milliseconds: seconds * 1000) }

    /// False when the time ran out, by a clock that nobody sets.
    public func wait(milliseconds: Int) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        deadline.tv_sec += milliseconds / 1000
        deadline.tv_nsec += milliseconds % 1000 * 1_000_000
        if deadline.tv_nsec >= 1_000_000_000 {
            deadline.tv_sec += 1
            deadline.tv_nsec -= 1_000_000_000
        }
        while cm_semaphore_wait(semaphore, Int64(deadline.tv_sec), Int64(deadline.tv_nsec)) != 0 {
            if errno != EINTR { return false }
        }
        return true
    }
}
