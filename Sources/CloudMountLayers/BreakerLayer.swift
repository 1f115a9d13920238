public import CloudMountVFS

/// Asks the endpoint's breaker before each call and tells it how the call ended.
///
/// A call that meets an outage waits for its end as long as that has lasted less than the deadline, and fails at once
/// afterwards. `prepare` always goes through: whoever calls it has pauses of its own.
public struct BreakerLayer: ProviderLayer {
    public let inner: any ObjectProvider
    private let breaker: CircuitBreaker
    private let policy: LiveRetryPolicy
    private let source: ProbeSource

    /// - Parameters:
    ///   - policy: its deadline is how long a call may wait.
    ///   - source: asked while the endpoint is out.
    init(
        _ inner: any ObjectProvider, breaker: CircuitBreaker, policy: LiveRetryPolicy, probing source: ProbeSource
    ) {
        self.inner = inner
        self.breaker = breaker
        self.policy = policy
        self.source = source
    }

    public func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        if call.verb != .prepare {
            try await breaker.admit(call.isAhead ? .zero : policy.current.deadline, source)
        }
        let start = breaker.now
        do throws(VFSError) {
            let value = try await body(inner)
            breaker.answered()
            return value
        } catch {
            var verdict = error.verdict
            if error.code == .cancelled, TransferMeter.current?.isLate ?? false { verdict = .failed }
            if call.verb == .prepare, verdict != .answered { throw error }
            let told = error.code == .cancelled ? VFSError(.timedOut, "the store did not answer in time") : error
            breaker.failed(told, verdict: verdict, start: start, source)
            throw error
        }
    }
}

extension VFSError {
    /// The operation of an error that nobody was asked for.
    static let refusedCall = "refused"

    /// Said by a breaker in the store's stead.
    var isRefusal: Bool { wire?.operation == VFSError.refusedCall }
}
