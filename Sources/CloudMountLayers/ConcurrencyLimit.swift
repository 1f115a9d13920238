public import CloudMountVFS
import Synchronization

/// How many calls may be at one endpoint at a time, for all mounts that share it.
///
/// Additive increase, multiplicative decrease: a throttled call halves the limit, every `limit` successes raise it by one.
/// Mounts take turns: who must wait is served in order of arrival among the calls of its own mount, and each mount that
/// waits in turn. As long as there are several, none has more than three quarters of the slots, so that slow calls of one
/// leave a way for the others. A call that need not wait costs one uncontended lock at each end.
public final class ConcurrencyLimit: Sendable {
    private enum Grant { case slot, cancelled, dismissed }

    private struct Waiter {
        var id: UInt64
        var continuation: CheckedContinuation<Grant, Never>
    }

    private struct Tenant {
        var inFlight = 0
        var waiters: [Waiter] = []
        var head = 0

        var hasWaiters: Bool { head < waiters.count }

        mutating func next() -> Waiter {
            defer {
                head += 1
                if head == waiters.count {
                    waiters.removeAll(keepingCapacity: true)
                    head = 0
                } else if head > 256 {
                    waiters.removeFirst(head)
                    head = 0
                }
            }
            return waiters[head]
        }
    }

    private struct State {
        var maximum: Int
        var limit: Int
        var inFlight = 0
        var successes = 0
        /// Counts the decreases. A call throttled on behalf of an older generation says nothing new.
        var generation: UInt32 = 0
        var tenants: [Int: Tenant] = [0: Tenant()]
        var nextTenant = 1
        /// Tenants that have waiters, the one that waits for its turn longest first.
        var turns: [Int] = []
        var waiting = 0
        var nextID: UInt64 = 0

        /// The slots that one tenant may have. (One tenant has no number: a limit that nobody has joined.)
        var share: Int { tenants.count > 2 && limit >= 4 ? limit - limit / 4 : limit }

        func hasRoom(for tenant: Int) -> Bool {
            inFlight < limit && tenants[tenant, default: Tenant()].inFlight < share
        }

        mutating func take(_ tenant: Int) {
            inFlight += 1
            tenants[tenant, default: Tenant()].inFlight += 1
        }

        /// Gives free slots to who waits.
        mutating func serve() -> [Waiter] {
            var served: [Waiter] = []
            while inFlight < limit, let index = turns.firstIndex(where: { hasRoom(for: $0) }) {
                let tenant = turns.remove(at: index)
                guard let waiter = tenants[tenant]?.next() else { continue }
                waiting -= 1
                take(tenant)
                served.append(waiter)
                if tenants[tenant]?.hasWaiters ?? false { turns.append(tenant) }
            }
            return served
        }
    }

    public enum Outcome: Sendable { case success, throttled, other }

    private let state: Mutex<State>

    public init(maximum: Int = 64) {
        state = Mutex(State(maximum: max(1, maximum), limit: max(1, maximum)))
    }

    /// The limit, the calls under way and the calls waiting, now.
    public var current: (limit: Int, inFlight: Int, waiting: Int) {
        state.withLock { ($0.limit, $0.inFlight, $0.waiting) }
    }

    /// No more calls at a time than this, whatever the endpoint would take.
    public var maximum: Int {
        get { state.withLock { $0.maximum } }
        set {
            let served: [Waiter] = state.withLock { state in
                let isFull = state.limit == state.maximum
                state.maximum = max(1, newValue)
                state.limit = isFull ? state.maximum : min(state.limit, state.maximum)
                return state.serve()
            }
            for waiter in served { waiter.continuation.resume(returning: .slot) }
        }
    }

    // MARK: Tenants

    func join() -> Int {
        state.withLock { state in
            defer { state.nextTenant += 1 }
            state.tenants[state.nextTenant] = Tenant()
            return state.nextTenant
        }
    }

    /// The tenant has no calls any more.
    func leave(_ tenant: Int) {
        // The others may have more now.
        let served: [Waiter] = state.withLock { state in
            state.tenants[tenant] = nil
            return state.serve()
        }
        for waiter in served { waiter.continuation.resume(returning: .slot) }
    }

    // MARK: Slots

    /// Waits for a slot. Each success must be followed by one `release` with the value returned here.
    /// - Parameter tenant: whose call it is.
    /// - Throws: `cancelled` when the task is, `unavailable` (at once again) when all waiters are sent away; both then
    ///   hold no slot.
    public func acquire(for tenant: Int = 0) async throws(VFSError) -> UInt32 {
        if let generation = tryAcquire(tenant) { return generation }
        return try await wait(tenant)
    }

    private func tryAcquire(_ tenant: Int) -> UInt32? {
        state.withLock { state in
            guard state.hasRoom(for: tenant), !(state.tenants[tenant]?.hasWaiters ?? false) else { return nil }
            state.take(tenant)
            return state.generation
        }
    }

    /// A slot for a call that nobody waits for: one of the first three quarters, which it leaves to others as long as any wait.
    /// - Throws: `busy` when there is none.
    func acquireAhead(for tenant: Int = 0) throws(VFSError) -> UInt32 {
        let generation: UInt32? = state.withLock { state in
            let isFree = state.waiting == 0 && state.inFlight < state.limit - state.limit / 4
            guard isFree, state.hasRoom(for: tenant) else { return nil }
            state.take(tenant)
            return state.generation
        }
        guard let generation else { throw VFSError(.busy, "the endpoint has enough to do") }
        return generation
    }

    private func wait(_ tenant: Int) async throws(VFSError) -> UInt32 {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        let grant = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // Nil: waiting. The slot may have become free, and the task cancelled, since the first look.
                let answer: Grant? = state.withLock { state in
                    if Task.isCancelled { return .cancelled }
                    let hasWaiters = state.tenants[tenant]?.hasWaiters ?? false
                    if state.hasRoom(for: tenant), !hasWaiters {
                        state.take(tenant)
                        return .slot
                    }
                    state.tenants[tenant, default: Tenant()].waiters.append(Waiter(id: id, continuation: continuation))
                    state.waiting += 1
                    if !hasWaiters { state.turns.append(tenant) }
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiter: Waiter? = state.withLock { state in
                guard let queue = state.tenants[tenant],
                    let index = queue.waiters[queue.head...].firstIndex(where: { $0.id == id })
                else { return nil }
                state.waiting -= 1
                let waiter = state.tenants[tenant]?.waiters.remove(at: index)
                if !(state.tenants[tenant]?.hasWaiters ?? false) { state.turns.removeAll { $0 == tenant } }
                return waiter
            }
            waiter?.continuation.resume(returning: .cancelled)
        }
        switch grant {
        case .slot: return state.withLock { $0.generation }
        case .cancelled: throw .cancelled
        case .dismissed: throw VFSError(.unavailable, "the endpoint does not answer", retry: .immediately)
        }
    }

    public func release(_ generation: UInt32, _ outcome: Outcome, for tenant: Int = 0) {
        let served: [Waiter] = state.withLock { state in
            state.inFlight -= 1
            state.tenants[tenant]?.inFlight -= 1
            switch outcome {
            case .success where state.limit < state.maximum:
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
            return state.waiting > 0 ? state.serve() : []
        }
        for waiter in served { waiter.continuation.resume(returning: .slot) }
    }

    /// Sends away all who wait: what they wait behind will not move soon.
    func dismissWaiters() {
        let dismissed: [Waiter] = state.withLock { state in
            var all: [Waiter] = []
            for tenant in state.turns {
                guard let queue = state.tenants[tenant] else { continue }
                all += queue.waiters[queue.head...]
                state.tenants[tenant]?.waiters = []
                state.tenants[tenant]?.head = 0
            }
            state.turns = []
            state.waiting = 0
            return all
        }
        for waiter in dismissed { waiter.continuation.resume(returning: .dismissed) }
    }
}

/// Holds each call until the endpoint has room for it. Made once per mount: the calls of one layer are one tenant's.
public struct LimitLayer: ProviderLayer {
    private final class Tenant: Sendable {
        let limit: ConcurrencyLimit
        let number: Int

        init(_ limit: ConcurrencyLimit) {
            self.limit = limit
            number = limit.join()
        }

        deinit { limit.leave(number) }
    }

    public let inner: any ObjectProvider
    public let limit: ConcurrencyLimit
    private let tenant: Tenant

    public init(_ inner: any ObjectProvider, limit: ConcurrencyLimit) {
        self.inner = inner
        self.limit = limit
        tenant = Tenant(limit)
    }

    public func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        let slot =
            call.isAhead ? try limit.acquireAhead(for: tenant.number) : try await limit.acquire(for: tenant.number)
        do throws(VFSError) {
            let value = try await body(inner)
            limit.release(slot, .success, for: tenant.number)
            return value
        } catch {
            limit.release(slot, error.concurrencyOutcome, for: tenant.number)
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
