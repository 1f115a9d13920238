import Synchronization

/// Ends work that outlives its deadline. One sleeping task serves all of it, however many calls are under way, so that a
/// call costs two short locks and no timer of its own.
final class Watchdog: Sendable {
    private struct Entry {
        var deadline: ContinuousClock.Instant
        var end: @Sendable () -> Void
    }

    private struct State {
        var entries: [UInt64: Entry] = [:]
        var nextID: UInt64 = 0
        var isWatching = false
    }

    private let state = Mutex(State())

    /// Runs `work` in a task that is cancelled at its deadline, and with the calling task.
    /// - Returns: what `work` returned, and whether the deadline ended it.
    func run<Value: Sendable>(
        for limit: Duration, on executor: (any TaskExecutor)?, _ work: @escaping @Sendable () async -> Value
    ) async -> (value: Value, expired: Bool) {
        let task = Task(executorPreference: executor) { await work() }
        let id = insert(
            Entry(deadline: ContinuousClock.now + limit) { task.cancel() }, tick: min(.seconds(1), limit / 8))
        let value = await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
        let expired = state.withLock { $0.entries.removeValue(forKey: id) == nil }
        return (value, expired)
    }

    private func insert(_ entry: Entry, tick: Duration) -> UInt64 {
        let (id, start) = state.withLock { state in
            state.nextID += 1
            state.entries[state.nextID] = entry
            defer { state.isWatching = true }
            return (state.nextID, !state.isWatching)
        }
        if start { Task { await watch(every: tick) } }
        return id
    }

    /// Looks at each tick until there is nothing to watch.
    private func watch(every tick: Duration) async {
        while true {
            try? await Task.sleep(for: tick)
            let now = ContinuousClock.now
            let (expired, done) = state.withLock { state in
                let expired = state.entries.filter { $0.value.deadline <= now }
                for id in expired.keys { state.entries[id] = nil }
                state.isWatching = !state.entries.isEmpty
                return (expired, state.entries.isEmpty)
            }
            for entry in expired.values { entry.end() }
            if done { return }
        }
    }
}
