import Synchronization

/// Tasks that wait for something to be over; one that is cancelled waits no longer.
public final class Waiters: Sendable {
    private struct State {
        var continuations: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var next: UInt64 = 0
        /// Those whose time was over before they began to wait, or is over now.
        var late: Set<UInt64> = []
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
        await wait(id, unless: isOver)
    }

    private func wait(_ id: UInt64, unless isOver: () -> Bool) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isWaiting = state.withLock { state in
                    guard !Task.isCancelled, !state.late.contains(id), !isOver() else { return false }
                    state.continuations[id] = continuation
                    return true
                }
                if !isWaiting { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.continuations.removeValue(forKey: id) }?.resume()
        }
    }

    /// As `wait(unless:)`, for so long at most.
    public func wait(unless isOver: () -> Bool, for time: Duration) async {
        let id = state.withLock { state in
            state.next += 1
            return state.next
        }
        let alarm = Task {
            try? await Task.sleep(for: time)
            self.state.withLock { state in
                state.late.insert(id)
                return state.continuations.removeValue(forKey: id)
            }?.resume()
        }
        await wait(id, unless: isOver)
        alarm.cancel()
        _ = await alarm.value
        _ = state.withLock { $0.late.remove(id) }
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
