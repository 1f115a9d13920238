import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Synchronization

extension FileContent {
    /// What the lock found out about a read.
    private enum Step: Sendable {
        /// The bytes are in memory.
        case ready([Slice])
        /// The bytes are in the staged file or are zeros.
        case staged([FileImage.Piece], Extent, StagedFile?)
        /// The read waits for these fetches, which have to be started, and perhaps for others under way.
        case waiting(start: [Fetch], stop: [Fetch])
        /// It has just failed.
        case failed(VFSError)
        /// Staged and stored bytes, or no memory to read ahead into.
        case assemble
    }

    struct Slice: Sendable {
        let fetch: Fetch
        let extent: Extent
    }

    /// Answers with the bytes of `extent`, as far as the file has them.
    func read(_ extent: Extent, handle: OpenFile, reply: consuming Reply<ReadSlices>) {
        let (size, hasBase) = state.withLock { ($0.size, $0.base != nil) }
        let extent = extent.clipped(to: size)
        if extent.isEmpty { return reply.send(ReadSlices([])) }
        let plan = hasBase ? handle.plan(extent, size: size) : Prefetcher.Plan(needed: extent)
        let box = ReplyBox(reply)
        var step = state.withLock { FileContent.present(extent, $0) }
        if step == nil {
            // Before the box is shared: the reply may be gone at any moment after.
            box.onInterrupt { [weak self] in self?.giveUp(box) }
            step = state.withLock { state in
                FileContent.present(extent, state) ?? enqueue(&state, extent, plan, handle, box)
            }
        }
        switch step {
        case .ready(let slices):
            deliver(slices, to: box)
            if !plan.ahead.isEmpty || plan.collapsed { readAhead(plan, handle) }
        case .staged(let pieces, let extent, let staged): readStaged(pieces, extent, staged, box)
        case .waiting(let start, let stop):
            for fetch in stop { fetch.stop() }
            for fetch in start { run(fetch) }
        case .failed(let error): box.fail(error)
        case .assemble: assembleLater(extent, box)
        case nil: box.fail(VFSError(.io, "a read has no way to its bytes"))
        }
    }

    /// Starts what a read ahead asks for beyond a read that could be answered.
    private func readAhead(_ plan: Prefetcher.Plan, _ handle: OpenFile) {
        let (start, stop) = state.withLock { state in
            let stop = plan.collapsed ? dropUnwanted(&state, of: handle) : []
            return (makeAhead(&state, plan.ahead, handle), stop)
        }
        for fetch in stop { fetch.stop() }
        for fetch in start { run(fetch) }
    }

    // MARK: Under the lock

    /// How to answer without the store, or with it at once; nil when bytes have to be fetched.
    private static func present(_ wanted: Extent, _ state: State) -> Step? {
        let extent = wanted.clipped(to: state.size)
        if extent.isEmpty { return .ready([]) }
        if let image = state.image {
            let pieces = image.pieces(in: extent)
            let stored = pieces.count { if case .base = $0 { true } else { false } }
            if stored == 0 { return .staged(pieces, extent, state.staged) }
            if stored < pieces.count { return .assemble }
        }
        return slices(of: extent, in: state.fetches).map { .ready($0) }
    }

    private func enqueue(
        _ state: inout State, _ wanted: Extent, _ plan: Prefetcher.Plan, _ handle: OpenFile, _ box: ReplyBox<ReadSlices>
    ) -> Step {
        let extent = wanted.clipped(to: state.size)
        if let failure = state.failure, failure.extent.overlaps(extent) {
            if SystemClock.monotonic() < failure.until { return .failed(failure.error) }
            state.failure = nil
        }
        let stop = plan.collapsed ? dropUnwanted(&state, of: handle) : []
        dropPassed(&state, before: extent.lowerBound, of: handle)
        guard let base = state.base else { return .assemble }
        var start: [Fetch] = []
        // What is read ahead goes no further than the base: the image's own bytes are on disk.
        let limit = state.image?.baseLimit ?? base.size
        let needed = Extent(plan.needed.lowerBound, min(plan.needed.upperBound, limit))
        for gap in FileContent.gaps(of: needed, in: state.fetches) {
            guard let fetch = makeFetch(gap, handle) else {
                handle.retreat(to: extent.upperBound)
                for fetch in start { fetch.stop() }
                return .assemble
            }
            insert(fetch, into: &state)
            start.append(fetch)
        }
        state.waiters.append(ReadWaiter(extent: extent, reply: box))
        return .waiting(start: start + makeAhead(&state, plan.ahead, handle), stop: stop)
    }

    private func makeAhead(_ state: inout State, _ ahead: [Extent], _ handle: OpenFile) -> [Fetch] {
        guard let base = state.base else { return [] }
        let limit = state.image?.baseLimit ?? base.size
        var made: [Fetch] = []
        for extent in ahead {
            for gap in FileContent.gaps(of: Extent(extent.lowerBound, min(extent.upperBound, limit)), in: state.fetches)
            {
                // Reading ahead leaves room for those who wait.
                guard pool.hasRoomAhead(gap.count), let fetch = makeFetch(gap, handle) else {
                    handle.retreat(to: gap.lowerBound)
                    return made
                }
                insert(fetch, into: &state)
                made.append(fetch)
            }
        }
        return made
    }

    private func makeFetch(_ extent: Extent, _ handle: OpenFile) -> Fetch? {
        guard let buffer = pool.take(extent.count) else { return nil }
        return Fetch(extent: extent, handle: handle.id, buffer: buffer) { [weak self] fetch, count in
            self?.arrived(fetch, count)
        }
    }

    private func insert(_ fetch: Fetch, into state: inout State) {
        let index = state.fetches.firstIndex { $0.extent.lowerBound > fetch.extent.lowerBound } ?? state.fetches.count
        state.fetches.insert(fetch, at: index)
    }

    private func dropUnwanted(_ state: inout State, of handle: OpenFile) -> [Fetch] {
        let waiters = state.waiters
        let unwanted = state.fetches.filter { fetch in
            fetch.handle == handle.id && !waiters.contains { $0.extent.overlaps(fetch.extent) }
        }
        state.fetches.removeAll { fetch in unwanted.contains { $0 === fetch } }
        return unwanted
    }

    /// A sequential reader does not come back for what lies far behind it.
    private func dropPassed(_ state: inout State, before offset: Int, of handle: OpenFile) {
        let limit = offset - 4 * Prefetcher.slack
        guard let first = state.fetches.first, first.extent.upperBound < limit else { return }
        let waiters = state.waiters
        state.fetches.removeAll { fetch in
            fetch.handle == handle.id && fetch.extent.upperBound < limit && fetch.received == fetch.extent.count
                && !waiters.contains { $0.extent.overlaps(fetch.extent) }
        }
    }

    /// The slices that hold `extent`, when all of it has arrived. `fetches` are in order of offset.
    private static func slices(of extent: Extent, in fetches: [Fetch]) -> [Slice]? {
        var slices: [Slice] = []
        var offset = extent.lowerBound
        for fetch in fetches where fetch.extent.upperBound > offset {
            if fetch.extent.lowerBound > offset { return nil }
            let part = fetch.extent.intersection(Extent(offset, extent.upperBound))
            guard fetch.received >= part.upperBound - fetch.extent.lowerBound else { return nil }
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

    private func run(_ fetch: Fetch) {
        fetch.run(on: provider.executor) { [weak self] in
            guard let self, let base = self.state.withLock({ $0.base }) else { return }
            do throws(VFSError) {
                _ = try await self.provider.read(
                    ReadRequest(key: base.key, extent: fetch.extent, version: base.etag), into: fetch)
                guard fetch.received == fetch.extent.count else {
                    throw VFSError(.stale, "\(base.key) is shorter than it was when it was opened")
                }
            } catch {
                self.failed(fetch, base, error)
            }
        }
    }

    /// On the transfer thread, after each piece that came in.
    private func arrived(_ fetch: Fetch, _ count: Int) {
        let ready: [(ReadWaiter, [Slice])] = state.withLock { state in
            guard !state.waiters.isEmpty else { return [] }
            var ready: [(ReadWaiter, [Slice])] = []
            state.waiters.removeAll { waiter in
                guard waiter.extent.overlaps(fetch.extent),
                    let slices = FileContent.slices(of: waiter.extent, in: state.fetches)
                else { return false }
                ready.append((waiter, slices))
                return true
            }
            return ready
        }
        for (waiter, slices) in ready { deliver(slices, to: waiter.reply) }
    }

    private func failed(_ fetch: Fetch, _ base: ObjectInfo, _ error: VFSError) {
        let (isElsewhere, failed): (Bool, [ReadWaiter]) = state.withLock { state in
            let missing = Extent(fetch.extent.lowerBound + fetch.received, fetch.extent.upperBound)
            guard let index = state.fetches.firstIndex(where: { $0 === fetch }) else { return (false, []) }
            state.fetches.remove(at: index)
            let failed = state.waiters.filter { $0.extent.overlaps(missing) }
            state.waiters.removeAll { $0.extent.overlaps(missing) }
            if error.code.isUnreachable || error.code == .corrupted, !failed.isEmpty {
                let until = SystemClock.monotonic() + ReadFailure.life
                state.failure = ReadFailure(extent: missing, error: error, until: until)
            }
            // Renamed or committed here meanwhile: the same bytes are under another key or in another version.
            let isGone = error.code == .stale || error.code == .notFound
            return (isGone && state.base.map { !$0.isSameVersion(as: base) } ?? true, failed)
        }
        if isElsewhere { return redirect(Reads(waiters: failed)) }
        let error = error.code == .notFound ? VFSError(.stale, error.message, wire: error.wire) : error
        for waiter in failed { waiter.reply.fail(error) }
    }

    private func giveUp(_ box: ReplyBox<ReadSlices>) {
        state.withLock { $0.waiters.removeAll { $0.reply === box } }
        box.fail(.cancelled)
    }

    /// Sends and lets go of what has been read to its end.
    private func deliver(_ slices: [Slice], to box: ReplyBox<ReadSlices>) {
        guard let reply = box.take() else { return }
        reply.send(ReadSlices(slices.map { $0.fetch.slice($0.extent) }))
        let finished = slices.filter { $0.fetch.delivered($0.extent.count) }
        guard !finished.isEmpty else { return }
        state.withLock { state in
            let waiters = state.waiters
            state.fetches.removeAll { fetch in
                finished.contains { $0.fetch === fetch } && !waiters.contains { $0.extent.overlaps(fetch.extent) }
            }
        }
    }

    /// The handle is closed: nobody wants what it read ahead.
    func closed(_ handle: OpenFile) {
        let unwanted = state.withLock { dropUnwanted(&$0, of: handle) }
        for fetch in unwanted { fetch.stop() }
    }

    /// Reads of a base that is not the file's any more.
    struct Reads: Sendable {
        var fetches: [Fetch] = []
        var waiters: [ReadWaiter] = []
    }

    /// Under the lock: what is under way from the base that goes.
    static func takeReads(_ state: inout State) -> Reads {
        defer {
            state.fetches = []
            state.waiters = []
        }
        return Reads(fetches: state.fetches, waiters: state.waiters)
    }

    /// Outside the lock: answers from what the file is now.
    func redirect(_ reads: Reads) {
        for fetch in reads.fetches { fetch.stop() }
        for waiter in reads.waiters { assembleLater(waiter.extent, waiter.reply) }
    }

    // MARK: Local bytes

    private func readStaged(
        _ pieces: [FileImage.Piece], _ extent: Extent, _ staged: StagedFile?, _ box: ReplyBox<ReadSlices>
    ) {
        guard let buffer = pool.take(extent.count) else { return assembleLater(extent, box) }
        do throws(VFSError) {
            try fill(buffer, extent, pieces, staged)
            box.send(ReadSlices([UnsafeRawBufferPointer(buffer.bytes)]))
        } catch {
            assembleLater(extent, box)  // Cut short in this moment, perhaps.
        }
    }

    /// Puts the staged bytes and the zeros of `pieces` where they belong in `buffer`, which begins at `extent`.
    private func fill(
        _ buffer: PooledBuffer, _ extent: Extent, _ pieces: [FileImage.Piece], _ staged: StagedFile?
    ) throws(VFSError) {
        for piece in pieces {
            let low = piece.extent.lowerBound - extent.lowerBound
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[low..<low + piece.extent.count])
            switch piece {
            case .base: break
            case .zero: target.initializeMemory(as: UInt8.self, repeating: 0)
            case .staged(let part):
                let count = try staged?.read(at: part.lowerBound, into: target) ?? 0
                guard count == target.count else { throw VFSError(.io, "staged bytes are missing") }
            }
        }
    }

    private func assembleLater(_ wanted: Extent, _ box: ReplyBox<ReadSlices>) {
        Task(executorPreference: provider.executor) {
            while true {
                let (extent, pieces, base, staged, generation) = self.state.withLock { state in
                    let extent = wanted.clipped(to: state.size)
                    let pieces = FileContent.beginChange(&state).pieces(in: extent)
                    return (extent, pieces, state.base, state.staged, state.generation)
                }
                if extent.isEmpty { return box.send(ReadSlices([])) }
                do throws(VFSError) {
                    let buffer = try await self.assemble(pieces, extent, base: base, staged: staged)
                    return box.send(ReadSlices([UnsafeRawBufferPointer(buffer.bytes)]))
                } catch {
                    // Committed, renamed or cut meanwhile: what the file is now has the bytes elsewhere.
                    let hasChanged = self.state.withLock { state in
                        state.generation != generation || state.staged !== staged || state.base?.etag != base?.etag
                            || state.base?.key != base?.key
                    }
                    if hasChanged, error.code == .stale || error.code == .io { continue }
                    return box.fail(error)
                }
            }
        }
    }

    /// The bytes of `extent`, of which `pieces` cover all, in one buffer: stored, staged and zeros.
    func assemble(
        _ pieces: [FileImage.Piece], _ extent: Extent, base: ObjectInfo?, staged: StagedFile?
    ) async throws(VFSError) -> PooledBuffer {
        var taken = pool.take(extent.count)
        while taken == nil {
            if BufferPool.cost(extent.count) > pool.limit {
                throw VFSError(.noSpace, "the memory budget is too small")
            }
            await pool.waitForRoom(extent.count)
            if Task.isCancelled { throw .cancelled }
            taken = pool.take(extent.count)
        }
        guard let buffer = taken else { throw .cancelled }
        // Bytes that are staged or zeros are laid over what the store has of them.
        _ = try await inParallel(FileContent.stored(pieces), width: 8) { part async throws(VFSError) in
            guard let base else { throw VFSError(.io, "a file has lost the version it is based on") }
            let sink = BufferSink(buffer, offset: part.lowerBound - extent.lowerBound, count: part.count)
            do throws(VFSError) {
                _ = try await self.provider.read(
                    ReadRequest(key: base.key, extent: part, version: base.etag), into: sink)
            } catch {
                throw error.code == .notFound ? VFSError(.stale, error.message, wire: error.wire) : error
            }
            guard sink.received == part.count else { throw VFSError(.stale, "\(base.key) has become shorter") }
        }
        try fill(buffer, extent, pieces, staged)
        return buffer
    }

    /// What is to be read of the base: stored bytes, and what lies between two runs of them where a request of its own
    /// would cost more.
    private static func stored(_ pieces: [FileImage.Piece]) -> [Extent] {
        var extents: [Extent] = []
        for piece in pieces {
            guard case .base(let part) = piece else { continue }
            if let last = extents.last, part.lowerBound - last.upperBound <= 256 << 10 {
                extents[extents.count - 1].upperBound = part.upperBound
            } else {
                extents.append(part)
            }
        }
        return extents
    }
}

extension Extent {
    func clipped(to size: Int) -> Extent { Extent(min(lowerBound, size), min(upperBound, size)) }
}
