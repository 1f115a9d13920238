public import CloudMountVFS
import Glibc
import Synchronization

/// How the retry layer obeys the advice in errors.
public struct RetryPolicy: Sendable, Equatable {
    /// Calls of one verb in all, the first included.
    public var maxAttempts = 10
    /// The pause after the first failure is drawn from zero to this, and the range doubles with each further failure.
    public var base: Duration = .milliseconds(50)
    /// The same after the store asked for less.
    public var throttleBase: Duration = .milliseconds(500)
    /// The range grows no further than this.
    public var cap: Duration = .seconds(20)
    /// A verb that moves no content ends after so long, retries and pauses included, answer or no answer. One that does
    /// starts no further attempt when so long has passed since its first failure or since bytes last arrived.
    public var deadline: Duration = .seconds(30)

    public init() {}

    /// The range of the pause after failure number `failures` (from 1 on).
    func range(_ failures: Int, throttled: Bool) -> Duration {
        let base = throttled ? throttleBase : base
        return min(cap, base * (1 << min(failures - 1, 20)))
    }
}

/// The policy of a mount, which may change while calls are under way; each attempt goes by the one of its time.
public final class LiveRetryPolicy: Sendable {
    private let policy: Mutex<RetryPolicy>

    public init(_ policy: RetryPolicy = RetryPolicy()) { self.policy = Mutex(policy) }

    public var current: RetryPolicy { policy.withLock { $0 } }

    public func replace(_ policy: RetryPolicy) { self.policy.withLock { $0 = policy } }
}

/// What retries of one endpoint may cost: a bucket of tokens, so that an outage does not multiply the traffic.
///
/// 500 tokens at first and at most; a retry takes 5, after a time-out 10; a call that succeeds at once gives 1, one that
/// succeeds after retries gives back what its last retry took (the "standard" mode of AWS's SDKs).
public final class RetryBudget: Sendable {
    public static let capacity = 500
    private let tokens = Mutex(RetryBudget.capacity)

    public init() {}

    public var available: Int { tokens.withLock { $0 } }

    static func cost(of error: VFSError) -> Int { error.code == .timedOut ? 10 : 5 }

    func take(_ count: Int) -> Bool {
        tokens.withLock { tokens in
            guard tokens >= count else { return false }
            tokens -= count
            return true
        }
    }

    func give(_ count: Int) { tokens.withLock { $0 = min(Self.capacity, $0 + count) } }
}

/// Time and chance, so that tests can hold them still.
public struct RetryEnvironment: Sendable {
    /// Time since some fixed point; never steps back.
    public var now: @Sendable () -> Duration
    /// Returns after so long, or soon after the task was cancelled.
    public var sleep: @Sendable (Duration) async -> Void
    /// Any number from 0 up to 1.
    public var random: @Sendable () -> Double
    /// Time left of the day in Greenwich.
    public var untilMidnight: @Sendable () -> Duration

    public init(
        now: @escaping @Sendable () -> Duration, sleep: @escaping @Sendable (Duration) async -> Void,
        random: @escaping @Sendable () -> Double,
        untilMidnight: @escaping @Sendable () -> Duration = RetryEnvironment.restOfDay
    ) {
        self.now = now
        self.sleep = sleep
        self.random = random
        self.untilMidnight = untilMidnight
    }

    /// By the system's clock.
    public static let restOfDay: @Sendable () -> Duration = { .seconds(86_400 - time(nil) % 86_400) }

    public static let system: RetryEnvironment = {
        let start = ContinuousClock.now
        return RetryEnvironment(
            now: { ContinuousClock.now - start }, sleep: { try? await Task.sleep(for: $0) },
            random: { Double.random(in: 0..<1) })
    }()
}

/// What a failed attempt means for its call.
public struct FailedAttempt: Sendable {
    public var verb: Verb
    public var key: ObjectKey?
    public var error: VFSError
    /// From 1 on.
    public var attempt: Int
    /// Nil: the call ends with this error.
    public var retryAfter: Duration?
}
