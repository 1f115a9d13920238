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

    /// A buffer of `count` bytes of undefined content; nil when there is no room for it at present.
    public func take(_ count: Int) -> PooledBuffer? { pool.take(count, for: self) }

    /// Returns when `take(count)` had room at that moment, when the task is cancelled, or at once when `count` is beyond
    /// the limit. Another task may be quicker: take, and wait again when there is none.
    public func waitForRoom(_ count: Int) async { await pool.waitForRoom(count, for: number) }

    /// Whether `count` bytes that nobody waits for yet can be taken and leave room for those who wait.
    public func hasRoomAhead(_ count: Int) -> Bool { pool.hasRoomAhead(count, for: number) }
}
