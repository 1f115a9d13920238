import CloudMountVFS
import Synchronization

/// The names of one directory in the order they came from the store, read by streams while it still grows.
final class Listing: Sendable {
    private struct State {
        var names: [FileName]
        var isComplete: Bool
        var failure: VFSError?
        /// Somebody reads along, so it must not be given up.
        var isWanted = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state: Mutex<State>

    /// A listing that begins empty and grows.
    init() { state = Mutex(State(names: [], isComplete: false)) }

    /// A listing that is known already.
    init(complete names: [FileName]) { state = Mutex(State(names: names, isComplete: true)) }

    func want() { state.withLock { $0.isWanted = true } }
    var isWanted: Bool { state.withLock { $0.isWanted } }

    func append(_ names: [FileName]) { change { $0.names += names } }

    func finish(_ failure: VFSError? = nil) {
        change {
            $0.isComplete = true
            $0.failure = failure
        }
    }

    private func change(_ body: (inout State) -> Void) {
        let waiters = state.withLock { state in
            body(&state)
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Up to `count` names from `index` on.
    func names(from index: Int, count: Int) -> ArraySlice<FileName> {
        state.withLock { $0.names.dropFirst(index).prefix(count) }
    }

    /// Whether there may be more names than `count`: nil when that is not known yet.
    /// - Throws: what ended the listing early.
    func hasMore(than count: Int) throws(VFSError) -> Bool? {
        try state.withLock { state throws(VFSError) in
            if state.names.count > count { return true }
            guard state.isComplete else { return nil }
            if let failure = state.failure { throw failure }
            return false
        }
    }

    /// Returns when there are more than `count` names, or no more to come.
    func wait(past count: Int) async {
        await withCheckedContinuation { continuation in
            let now = state.withLock { state in
                if state.names.count > count || state.isComplete { return true }
                state.waiters.append(continuation)
                return false
            }
            if now { continuation.resume() }
        }
    }
}
