/// What memory is wanted for.
public enum MemoryPressure: Sendable {
    /// Somebody waits for it.
    case needed
    /// To read ahead: what readers that are at work have read ahead is worth as much, and stays.
    case ahead
}

/// One mount's part of a `BufferPool`.
///
/// It is sure of its guarantee, which nobody else can take: half of the pool goes to the shares in equal parts. Beyond
/// that it may have what is free, as long as no other share waits with less than its fair part. So a mount whose
/// store hangs can neither hold all of the memory nor keep the others from theirs.
public final class MemoryShare: Sendable {
    let pool: BufferPool
    let number: Int

    init(_ pool: BufferPool) {
        self.pool = pool
        number = pool.join()
    }

    deinit { pool.leave(number) }

    /// Bytes of the whole pool.
    public var limit: Int { pool.limit }
    /// Bytes that buffers of this share take.
    public var used: Int { pool.used(by: number) }

    /// How this share gives back what nobody waits for, such as what was read ahead for a handle that rests.
    ///
    /// `reclaim` is called with a number of bytes and what they are for, without a lock of the pool's, on the thread of whoever wants
    /// memory, also by several at once: it lets go of at least so many bytes of buffers if it can, of the longest unused first, and
    /// returns how many they were. It is asked before a `take` of this share fails and before a `waitForRoom` waits, then also for
    /// other shares while this one has more than its guarantee. What it takes itself meanwhile asks nobody.
    public func onPressure(_ reclaim: @escaping @Sendable (Int, MemoryPressure) -> Int) {
        pool.onPressure(number, reclaim)
    }

    /// To be called when something has become reclaimable that was not: whoever waits gets it. Costs next to nothing while
    /// nobody does. May call `reclaim`.
    public func hasBecomeReclaimable() { pool.lookAgain() }

    /// A buffer of `count` bytes of undefined content; nil when there is no room for it at present.
    /// - Parameter reclaiming: before it fails, others are asked to give back (`onPressure`). False from under a lock that such
    ///   a callback takes.
    public func take(_ count: Int, reclaiming: Bool = true) -> PooledBuffer? {
        pool.take(count, for: self, reclaiming: reclaiming)
    }

    /// Returns when `take(count)` had room at that moment, when the task is cancelled, or at once when `count` is beyond
    /// the limit. Another task may be quicker: take, and wait again when there is none.
    public func waitForRoom(_ count: Int) async { await pool.waitForRoom(count, for: number) }

    /// Whether `count` bytes that nobody waits for yet can be taken and leave room for those who wait.
    public func hasRoomAhead(_ count: Int) -> Bool { pool.hasRoomAhead(count, for: number) }

    /// Whether `take(count)` has room at this moment; where it has not, others are asked to give back first (`onPressure`).
    public func makeRoom(_ count: Int) -> Bool { pool.reclaim(BufferPool.cost(max(0, count)), for: number) }

    /// As `hasRoomAhead`, but where there is none others are asked to give back first (`onPressure`).
    public func makeRoomAhead(_ count: Int) -> Bool {
        pool.reclaim(BufferPool.cost(max(0, count)), for: number, .ahead)
    }
}
