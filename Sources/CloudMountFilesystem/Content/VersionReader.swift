import CloudMountCache
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Reads one stored version: what is on its way or was read ahead, and who waits for it. When the file goes on with another
/// version, its reader is retired and another one made.
final class VersionReader: Sendable {
    struct Waiter: Sendable {
        let extent: Extent
        let call: ReadCall

        var reply: ReplyBox<ReadSlices> { call.reply }
    }

    struct Slice: Sendable {
        let fetch: Fetch
        let extent: Extent
    }

    /// The kernel asks once more, page by page, for what a read ahead of it did not get: it has its answer.
    private struct Failure {
        let extent: Extent
        let error: VFSError
        let until: UInt64

        /// Nanoseconds for which it answers for others.
        static let life: UInt64 = 250_000_000
    }

    /// Bytes cannot be had, and some wait for them. Without an error those are to ask again: the fetch was begun for nobody, and nothing was
    /// risked for it.
    typealias Lost = @Sendable (VersionReader, [Waiter], VFSError?) -> Void

    private struct State {
        /// In order of offset.
        var fetches: [Fetch] = []
        var waiters: [Waiter] = []
        /// Nil while nobody reads.
        var lost: Lost?
        var failure: Failure?
        var isRetired = false
        /// Somebody has got bytes of this version.
        var hasDelivered = false
        var lastUse: UInt64 = 0
    }

    let base: ObjectInfo
    private let context: MountContext
    private let state = Mutex(State())
    /// What the local disk keeps of the version.
    private let kept: KeptVersion?
    private let dense: DenseReads?

    init(base: ObjectInfo, context: MountContext) {
        self.base = base
        self.context = context
        kept = context.kept.map { KeptVersion($0, base) }
        dense = kept.map { DenseReads(base, $0, context) }
        context.readAhead.add(self)
    }

    deinit { context.readAhead.remove(ObjectIdentifier(self)) }

    // MARK: Before anybody reads

    /// Fetches all of it for who will read it soon, unless the local disk keeps it (`cancelled`).
    func fetchAhead(into buffer: PooledBuffer, ended: @escaping @Sendable (Result<ObjectInfo, VFSError>) -> Void) {
        guard let file = kept?.file() else { return fetchAll(into: buffer, ended) }
        let all = Extent(0, base.size)
        switch file.place(of: all) {
        case .here: ended(.failure(.cancelled))
        case .absent: fetchAll(into: buffer, ended)
        case .unknown:
            BlockingPool.shared.submit(context.name) {
                file.open()
                if case .absent = file.place(of: all) { return self.fetchAll(into: buffer, ended) }
                ended(.failure(.cancelled))
            }
        }
    }

    private func fetchAll(
        into buffer: PooledBuffer, _ ended: @escaping @Sendable (Result<ObjectInfo, VFSError>) -> Void
    ) {
        let fetch = makeFetch(Extent(0, base.size), Fetch.ahead, buffer)
        let now = context.clock.monotonic()
        state.withLock { state in
            state.lastUse = now
            insert(fetch, into: &state)
        }
        run(fetch, ended)
    }

    /// All of it is there or on its way.
    func holdsAll() -> Bool { state.withLock { Self.gaps(of: Extent(0, base.size), in: $0.fetches).isEmpty } }

    func hasArrived() -> Bool {
        state.withLock { state in state.fetches.allSatisfy { $0.received() == $0.extent.count } }
    }

    /// Somebody is about to read.
    func reading(lost: @escaping Lost) -> VersionReader {
        state.withLock { $0.lost = lost }
        return self
    }

    // MARK: Reading

    /// Answers from what the local disk keeps, at once or behind the caller.
    /// - Parameter otherwise: called when that has not the bytes after all.
    /// - Returns: false when it is known not to have them.
    func readKept(
        _ extent: Extent, _ box: ReplyBox<ReadSlices>, otherwise: @escaping @Sendable () -> Void
    ) -> Bool {
        guard let file = kept?.file() else { return false }
        let isNoted = file.used()
        switch file.place(of: extent) {
        case .absent: return false
        case .here:
            if isNoted { BlockingPool.shared.submit(context.name) { file.noteUse() } }
            if let buffer = context.memory.take(extent.count), file.readNow(extent, into: buffer.bytes), hasGiven() {
                box.send(ReadSlices([UnsafeRawBufferPointer(rebasing: buffer.bytes[..<extent.count])]))
                return true
            }
        case .unknown: break
        }
        BlockingPool.shared.submit(context.name) {
            file.open()
            if isNoted { file.noteUse() }
            guard let buffer = self.context.memory.take(extent.count), file.read(extent, into: buffer.bytes),
                self.hasGiven()
            else { return otherwise() }
            box.send(ReadSlices([UnsafeRawBufferPointer(rebasing: buffer.bytes[..<extent.count])]))
        }
        return true
    }

    /// Somebody gets bytes of the version. False when the file has left it.
    private func hasGiven() -> Bool {
        state.withLock { state in
            if state.isRetired { return false }
            state.hasDelivered = true
            return true
        }
    }

    private enum Step: Sendable {
        /// The bytes are in memory.
        case ready([Slice])
        /// The read waits for these fetches, which have to be started, and perhaps for others under way.
        case waiting(start: [Fetch], stop: [Fetch])
        /// It has just failed.
        case failed(VFSError)
        case noMemory(stop: [Fetch])
        case retired
    }

    enum Answer {
        case taken
        /// The file has another reader by now.
        case retired
        /// No memory to fetch into.
        case noMemory
    }

    /// Answers a read now or when the bytes have come.
    /// - Parameters:
    ///   - extent: what the file has of what is asked for.
    ///   - limit: what is read ahead goes no further than this.
    ///   - prepare: called before the read may have to wait.
    func read(
        _ extent: Extent, limit: Int, _ plan: Prefetcher.Plan, _ handle: OpenFile, _ call: ReadCall,
        prepare: () -> Void
    ) -> Answer {
        let now = context.clock.monotonic()
        let ready: [Slice]? = state.withLock { state in
            state.lastUse = now
            guard !state.isRetired, let slices = Self.slices(of: extent, in: state.fetches) else { return nil }
            state.hasDelivered = true
            return slices
        }
        if let ready {
            deliver(ready, to: call.reply)
            if !plan.ahead.isEmpty || plan.collapsed { readAhead(plan, limit, handle) }
            return .taken
        }
        prepare()
        // Taken without the lock: memory may have to be given back by other readers first.
        let buffers = buffers(for: plan.needed, limit)
        let step = state.withLock { enqueue(&$0, extent, limit, plan, handle, call, now, buffers) }
        switch step {
        case .ready(let slices):
            deliver(slices, to: call.reply)
            readAhead(plan, limit, handle)
        case .waiting(let start, let stop):
            for fetch in stop { fetch.stop() }
            for fetch in start { run(fetch) }
            if plan.isRandom { dense?.missed(extent) }
            readAhead(plan, limit, handle)
        case .failed(let error): call.reply.fail(error)
        case .noMemory(let stop):
            for fetch in stop { fetch.stop() }
            return .noMemory
        case .retired: return .retired
        }
        return .taken
    }

    /// Buffers for what is missing of `needed`, taken before the lock.
    private func buffers(for needed: Extent, _ limit: Int) -> [(Extent, PooledBuffer)]? {
        let needed = Extent(needed.lowerBound, min(needed.upperBound, limit))
        let gaps = state.withLock { Self.gaps(of: needed, in: $0.fetches) }
        var buffers: [(Extent, PooledBuffer)] = []
        for gap in gaps {
            guard let buffer = context.memory.take(gap.count) else { return nil }
            buffers.append((gap, buffer))
        }
        return buffers
    }

    private func enqueue(
        _ state: inout State, _ extent: Extent, _ limit: Int, _ plan: Prefetcher.Plan, _ handle: OpenFile,
        _ call: ReadCall, _ now: UInt64, _ buffers: [(Extent, PooledBuffer)]?
    ) -> Step {
        if state.isRetired { return .retired }
        if let slices = Self.slices(of: extent, in: state.fetches) {
            state.hasDelivered = true
            return .ready(slices)
        }
        if let failure = state.failure, failure.extent.overlaps(extent) {
            if now < failure.until { return .failed(failure.error) }
            state.failure = nil
        }
        let stop = plan.collapsed ? dropUnwanted(&state, of: handle.id) : []
        dropPassed(&state, before: extent.lowerBound, of: handle.id)
        guard let buffers else { return .noMemory(stop: stop) }
        var start: [Fetch] = []
        for (gap, buffer) in buffers {
            // Others may have begun the same meanwhile.
            guard Self.gaps(of: gap, in: state.fetches) == [gap] else { continue }
            let fetch = makeFetch(gap, handle.id, buffer)
            insert(fetch, into: &state)
            start.append(fetch)
        }
        guard Self.gaps(of: extent, in: state.fetches).isEmpty else {
            // What was there a moment ago has gone. None stays in the list that nobody runs.
            state.fetches.removeAll { fetch in start.contains { $0 === fetch } }
            return .noMemory(stop: stop)
        }
        state.waiters.append(Waiter(extent: extent, call: call))
        return .waiting(start: start, stop: stop)
    }

    /// Starts what a read asks for beyond itself.
    private func readAhead(_ plan: Prefetcher.Plan, _ limit: Int, _ handle: OpenFile) {
        let stop = plan.collapsed ? state.withLock { dropUnwanted(&$0, of: handle.id) } : []
        for fetch in stop { fetch.stop() }
        for extent in plan.ahead {
            let gaps = state.withLock {
                Self.gaps(of: Extent(extent.lowerBound, min(extent.upperBound, limit)), in: $0.fetches)
            }
            for gap in kept?.missing(gaps) ?? gaps {
                // Reading ahead leaves room for those who wait, and time for the disk that keeps it.
                guard !(kept?.isBehind(context) ?? false), context.memory.makeRoomAhead(gap.count),
                    let buffer = context.memory.take(gap.count)
                else {
                    return handle.retreat(to: gap.lowerBound)
                }
                let fetch: Fetch? = state.withLock { state in
                    guard !state.isRetired, Self.gaps(of: gap, in: state.fetches) == [gap] else { return nil }
                    let fetch = makeFetch(gap, handle.id, buffer)
                    insert(fetch, into: &state)
                    return fetch
                }
                if let fetch { run(fetch) }
            }
        }
    }

    private func makeFetch(_ extent: Extent, _ handle: HandleID, _ buffer: PooledBuffer) -> Fetch {
        Fetch(extent: extent, handle: handle, buffer: buffer) { [weak self] fetch, _ in self?.arrived(fetch) }
    }

    private func insert(_ fetch: Fetch, into state: inout State) {
        let index = state.fetches.firstIndex { $0.extent.lowerBound > fetch.extent.lowerBound } ?? state.fetches.count
        state.fetches.insert(fetch, at: index)
    }

    /// The slices that hold `extent`, when all of it has arrived.
    private static func slices(of extent: Extent, in fetches: [Fetch]) -> [Slice]? {
        var slices: [Slice] = []
        var offset = extent.lowerBound
        for fetch in fetches where fetch.extent.upperBound > offset {
            if fetch.extent.lowerBound > offset { return nil }
            let part = fetch.extent.intersection(Extent(offset, extent.upperBound))
            guard fetch.received() >= part.upperBound - fetch.extent.lowerBound else { return nil }
            slices.append(Slice(fetch: fetch, extent: part))
            offset = part.upperBound
            if offset == extent.upperBound { return slices }
        }
        return nil
    }

    /// What of `extent` no fetch covers.
    private static func gaps(of extent: Extent, in fetches: [Fetch]) -> [Extent] {
        var gaps: [Extent] = []
        var offset = extent.lowerBound
        for fetch in fetches where fetch.extent.upperBound > offset {
            if fetch.extent.lowerBound >= extent.upperBound { break }
            if fetch.extent.lowerBound > offset { gaps.append(Extent(offset, fetch.extent.lowerBound)) }
            offset = fetch.extent.upperBound
        }
        if offset < extent.upperBound { gaps.append(Extent(offset, extent.upperBound)) }
        return gaps
    }

    // MARK: The transfer

    private func run(_ fetch: Fetch, _ ended: @escaping @Sendable (Result<ObjectInfo, VFSError>) -> Void = { _ in }) {
        fetch.run(on: context.provider.executor) { [weak self] in
            guard let self else { return ended(.failure(.cancelled)) }
            var request = ReadRequest(key: base.key, extent: fetch.extent, version: base.etag)
            request.isAhead = fetch.isAhead
            do throws(VFSError) {
                let info = try await context.provider.read(request, into: fetch)
                guard fetch.received() == fetch.extent.count else {
                    throw VFSError(.stale, "\(base.key) is shorter than it was when it was opened")
                }
                if fetch.extent == Extent(0, base.size), !fetch.isAhead, kept == nil, context.policy().data != .off {
                    context.recent.noteRead(base, fetch.slice(fetch.extent))
                }
                kept?.keep(fetch, context)
                ended(.success(info))
            } catch {
                failed(fetch, error)
                ended(.failure(error))
            }
        }
    }

    /// On the transfer thread, after each piece that came in.
    private func arrived(_ fetch: Fetch) {
        let ready: [(Waiter, [Slice])] = state.withLock { state in
            guard !state.waiters.isEmpty else { return [] }
            var ready: [(Waiter, [Slice])] = []
            state.waiters.removeAll { waiter in
                guard waiter.extent.overlaps(fetch.extent),
                    let slices = Self.slices(of: waiter.extent, in: state.fetches)
                else { return false }
                ready.append((waiter, slices))
                return true
            }
            if !ready.isEmpty { state.hasDelivered = true }
            return ready
        }
        for (waiter, slices) in ready { deliver(slices, to: waiter.reply) }
    }

    private func failed(_ fetch: Fetch, _ error: VFSError) {
        let (failed, lost): ([Waiter], Lost?) = state.withLock { state in
            let missing = Extent(fetch.extent.lowerBound + fetch.received(), fetch.extent.upperBound)
            guard let index = state.fetches.firstIndex(where: { $0 === fetch }) else { return ([], nil) }
            state.fetches.remove(at: index)
            let failed = state.waiters.filter { $0.extent.overlaps(missing) }
            state.waiters.removeAll { $0.extent.overlaps(missing) }
            if error.code.isUnreachable || error.code == .corrupted, !failed.isEmpty, !fetch.isAhead {
                let until = context.clock.monotonic() + Failure.life
                state.failure = Failure(extent: missing, error: error, until: until)
            }
            return (failed, state.lost)
        }
        // What was only read ahead is asked for again when somebody wants it, but for a version that is gone.
        if failed.isEmpty, fetch.isAhead || error.code != .stale && error.code != .notFound { return }
        // Who has waited until the deadline does not begin anew.
        lost?(self, failed, fetch.isAhead && error.code != .timedOut ? nil : error)
    }

    /// Sends and lets go of what has been read to its end.
    private func deliver(_ slices: [Slice], to box: ReplyBox<ReadSlices>) {
        guard let reply = box.take() else { return }
        reply.send(ReadSlices(slices.map { $0.fetch.slice($0.extent) }))
        let finished = slices.filter { $0.fetch.delivered($0.extent.count) }
        if !finished.isEmpty {
            state.withLock { state in
                let waiters = state.waiters
                state.fetches.removeAll { fetch in
                    finished.contains { $0.fetch === fetch } && !waiters.contains { $0.extent.overlaps(fetch.extent) }
                }
            }
        }
        // What nobody waits for any more may go.
        context.memory.hasBecomeReclaimable()
    }

    func giveUp(_ box: ReplyBox<ReadSlices>) {
        state.withLock { $0.waiters.removeAll { $0.reply === box } }
        context.memory.hasBecomeReclaimable()
    }

    // MARK: Letting go

    private func dropUnwanted(_ state: inout State, of handle: HandleID) -> [Fetch] {
        drop(&state) { $0.handle == handle }
    }

    /// Takes out the fetches for which `matches` and which nobody waits for.
    private func drop(_ state: inout State, where matches: (Fetch) -> Bool) -> [Fetch] {
        var dropped: [Fetch] = []
        let waiters = state.waiters
        state.fetches.removeAll { fetch in
            guard matches(fetch), !waiters.contains(where: { $0.extent.overlaps(fetch.extent) }) else { return false }
            dropped.append(fetch)
            return true
        }
        return dropped
    }

    /// A sequential reader does not come back for what lies far behind it.
    private func dropPassed(_ state: inout State, before offset: Int, of handle: HandleID) {
        let limit = offset - 4 * Prefetcher.slack
        guard let first = state.fetches.first, first.extent.upperBound < limit else { return }
        _ = drop(&state) { fetch in
            fetch.handle == handle && fetch.extent.upperBound < limit && fetch.received() == fetch.extent.count
        }
    }

    /// The handle is closed: nobody wants what it read ahead.
    func closed(_ handle: HandleID) {
        for fetch in state.withLock({ dropUnwanted(&$0, of: handle) }) { fetch.stop() }
    }

    func lastUse() -> UInt64 { state.withLock { $0.lastUse } }

    /// Lets go of what nobody waits for.
    /// - Returns: the bytes of memory that come back.
    func dropIdle() -> Int {
        let dropped = state.withLock { drop(&$0) { _ in true } }
        for fetch in dropped { fetch.stop() }
        return dropped.reduce(0) { $0 + BufferPool.cost($1.extent.count) }
    }

    /// The file goes on with another version.
    /// - Returns: who waits for bytes, and whether anybody has got some.
    func retire() -> (waiters: [Waiter], hasDelivered: Bool) {
        let (fetches, waiters, hasDelivered) = state.withLock { state in
            state.isRetired = true
            defer {
                state.fetches = []
                state.waiters = []
            }
            return (state.fetches, state.waiters, state.hasDelivered)
        }
        for fetch in fetches { fetch.stop() }
        return (waiters, hasDelivered)
    }

    /// As `retire`, if nobody has got a byte of this version.
    func retireUnread() -> [Waiter]? {
        let isUnread = state.withLock { state in
            guard !state.hasDelivered else { return false }
            state.isRetired = true
            return true
        }
        return isUnread ? retire().waiters : nil
    }
}
