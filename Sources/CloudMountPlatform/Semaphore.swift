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
        let deadline = SystemClock.monotonic() + UInt64(max(0, milliseconds)) * 1_000_000
        let (seconds, nanoseconds) = (Int64(deadline / 1_000_000_000), Int64(deadline % 1_000_000_000))
        while cm_semaphore_wait(semaphore, seconds, nanoseconds) != 0 { if errno != EINTR { return false } }
        return true
    }
}
