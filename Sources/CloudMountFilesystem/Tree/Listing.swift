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
    private let held: HeldNames

    /// A listing that begins empty and grows.
    init(_ held: HeldNames) {
        state = Mutex(State(names: [], isComplete: false))
        self.held = held
    }

    /// A listing that is known already.
    init(complete names: [FileName], _ held: HeldNames) {
        state = Mutex(State(names: names, isComplete: true))
        self.held = held
        held.add(names.count)
    }

    deinit { held.add(-state.withLock { $0.names.count }) }

    func want() { state.withLock { $0.isWanted = true } }
    var isWanted: Bool { state.withLock { $0.isWanted } }

    /// Names more, unless who reads it has been told that there are none.
    func append(_ names: [FileName]) {
        var isOpen = false
        change { state in
            isOpen = !state.isComplete
            if isOpen { state.names += names }
        }
        if isOpen { held.add(names.count) }
    }

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

/// The names in all listings that somebody reads or that are under way, of one mount. Whoever may open directories can hold them, each in
/// another state.
final class HeldNames: Sendable {
    /// Some 256 MiB.
    static let most = 16 << 20
    private let count = Atomic(0)

    func add(_ names: Int) { count.wrappingAdd(names, ordering: .relaxed) }

    /// - Throws: `busy` when there are too many for another list.
    func requireRoom() throws(VFSError) {
        guard count.load(ordering: .relaxed) < Self.most else {
            throw VFSError(.busy, "too many open directories hold long listings")
        }
    }
}
