import CloudMountPlatform
import Synchronization
import Testing

/// Keeps buffers that nobody waits for and gives back the oldest first.
private final class IdleBuffers: Sendable {
    let share: MemoryShare
    private let held = Mutex<[PooledBuffer]>([])
    private let asked = Mutex<[Int]>([])

    init(_ pool: BufferPool) {
        share = pool.share()
        share.onPressure { [weak self] count, _ in self?.giveBack(count) ?? 0 }
    }

    /// Takes and keeps as many as it can get; returns how many it keeps.
    func fill(_ size: Int = 1 << 20, count: Int = .max) -> Int {
        while held.withLock({ $0.count }) < count, let buffer = share.take(size, reclaiming: false) { keep(buffer) }
        return held.withLock { $0.count }
    }

    func keep(_ buffer: PooledBuffer) { held.withLock { $0.append(buffer) } }
    var requests: [Int] { asked.withLock { $0 } }
    var count: Int { held.withLock { $0.count } }

    func giveBack(_ count: Int) -> Int {
        asked.withLock { $0.append(count) }
        let dropped: [PooledBuffer] = held.withLock { held in
            var sum = 0
            let dropped = held.prefix { buffer in
                defer { sum += buffer.bytes.count }
                return sum < count
            }
            held.removeFirst(dropped.count)
            return Array(dropped)
        }
        return dropped.reduce(0) { $0 + $1.bytes.count }
    }
}

@Suite("Pressure on the memory")
struct PressureTests {
    @Test("What a share keeps for nobody makes room for what it takes, no more of it than is needed")
    func own() throws {
        let pool = BufferPool(limit: 32 << 20)
        let idle = IdleBuffers(pool)
        #expect(idle.fill() == 32)
        #expect(idle.share.take(1 << 20, reclaiming: false) == nil && idle.requests.isEmpty)
        // A thousand files that are opened, read once and kept open.
        for _ in 0..<1000 { idle.keep(try #require(idle.share.take(128 << 10))) }
        let large = try #require(idle.share.take(5 << 20))
        #expect(pool.used <= pool.limit && pool.used > 26 << 20)
        withExtendedLifetime(large) {}
    }

    @Test(
        "Others give back what they have beyond their guarantee, the one with most first; nobody gives what is promised"
    )
    func others() throws {
        let pool = BufferPool(limit: 64 << 20)
        let (small, large, poor) = (IdleBuffers(pool), IdleBuffers(pool), pool.share())
        let guarantee = 32 / 3
        #expect(small.fill(count: 15) == 15)
        #expect(large.fill() == 64 - 15 - guarantee - 1)
        let mine = (0..<guarantee).compactMap { _ in poor.take(1 << 20) }
        #expect(mine.count == guarantee && large.requests.isEmpty && small.requests.isEmpty)
        let more = try #require(poor.take(8 << 20))
        #expect(large.requests.count == 1 && small.requests.isEmpty)
        // All that is beyond the guarantees of both.
        let rest = (0..<64).compactMap { _ in poor.take(1 << 20) }
        #expect(small.count >= guarantee && large.count >= guarantee && small.count + large.count <= 2 * guarantee + 2)
        #expect(pool.used <= pool.limit)
        withExtendedLifetime((mine, more, rest)) {}
    }

    @Test("Who waits is served when something becomes reclaimable", arguments: [true, false])
    func waiting(byItself: Bool) async throws {
        let pool = BufferPool(limit: 16 << 20)
        let (idle, other) = (IdleBuffers(pool), pool.share())
        let share = byItself ? idle.share : other
        var busy: [PooledBuffer] = []
        while let buffer = idle.share.take(1 << 20) { busy.append(buffer) }
        let own = byItself ? [] : (0..<4).compactMap { _ in share.take(1 << 20) }
        let waiter = Task { await share.waitForRoom(4 << 20) }
        while pool.waiting == 0 { await Task.yield() }
        for buffer in busy { idle.keep(buffer) }
        busy = []
        idle.share.hasBecomeReclaimable()
        await waiter.value
        #expect(share.take(4 << 20) != nil)
        withExtendedLifetime(own) {}
    }

    @Test("Nobody waits while there is something to reclaim")
    func beforeWaiting() async throws {
        let pool = BufferPool(limit: 16 << 20)
        let idle = IdleBuffers(pool)
        #expect(idle.fill() == 16)
        await idle.share.waitForRoom(2 << 20)
        #expect(idle.share.take(2 << 20, reclaiming: false) != nil && idle.count == 14)
    }

    @Test("A callback that takes memory is not asked again, and the pool's lock is free in it")
    func recursion() {
        let pool = BufferPool(limit: 1 << 20)
        let share = pool.share()
        let calls = Mutex(0)
        let held = Mutex([share.take(1 << 20)])
        share.onPressure { [weak share] _, _ in
            calls.withLock { $0 += 1 }
            #expect(share?.take(1 << 20) == nil && pool.used == 1 << 20)
            held.withLock { $0 = [] }
            return 1 << 20
        }
        #expect(share.take(4096) != nil)
        #expect(calls.withLock { $0 } == 1)
    }

    @Test(
        "A buffer larger than what others are not promised is to be had when it fits, and nobody waits for it for ever")
    func largerThanPromises() async throws {
        let pool = BufferPool(limit: 4 << 20)
        let (share, others) = (pool.share(), (0..<3).map { _ in IdleBuffers(pool) })
        // Each is promised half a mebibyte.
        for other in others { #expect(other.fill(256 << 10, count: 1) == 1) }
        #expect(share.take(4 << 20) == nil)
        for other in others { _ = other.giveBack(.max) }
        await share.waitForRoom(4 << 20)
        #expect(share.take(4 << 20) != nil)
    }

    @Test("Reading ahead takes the place of what was read ahead and is wanted no more")
    func ahead() {
        let pool = BufferPool(limit: 64 << 20)
        let idle = IdleBuffers(pool)
        #expect(idle.fill() == 64)
        #expect(!idle.share.hasRoomAhead(1 << 20))
        #expect(idle.share.makeRoomAhead(1 << 20))
        #expect(idle.share.hasRoomAhead(1 << 20) && idle.count == 47)
    }

    @Test("Many tasks of several shares that keep all they read: each gets its turn")
    func contention() async {
        let pool = BufferPool(limit: 4 << 20)
        let keepers = (0..<4).map { _ in IdleBuffers(pool) }
        let done = await withTaskGroup(of: Int.self) { group in
            for task in 0..<16 {
                group.addTask {
                    let keeper = keepers[task % 4]
                    for round in 0..<200 {
                        let count = 4096 << ((task + round) % 8)
                        while true {
                            if let buffer = keeper.share.take(count) {
                                keeper.keep(buffer)
                                keeper.share.hasBecomeReclaimable()
                                break
                            }
                            await keeper.share.waitForRoom(count)
                        }
                    }
                    return 1
                }
            }
            return await group.reduce(0, +)
        }
        #expect(done == 16 && pool.used <= pool.limit && pool.waiting == 0)
    }
}
