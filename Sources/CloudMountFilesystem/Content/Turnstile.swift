import Synchronization

/// Lets a number of tasks through at once, the others in the order in which they came.
final class Turnstile: Sendable {
    private struct State {
        var free: Int
        var waiting: [CheckedContinuation<Bool, Never>] = []
        /// Those before it have been let through.
        var head = 0
        var isClosed = false
    }

    private let state: Mutex<State>

    init(width: Int) { state = Mutex(State(free: width)) }

    /// - Returns: false when it is closed. Else `leave` follows.
    func enter() async -> Bool {
        await withCheckedContinuation { continuation in
            let answer: Bool? = state.withLock { state in
                if state.isClosed { return false }
                if state.free > 0 {
                    state.free -= 1
                    return true
                }
                state.waiting.append(continuation)
                return nil
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }

    func leave() {
        let next: CheckedContinuation<Bool, Never>? = state.withLock { state in
            guard state.head < state.waiting.count else {
                state.free += 1
                return nil
            }
            let next = state.waiting[state.head]
            state.head += 1
            if state.head * 2 > state.waiting.count {
                state.waiting.removeFirst(state.head)
                state.head = 0
            }
            return next
        }
        next?.resume(returning: true)
    }

    /// Nobody is let through any more.
    func close() {
        let waiting = state.withLock { state in
            defer { (state.waiting, state.head) = ([], 0) }
            state.isClosed = true
            return state.waiting[state.head...]
        }
        for one in waiting { one.resume(returning: false) }
    }
}
