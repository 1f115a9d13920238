import CloudMountVFS
import Synchronization

/// Ends work that outlives its deadline. One sleeping task serves all of it, however many calls are under way, so that a
/// call costs two short locks and no timer of its own.
final class Watchdog: Sendable {
    private struct Entry {
        var deadline: ContinuousClock.Instant
        var meter: TransferMeter
        var pace: Pace?
        /// Asked before a transfer that stands still is ended: there may be a reason.
        var isAlive: (@Sendable () async -> Bool)?
        var isAsking = false
        var end: @Sendable () -> Void = {}
    }

    private struct State {
        var entries: [UInt64: Entry] = [:]
        var nextID: UInt64 = 0
        var isWatching = false
    }

    private let state = Mutex(State())

    /// Runs `work`, whose transfers end when they have next to nothing moved for so long.
    ///
    /// Costs less than a task of its own, which would be felt where thousands of small objects are read. Nothing but
    /// transfers is ended.
    /// - Parameter isAlive: asked when they have stood still for so long; while it says true they go on.
    /// - Returns: what `work` returned, and whether its time was over.
    func pace<Value: Sendable>(
        _ limit: Duration, unless isAlive: (@Sendable () async -> Bool)? = nil, _ work: @Sendable () async -> Value
    ) async -> (value: Value, expired: Bool) {
        let meter = TransferMeter()
        let now = ContinuousClock.now
        let entry = Entry(
            deadline: now + limit, meter: meter, pace: Pace(meter, limit: limit, now: now), isAlive: isAlive)
        let id = insert(entry, tick: min(.seconds(1), limit / 8))
        let value = await TransferMeter.$current.withValue(meter) { await work() }
        state.withLock { _ = $0.entries.removeValue(forKey: id) }
        return (value, meter.isLate)
    }

    /// Runs `work` in a task that is cancelled at its deadline, and with the calling task.
    /// - Returns: what `work` returned, and whether the deadline ended it.
    func run<Value: Sendable>(
        for limit: Duration, on executor: (any TaskExecutor)?,
        _ work: @escaping @Sendable () async -> Value
    ) async -> (value: Value, expired: Bool) {
        let meter = TransferMeter()
        let task = Task(executorPreference: executor) { await TransferMeter.$current.withValue(meter) { await work() } }
        let now = ContinuousClock.now
        let entry = Entry(deadline: now + limit, meter: meter, end: { task.cancel() })
        let id = insert(entry, tick: min(.seconds(1), limit / 8))
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
            let (expired, doubtful, done) = state.withLock { state in
                var expired: [Entry] = []
                var doubtful: [(id: UInt64, isAlive: @Sendable () async -> Bool)] = []
                for (id, var entry) in state.entries where !entry.isAsking {
                    if entry.pace != nil {
                        entry.deadline = entry.pace?.deadline(now) ?? entry.deadline
                        state.entries[id] = entry
                    }
                    guard entry.deadline <= now else { continue }
                    if let isAlive = entry.isAlive {
                        entry.isAsking = true
                        state.entries[id] = entry
                        doubtful.append((id, isAlive))
                    } else {
                        expired.append(entry)
                        state.entries[id] = nil
                    }
                }
                state.isWatching = !state.entries.isEmpty
                return (expired, doubtful, state.entries.isEmpty)
            }
            for entry in expired { Self.expire(entry) }
            for (id, isAlive) in doubtful { Task { self.told(await isAlive(), of: id) } }
            if done { return }
        }
    }

    private func told(_ isAlive: Bool, of id: UInt64) {
        let now = ContinuousClock.now
        let expired: Entry? = state.withLock { state in
            guard var entry = state.entries[id] else { return nil }
            entry.isAsking = false
            if isAlive { entry.pace?.begin(now) }
            // It may have moved while nobody looked.
            entry.deadline = entry.pace?.deadline(now) ?? entry.deadline
            let isOver = entry.deadline <= now
            state.entries[id] = isOver ? nil : entry
            return isOver ? entry : nil
        }
        if let expired { Self.expire(expired) }
    }

    private static func expire(_ entry: Entry) {
        entry.meter.expire()
        entry.end()
    }
}

/// How long a transfer may go on that is looked at now and then: as long as it keeps a least rate.
struct Pace {
    private let meter: TransferMeter
    private let limit: Duration
    private var start: ContinuousClock.Instant
    private var bytes = 0
    private var holds = 0
    private var isTaken = false

    init(_ meter: TransferMeter, limit: Duration, now: ContinuousClock.Instant) {
        self.meter = meter
        self.limit = limit
        start = now
    }

    /// What was until now does not count.
    mutating func begin(_ now: ContinuousClock.Instant) { start = now }

    /// When it ends if nothing moves from now on.
    mutating func deadline(_ now: ContinuousClock.Instant) -> ContinuousClock.Instant {
        guard let reading = meter.reading else {
            start = now
            return now + limit
        }
        let least = Double(TransferMeter.leastBytesPerSecond) * ((now - start) / .seconds(1))
        if !isTaken || reading.holds != holds || Double(reading.bytes - bytes) >= max(1, least) {
            // What came before the first look counts as waiting, not as nothing.
            if isTaken || reading.bytes > 0 { start = now }
            isTaken = true
            (bytes, holds) = reading
        }
        return start + limit
    }
}
