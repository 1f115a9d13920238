import Synchronization

/// What `work` brings, or nil when that takes longer than `limit`: the work goes on then, and nobody waits for it. Nil also
/// when the calling task is cancelled, and with it the work.
/// - Parameters:
///   - cancelling: the limit cancels the work too.
///   - grace: how long work is waited for that was cancelled with the calling task.
///   - late: takes what comes when nobody waits any more.
func within<Value: Sendable>(
    _ limit: Duration, cancelling: Bool = false, grace: Duration = .zero,
    late: @escaping @Sendable (Value) async -> Void = { _ in }, _ work: @escaping @Sendable () async -> Value
) async -> Value? {
    let race = Race<Value>()
    let worker = Task {
        let value = await work()
        if !race.end(with: value) { await late(value) }
    }
    let timer = Task {
        try? await Task.sleep(for: limit)
        if !Task.isCancelled, race.end(with: nil), cancelling { worker.cancel() }
    }
    defer { timer.cancel() }
    return await withTaskCancellationHandler {
        await withCheckedContinuation { race.wait($0) }
    } onCancel: {
        worker.cancel()
        if grace == .zero { race.end(with: nil) } else { endLater(race, grace) }
    }
}

private func endLater<Value: Sendable>(_ race: Race<Value>, _ pause: Duration) {
    Task {
        try? await Task.sleep(for: pause)
        race.end(with: nil)
    }
}

/// The first end counts.
private final class Race<Value: Sendable>: Sendable {
    private enum State {
        case open
        case awaited(CheckedContinuation<Value?, Never>)
        case over(Value?)
    }

    private let state = Mutex(State.open)

    func wait(_ continuation: CheckedContinuation<Value?, Never>) {
        let over: Value?? = state.withLock { state in
            if case .over(let value) = state { return .some(value) }
            state = .awaited(continuation)
            return nil
        }
        if let over { continuation.resume(returning: over) }
    }

    /// - Returns: false when it was over already.
    @discardableResult
    func end(with value: Value?) -> Bool {
        let (first, continuation): (Bool, CheckedContinuation<Value?, Never>?) = state.withLock { state in
            switch state {
            case .over: return (false, nil)
            case .open:
                state = .over(value)
                return (true, nil)
            case .awaited(let continuation):
                state = .over(nil)
                return (true, continuation)
            }
        }
        continuation?.resume(returning: value)
        return first
    }
}
