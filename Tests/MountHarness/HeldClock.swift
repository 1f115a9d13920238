public import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Time that passes when it is told to, and a microsecond whenever somebody looks, so that nothing expires because a machine
/// is slow. Who sleeps, sleeps.
public final class HeldClock: Sendable {
    private let start = (monotonic: SystemClock.monotonic(), now: SystemClock.now())
    private let passed = Mutex(Duration.zero)
    private let stepped = Mutex(Duration.zero)

    public init() {}

    public func advance(_ time: Duration) { passed.withLock { $0 += time } }

    /// The wall's clock is so far off from now on.
    public func set(wallBy step: Duration) { stepped.withLock { $0 = step } }

    public var clock: FilesystemClock {
        FilesystemClock(
            monotonic: {
                self.advance(.microseconds(1))
                return self.start.monotonic + UInt64(self.nanoseconds)
            },
            now: {
                let time = self.start.now
                let step = Int(self.stepped.withLock { $0 } / .nanoseconds(1))
                let (seconds, nanoseconds) = (time.nanoseconds + self.nanoseconds + step).quotientAndRemainder(
                    dividingBy: 1_000_000_000)
                return Timestamp(seconds: time.seconds + seconds, nanoseconds: nanoseconds)
            }, sleep: { try? await Task.sleep(for: $0) })
    }

    private var nanoseconds: Int { Int(passed.withLock { $0 } / .nanoseconds(1)) }
}
