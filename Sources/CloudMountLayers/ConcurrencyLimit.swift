public import CloudMountVFS
import Synchronization

/// How many calls may be at one endpoint at a time, for all mounts that share it.
///
/// Additive increase, multiplicative decrease: a throttled call halves the limit, every `limit` successes raise it by one.
/// Who must wait is served in order of arrival. A call that need not wait costs one uncontended lock at each end.
public final class ConcurrencyLimit: Sendable {
    private struct Waiter {
        var id: UInt64
        var continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var limit: Int
        var inFlight = 0
        var successes = 0
        /// Counts the decreases. A call throttled on behalf of an older generation says nothing new.
        var generation: UInt32 = 0
        var waiters: [Waiter] = []
        var head = 0
        var nextID: UInt64 = 0

        var hasWaiters: Bool { head < waiters.count }
    }

    public enum Outcome: Sendable { case success, throttled, other }

    public let maximum: Int
    private let state: Mutex<State>

    public init(maximum: Int = 64) {
        self.maximum = max(1, maximum)
        state = Mutex(State(limit: max(1, maximum)))
    }

    /// The limit, the calls under way and the calls waiting, now.
    public var current: (limit: Int, inFlight: Int, waiting: Int) {
        state.withLock { ($0.limit, $0.inFlight, $0.waiters.count - $0.head) }
    }

    /// Waits for a slot. Each success must be followed by one `release` with the value returned here.
    /// - Throws: `cancelled` when the task is, and then holds no slot.
    public func acquire() async throws(VFSError) -> UInt32 {
        if let generation = tryAcquire() { return generation }
        return try await wait()
    }

    func tryAcquire() -> UInt32? {
        state.withLock { state in
            guard state.inFlight < state.limit, !state.hasWaiters else { return nil }
            state.inFlight += 1
            return state.generation
        }
    }

    private func wait() async throws(VFSError) -> UInt32 {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        let granted = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // Nil: waiting. The slot may have become free, and the task cancelled, since the first look.
                let answer: Bool? = state.withLock { state in
                    if Task.isCancelled { return false }
                    if state.inFlight < state.limit, !state.hasWaiters {
                        state.inFlight += 1
                        return true
                    }
                    state.waiters.append(Waiter(id: id, continuation: continuation))
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiter: Waiter? = state.withLock { state in
                guard let index = state.waiters[state.head...].firstIndex(where: { $0.id == id }) else { return nil }
                return state.waiters.remove(at: index)
            }
            waiter?.continuation.resume(returning: false)
        }
        guard granted else { throw .cancelled }
        return state.withLock { $0.generation }
    }

    public func release(_ generation: UInt32, _ outcome: Outcome) {
        // One waiter in the common case; more when the limit has grown or the queue held up.
        let woken: [Waiter] = state.withLock { state in
            state.inFlight -= 1
            switch outcome {
            case .success where state.limit < maximum:
                state.successes += 1
                if state.successes >= state.limit {
                    state.successes = 0
                    state.limit += 1
                }
            case .throttled where generation == state.generation:
                state.limit = max(1, state.limit / 2)
                state.generation &+= 1
                state.successes = 0
            default: break
            }
            guard state.hasWaiters else { return [] }
            var woken: [Waiter] = []
            while state.inFlight < state.limit, state.hasWaiters {
                woken.append(state.waiters[state.head])
                state.head += 1
                state.inFlight += 1
            }
            if state.head == state.waiters.count {
                state.waiters.removeAll(keepingCapacity: true)
                state.head = 0
            } else if state.head > 256 {
                state.waiters.removeFirst(state.head)
                state.head = 0
            }
            return woken
        }
        for waiter in woken { waiter.continuation.resume(returning: true) }
    }
}

/// Holds each call until the endpoint has room for it.
public struct LimitLayer: ProviderLayer {
    public let inner: any ObjectProvider
    public let limit: ConcurrencyLimit

    public init(_ inner: any ObjectProvider, limit: ConcurrencyLimit) {
        self.inner = inner
        self.limit = limit
    }

    public func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        let slot = try await limit.acquire()
        do throws(VFSError) {
            let value = try await body(inner)
            limit.release(slot, .success)
            return value
        } catch {
            limit.release(slot, error.concurrencyOutcome)
            throw error
        }
    }
}

extension VFSError {
    var concurrencyOutcome: ConcurrencyLimit.Outcome {
        if case .throttle = retry { return .throttled }
        return isAnswer ? .success : .other
    }
}
