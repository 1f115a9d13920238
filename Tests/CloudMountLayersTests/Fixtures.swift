import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import Synchronization

/// Time that passes only by sleeping, and the longest pause of each range.
final class StillClock: Sendable {
    private let state = Mutex((now: Duration.zero, pauses: [Duration](), midnight: Duration.seconds(40_000)))

    var pauses: [Duration] { state.withLock { $0.pauses } }

    func environment(random: Double = 0.999_999_999) -> RetryEnvironment {
        RetryEnvironment(
            now: { self.state.withLock { $0.now } },
            sleep: { time in
                self.state.withLock { state in
                    state.now += time
                    state.pauses.append(time)
                }
            }, random: { random }, untilMidnight: { self.state.withLock { $0.midnight - $0.now } })
    }

    /// Midnight in Greenwich comes so much later.
    func setMidnight(in time: Duration) { state.withLock { $0.midnight = $0.now + time } }

    func advance(_ time: Duration) { state.withLock { $0.now += time } }
}

/// A memory bucket behind faults and retries.
struct Stage {
    let bucket: MemoryProvider
    let faults = Faults()
    let clock = StillClock()
    let budget = RetryBudget()
    let failures = Failures()
    let provider: RetryLayer

    init(capabilities: Capabilities = MemoryProvider.fullCapabilities, policy: RetryPolicy = RetryPolicy()) {
        bucket = MemoryProvider(capabilities: capabilities)
        let failures = failures
        provider = RetryLayer(
            FaultLayer(bucket, faults), policy: policy, budget: budget, environment: clock.environment(),
            observe: { failures.add($0) })
    }

    @discardableResult
    func put(_ key: ObjectKey, _ bytes: [UInt8], _ metadata: ObjectMetadata = ObjectMetadata()) async throws
        -> ObjectInfo
    {
        try await bucket.put(PutRequest(key: key, metadata: metadata), from: BytesSource(bytes))
    }
}

final class Failures: Sendable {
    private let all = Mutex<[FailedAttempt]>([])
    var list: [FailedAttempt] { all.withLock { $0 } }
    func add(_ failure: FailedAttempt) { all.withLock { $0.append(failure) } }
}

final class CollectingSink: ByteSink {
    private let state = Mutex((bytes: [UInt8](), attached: 0))
    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var attached: Int { state.withLock { $0.attached } }

    func attach(resume: @escaping @Sendable () -> Void) { state.withLock { $0.attached += 1 } }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        state.withLock { $0.bytes.append(contentsOf: bytes) }
        return .proceed
    }
}

let unavailable = VFSError(.unavailable, "not now", retry: .backoff)
let connectionLost = VFSError(.connectionFailed, "the connection broke", retry: .backoff)
let timedOut = VFSError(.timedOut, "no answer", retry: .backoff)

func throttled(after: Duration? = nil) -> VFSError {
    VFSError(.throttled, "slow down", retry: .throttle(after: after))
}

func milliseconds(_ durations: [Duration]) -> [Int] {
    durations.map { Int(($0 / .milliseconds(1)).rounded()) }
}

/// A value that tasks share.
final class Shared<Value: Sendable>: Sendable {
    private let state: Mutex<Value>
    init(_ value: Value) { state = Mutex(value) }
    var value: Value { state.withLock { $0 } }
    func change(_ body: (inout sending Value) -> Void) { state.withLock { body(&$0) } }
}
