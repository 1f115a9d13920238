import Glibc
import Synchronization

/// A hard budget of reusable memory: one per process, shared by every mount through a `MemoryShare` of its own.
///
/// Buffers come in size classes, powers of two from 4 KiB to 16 MiB (larger ones in whole MiB), and the budget counts
/// the class, handed out or kept. What comes back is handed out again, last in first out, because touching memory that
/// is fresh from the system costs far more than touching memory that is warm.
public final class BufferPool: Sendable {
    static let smallestClass = 4 << 10
    static let largestClass = 16 << 20
    /// From here on memory is mapped, so that pages that are never touched cost nothing.
    static let mappedFrom = 128 << 10

    typealias Reclaimer = @Sendable (Int, MemoryPressure) -> Int

    struct Waiter {
        var id: UInt64
        var share: Int
        var size: Int
        /// Nil until the task has suspended.
        var continuation: CheckedContinuation<Void, Never>?
    }

    struct State {
        var used = 0
        /// Bytes in use by share.
        var shares: [Int: Int] = [:]
        /// How a share gives back what nobody waits for.
        var reclaimers: [Int: Reclaimer] = [:]
        var nextShare = 1
        /// What the shares that use less than their guarantee may still take of it, together.
        var promised = 0
        var kept = 0
        /// Addresses by class, the most recently returned last.
        var free: [[UInt]]
        var waiters: [Waiter] = []
        var nextWaiter: UInt64 = 0
        /// Something may have become reclaimable, and somebody looks.
        var isToLook = false
        var isLooking = false
        var limit: Int

        /// A share that is alone soon wants again what it gives back. Several never want all of theirs at once: what is
        /// kept makes room then for what is in use.
        func keeps(_ size: Int) -> Bool {
            guard kept + size <= min(limit / 2, 64 << 20) else { return false }
            return kept + used <= limit / 3 * 2 || shares.values.count { $0 > 0 } <= 1
        }
    }

    let state: Mutex<State>

    /// - Parameter limit: bytes; what is kept for reuse takes at most half of it and 64 MiB, and while several shares are in
    ///   use no more than what is in use leaves of two thirds.
    public init(limit: Int) {
        let classes = BufferPool.classIndex(BufferPool.largestClass) + 1
        state = Mutex(State(free: Array(repeating: [], count: classes), limit: max(0, limit)))
    }

    deinit {
        state.withLock { state in
            for (index, addresses) in state.free.enumerated() {
                for address in addresses { BufferPool.release(address, BufferPool.smallestClass << index) }
            }
        }
    }

    /// Bytes that buffers handed out and buffers kept for reuse may take together. Lowered, it holds for what is handed out
    /// from then on.
    public var limit: Int {
        get { state.withLock { $0.limit } }
        set {
            let ready = state.withLock { state in
                state.limit = max(0, newValue)
                recount(&state)
                return wakeable(&state)
            }
            for continuation in ready { continuation.resume() }
        }
    }

    /// Bytes of the budget that buffers in use take.
    public var used: Int { state.withLock { $0.used } }

    /// Tasks that wait for room.
    public var waiting: Int { state.withLock { $0.waiters.count } }

    /// Bytes kept for reuse.
    public var kept: Int { state.withLock { $0.kept } }

    /// What a buffer of `count` bytes takes from the budget.
    public static func cost(_ count: Int) -> Int {
        if count > largestClass { return (count + (1 << 20) - 1) & ~((1 << 20) - 1) }
        return smallestClass << classIndex(count)
    }

    /// A part of the pool for one mount.
    public func share() -> MemoryShare { MemoryShare(self) }

    /// A buffer of `count` bytes of undefined content; nil when the budget has no room for it, or the system no memory.
    func take(_ count: Int, for share: MemoryShare, reclaiming: Bool) -> PooledBuffer? {
        if let buffer = takeNow(count, for: share) { return buffer }
        guard reclaiming, count >= 0, count <= limit, reclaim(BufferPool.cost(count), for: share.number) else {
            return nil
        }
        return takeNow(count, for: share)
    }

    private func takeNow(_ count: Int, for share: MemoryShare) -> PooledBuffer? {
        guard count >= 0, count <= limit else { return nil }
        let size = BufferPool.cost(count)
        let pooled = size <= BufferPool.largestClass
        var surplus: [(UInt, Int)] = []
        let address: UInt? = state.withLock { state in
            guard hasRoom(state, size, for: share.number, within: state.limit) else { return nil }
            change(&state, share.number, by: size)
            if pooled, let address = state.free[BufferPool.classIndex(size)].popLast() {
                state.kept -= size
                return address
            }
            surplus = trim(&state, to: state.limit - state.used)
            return 0
        }
        guard var address else { return nil }
        for (address, size) in surplus { BufferPool.release(address, size) }
        if address == 0 {
            guard let fresh = BufferPool.allocate(size) else {
                giveBack(size, share.number)
                return nil
            }
            address = fresh
        }
        guard let start = UnsafeMutableRawPointer(bitPattern: address) else { return nil }
        return PooledBuffer(share: share, bytes: UnsafeMutableRawBufferPointer(start: start, count: count), size: size)
    }

    func waitForRoom(_ count: Int, for share: Int) async {
        let size = BufferPool.cost(max(0, count))
        let id: UInt64? = state.withLock { state in
            if size > state.limit || hasRoom(state, size, for: share, within: state.limit) { return nil }
            state.nextWaiter += 1
            state.waiters.append(Waiter(id: state.nextWaiter, share: share, size: size))
            return state.nextWaiter
        }
        guard let id else { return }
        // It waits already: what comes back from here on wakes it.
        reclaim(size, for: share)
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let alreadyOver = state.withLock { state in
                    guard let index = state.waiters.firstIndex(where: { $0.id == id }) else { return true }
                    state.waiters[index].continuation = continuation
                    return false
                }
                if alreadyOver { continuation.resume() }
            }
        } onCancel: {
            let continuation = state.withLock { state in
                state.waiters.firstIndex { $0.id == id }.flatMap { state.waiters.remove(at: $0).continuation }
            }
            continuation?.resume()
        }
    }

    fileprivate func putBack(_ address: UInt, _ size: Int, _ share: Int) {
        let keep = state.withLock { state in
            guard size <= BufferPool.largestClass, state.keeps(size) else { return false }
            state.free[BufferPool.classIndex(size)].append(address)
            state.kept += size
            return true
        }
        if !keep { BufferPool.release(address, size) }
        giveBack(size, share)
    }

    private func giveBack(_ size: Int, _ share: Int) {
        let ready = state.withLock { state in
            change(&state, share, by: -size)
            return wakeable(&state)
        }
        for continuation in ready { continuation.resume() }
    }

    /// All that fit are woken, not only the first: one that no longer wants its room must not keep it from the rest.
    private func wakeable(_ state: inout State) -> [CheckedContinuation<Void, Never>] {
        guard !state.waiters.isEmpty else { return [] }
        // Nor does one wait for what will never be.
        let isOver = { [state] (waiter: Waiter) in
            waiter.size > state.limit || self.hasRoom(state, waiter.size, for: waiter.share, within: state.limit)
        }
        let ready = state.waiters.compactMap { isOver($0) ? $0.continuation : nil }
        state.waiters.removeAll(where: isOver)
        return ready
    }

    // MARK: Shares

    func join() -> Int {
        state.withLock { state in
            defer { state.nextShare += 1 }
            state.shares[state.nextShare] = 0
            recount(&state)
            return state.nextShare
        }
    }

    /// Its buffers are all back.
    func leave(_ share: Int) {
        let ready = state.withLock { state in
            state.shares[share] = nil
            state.reclaimers[share] = nil
            recount(&state)
            return wakeable(&state)
        }
        for continuation in ready { continuation.resume() }
    }

    func used(by share: Int) -> Int { state.withLock { $0.shares[share] ?? 0 } }

    func hasRoomAhead(_ count: Int, for share: Int) -> Bool {
        let size = BufferPool.cost(max(0, count))
        return state.withLock { hasRoom($0, size, for: share, within: limitAhead($0, for: share)) }
    }

    /// Several that read at once take turns on the same processors and lines: more ahead is no faster.
    func limitAhead(_ state: State, for share: Int) -> Int {
        let isAlone = !state.shares.contains { $0.key != share && $0.value > 0 }
        return isAlone ? state.limit / 4 * 3 : state.limit / 2
    }

    /// What no other share can take from one.
    func guarantee(_ state: State) -> Int { state.limit / 2 / max(1, state.shares.count) }

    func hasRoom(_ state: State, _ size: Int, for share: Int, within limit: Int) -> Bool {
        guard state.used + size <= limit else { return false }
        let (own, guarantee) = (state.shares[share] ?? 0, guarantee(state))
        if own + size <= guarantee { return true }
        // What is promised to the others stays theirs, from all but who could never have anything else.
        let isPossible = size <= state.limit - guarantee * (state.shares.count - 1)
        guard !isPossible || state.used + size + othersPromised(state, except: share) <= state.limit else {
            return false
        }
        guard state.waiters.contains(where: { $0.share != share }) else { return true }
        // Others want memory: what is beyond the fair part of all who use or want some is theirs first.
        var wanting = Set(state.waiters.map(\.share))
        wanting.insert(share)
        for (other, used) in state.shares where used > 0 { wanting.insert(other) }
        let fair = state.limit / wanting.count
        return own + size <= fair
            || !state.waiters.contains { $0.share != share && (state.shares[$0.share] ?? 0) + $0.size <= fair }
    }

    /// What the other shares may still take of their guarantees.
    func othersPromised(_ state: State, except share: Int) -> Int {
        state.promised - max(0, guarantee(state) - (state.shares[share] ?? 0))
    }

    private func change(_ state: inout State, _ share: Int, by size: Int) {
        let guarantee = guarantee(state)
        let before = state.shares[share] ?? 0
        let after = before + size
        state.used += size
        state.shares[share] = after
        state.promised += max(0, guarantee - after) - max(0, guarantee - before)
    }

    private func recount(_ state: inout State) {
        let guarantee = guarantee(state)
        state.promised = state.shares.values.reduce(0) { $0 + max(0, guarantee - $1) }
    }

    /// Takes kept buffers, largest class first, out of the pool until no more than `room` bytes are kept.
    private func trim(_ state: inout State, to room: Int) -> [(UInt, Int)] {
        guard state.kept > room else { return [] }
        var taken: [(UInt, Int)] = []
        for index in state.free.indices.reversed() {
            let size = BufferPool.smallestClass << index
            while state.kept > room, !state.free[index].isEmpty {
                taken.append((state.free[index].removeFirst(), size))
                state.kept -= size
            }
        }
        return taken
    }

    private static func classIndex(_ count: Int) -> Int {
        guard count > smallestClass else { return 0 }
        return Int.bitWidth - (count - 1).leadingZeroBitCount - smallestClass.trailingZeroBitCount
    }

    private static func allocate(_ size: Int) -> UInt? {
        if size >= mappedFrom {
            let address = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            return address == MAP_FAILED ? nil : address.map { UInt(bitPattern: $0) }
        }
        return aligned_alloc(smallestClass, size).map { UInt(bitPattern: $0) }
    }

    private static func release(_ address: UInt, _ size: Int) {
        let start = UnsafeMutableRawPointer(bitPattern: address)
        if size >= mappedFrom { munmap(start, size) } else { free(start) }
    }
}

/// Memory of a `BufferPool`, which gets it back when the last reference goes.
public final class PooledBuffer: @unchecked Sendable {
    // SAFETY: the pointer and the count never change; who may touch which bytes at a time is the holders' agreement.
    /// As many bytes as were asked for.
    public let bytes: UnsafeMutableRawBufferPointer
    private let share: MemoryShare
    private let size: Int

    fileprivate init(share: MemoryShare, bytes: UnsafeMutableRawBufferPointer, size: Int) {
        self.share = share
        self.bytes = bytes
        self.size = size
    }

    deinit { share.pool.putBack(UInt(bitPattern: bytes.baseAddress), size, share.number) }
}
