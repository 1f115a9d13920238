import Synchronization

/// Tasks that wait for something to be over; one that is cancelled waits no longer.
public final class Waiters: Sendable {
    private struct State {
        var continuations: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var next: UInt64 = 0
    }

    private let state = Mutex(State())

    public init() {}

    /// Returns when it is over, or soon after the task is cancelled.
    /// - Parameter isOver: asked under this object's lock, which comes before any that it takes. Once it says yes,
    ///   `resume` is called.
    public func wait(unless isOver: () -> Bool) async {
        let id = state.withLock { state in
            state.next += 1
            return state.next
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isWaiting = state.withLock { state in
                    guard !Task.isCancelled, !isOver() else { return false }
                    state.continuations[id] = continuation
                    return true
                }
                if !isWaiting { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.continuations.removeValue(forKey: id) }?.resume()
        }
    }

    /// It is over: all that wait go on. Called without the locks that `isOver` takes, after what it looks at has changed.
    public func resume() {
        let waiting = state.withLock { state in
            defer { state.continuations = [:] }
            return state.continuations.values
        }
        for continuation in waiting { continuation.resume() }
    }
}
