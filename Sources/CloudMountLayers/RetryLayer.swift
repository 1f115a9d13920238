public import CloudMountVFS
import Synchronization

/// Obeys the retry advice that providers put into their errors; nothing else in CloudMount retries a call.
///
/// - `never`: the error goes up. `immediately`: again at once, the first time for free, afterwards as `backoff`.
///   `backoff`: again after a pause with full jitter. `throttle`: the same from a longer base, and not before the time the
///   store named.
/// - A retry needs a token of the endpoint's budget and time within the deadline; without either the error goes up.
/// - No call outlives the deadline: see `bounded`.
/// - A read goes on after the last byte that the sink took, pinned to its version; no byte is delivered twice. A read
///   without a version is repeated only while nothing has been delivered.
/// - A write that meets its own success (the answer was lost, the retry then finds the precondition unmet or the upload
///   gone) is recognised by its nonce: see `RetryLayer+Recognition`.
public struct RetryLayer: ProviderLayer {
    public let inner: any ObjectProvider
    public var policy: RetryPolicy { live.current }
    let live: LiveRetryPolicy
    public let budget: RetryBudget
    let environment: RetryEnvironment
    let observe: @Sendable (FailedAttempt) -> Void
    let isAlive: (@Sendable () async -> Bool)?
    let watchdog = Watchdog()
    /// Bytes of a read after which the number of attempts counts anew.
    private static let leastProgress = 64 << 10

    /// - Parameters:
    ///   - isAlive: asks the endpoint something small, while it is silent over what it may work on for long.
    ///   - observe: told of each failed attempt; must return at once.
    public init(
        _ inner: any ObjectProvider, policy: LiveRetryPolicy, budget: RetryBudget = RetryBudget(),
        environment: RetryEnvironment = .system, isAlive: (@Sendable () async -> Bool)? = nil,
        observe: @escaping @Sendable (FailedAttempt) -> Void = { _ in }
    ) {
        self.inner = inner
        self.isAlive = isAlive
        live = policy
        self.budget = budget
        self.environment = environment
        self.observe = observe
    }

    /// With a policy that stays.
    public init(
        _ inner: any ObjectProvider, policy: RetryPolicy = RetryPolicy(), budget: RetryBudget = RetryBudget(),
        environment: RetryEnvironment = .system, observe: @escaping @Sendable (FailedAttempt) -> Void = { _ in }
    ) {
        self.init(
            inner, policy: LiveRetryPolicy(policy), budget: budget, environment: environment, observe: observe)
    }

    public func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        try await bounded(call) { await attempts(call, body) }
    }

    /// Ends `work` when its time is over. A verb without content has the deadline for the whole of it, also when an answer
    /// trickles or never comes; one with content has it anew whenever enough has moved. Where the content moves within the
    /// store nothing is to be seen of it: then it goes on for as long as the endpoint answers other questions.
    func bounded<Value: Sendable>(
        _ call: ProviderCall, _ work: @escaping @Sendable () async -> Result<Value, VFSError>
    ) async throws(VFSError) -> Value {
        let deadline = policy.deadline * CallPatience.share
        let (outcome, expired): (Result<Value, VFSError>, Bool)
        if call.verb.worksInStore, let isAlive {
            let question = min(CircuitBreaker.probeLimit, deadline / 4)
            (outcome, expired) = await watchdog.pace(
                deadline - question,
                unless: { await watchdog.run(for: question, on: inner.executor, isAlive) == (true, false) }, work)
        } else if call.verb.movesContent {
            (outcome, expired) = await watchdog.pace(deadline, work)
        } else {
            (outcome, expired) = await watchdog.run(for: deadline, on: inner.executor, work)
        }
        do throws(VFSError) {
            return try outcome.get()
        } catch {
            guard expired, error.code == .cancelled else { throw error }
            let what = call.verb.movesContent ? "moved next to nothing for" : "did not answer within"
            let late = VFSError(.timedOut, "the store \(what) \(deadline)", retry: .backoff)
            if !call.isAhead {
                observe(FailedAttempt(verb: call.verb, key: call.key, error: late, attempt: 1, retryAfter: nil))
            }
            throw late
        }
    }

    private func attempts<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async -> Result<Value, VFSError> {
        var course = RetryCourse(call, self, limitedFromStart: !call.verb.movesContent)
        do throws(VFSError) {
            while true {
                do throws(VFSError) {
                    let value = try await body(inner)
                    course.succeeded()
                    return .success(value)
                } catch {
                    try await course.pause(after: error)
                }
            }
        } catch {
            return .failure(error)
        }
    }

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        let call = ProviderCall(request)
        return try await bounded(call) {
            do throws(VFSError) {
                return .success(try await resumed(request, call, into: sink))
            } catch {
                return .failure(error)
            }
        }
    }

    private func resumed(
        _ request: ReadRequest, _ call: ProviderCall, into sink: any ByteSink
    ) async throws(VFSError) -> ObjectInfo {
        let resuming = ResumingSink(sink)
        var request = request
        var course = RetryCourse(call, self, limitedFromStart: false)
        let start = request.extent?.lowerBound ?? 0
        var deliveredBefore = 0
        while true {
            do throws(VFSError) {
                let info = try await inner.read(request, into: resuming)
                course.succeeded()
                return info
            } catch {
                let delivered = resuming.delivered
                if delivered > 0, request.version == nil { throw course.gaveUp(error) }
                // Less is no progress: an endpoint that breaks off after a few bytes is not asked for ever.
                if delivered - deliveredBefore >= Self.leastProgress {
                    deliveredBefore = delivered
                    course.progressed()
                }
                try await course.pause(after: error)
                if delivered > 0 {
                    let end = request.extent?.upperBound ?? .max
                    request.extent = Extent(start + delivered, max(start + delivered, end))
                }
            }
        }
    }
}

extension Verb {
    /// The bytes are in the store already.
    var worksInStore: Bool {
        switch self {
        case .copy, .copyPart, .completeUpload, .move: true
        default: false
        }
    }

    /// Time spent may be bytes moved, here or inside the store.
    var movesContent: Bool {
        switch self {
        case .read, .put, .copy, .uploadPart, .copyPart, .completeUpload, .move: true
        case .prepare, .list, .head, .delete, .beginUpload, .abortUpload, .listParts, .versions, .space: false
        }
    }
}

/// The attempts of one call.
struct RetryCourse {
    private let call: ProviderCall
    private let layer: RetryLayer
    private let start: Duration
    /// From when the deadline counts; nil until the first failure.
    private var since: Duration?
    private var attempt = 1
    private var failures = 0
    private var usedFreeRetry = false
    private var lastCost = 0

    init(_ call: ProviderCall, _ layer: RetryLayer, limitedFromStart: Bool) {
        self.call = call
        self.layer = layer
        start = limitedFromStart ? layer.environment.now() : .zero
        since = limitedFromStart ? start : nil
    }

    func succeeded() { layer.budget.give(lastCost > 0 ? lastCost : 1) }

    /// Bytes arrived: the deadline and the number of attempts count anew.
    mutating func progressed() {
        since = nil
        attempt = 1
        failures = 0
    }

    /// Waits for the next attempt, or throws the error that ends the call.
    mutating func pause(after error: VFSError) async throws(VFSError) {
        guard let pause = plan(error) else { throw gaveUp(error) }
        layer.observe(
            FailedAttempt(verb: call.verb, key: call.key, error: error, attempt: attempt, retryAfter: pause))
        attempt += 1
        if pause > .zero { await layer.environment.sleep(pause) }
        if Task.isCancelled { throw .cancelled }
    }

    func gaveUp(_ error: VFSError) -> VFSError {
        // Nobody has lost anything.
        if call.isAhead { return error }
        layer.observe(FailedAttempt(verb: call.verb, key: call.key, error: error, attempt: attempt, retryAfter: nil))
        return error
    }

    /// How long to wait; nil to give up.
    private mutating func plan(_ error: VFSError) -> Duration? {
        if error.retry == .never || Task.isCancelled || attempt >= layer.policy.maxAttempts { return nil }
        if error.retry == .immediately, !usedFreeRetry {
            usedFreeRetry = true
            return .zero
        }
        if call.isAhead { return nil }
        failures += 1
        var throttled = false
        var least: Duration = .zero
        if case .throttle(let after) = error.retry {
            throttled = true
            least = after ?? .zero
        }
        let range = layer.policy.range(failures, throttled: throttled)
        let pause = max(least, range * layer.environment.random())
        let now = layer.environment.now()
        let from = since ?? now
        since = from
        guard now - from + pause < layer.policy.deadline else { return nil }
        let cost = RetryBudget.cost(of: error)
        guard layer.budget.take(cost) else { return nil }
        lastCost = cost
        return pause
    }
}
