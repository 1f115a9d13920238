import CloudMountPlatform
import Testing

@Suite("BufferPool")
struct BufferPoolTests {
    @Test("A buffer has as many bytes as were asked for, and costs its class")
    func classes() throws {
        #expect(
            [0, 1, 4096, 4097, 1 << 20, (1 << 20) + 1, 16 << 20].map(BufferPool.cost) == [
                4096, 4096, 4096, 8192, 1 << 20, 2 << 20, 16 << 20,
            ])
        #expect(BufferPool.cost((16 << 20) + 1) == 17 << 20)
        let pool = BufferPool(limit: 64 << 20)
        let share = pool.share()
        for count in [0, 1, 5000, 1 << 20, (16 << 20) + 5] {
            let buffer = try #require(share.take(count))
            #expect(buffer.bytes.count == count)
            #expect(pool.used == BufferPool.cost(count))
            buffer.bytes.initializeMemory(as: UInt8.self, repeating: 7)
        }
        #expect(pool.used == 0)
    }

    @Test("The budget is never exceeded")
    func budget() throws {
        let pool = BufferPool(limit: 10 << 20)
        let share = pool.share()
        var held = (0..<10).compactMap { _ in share.take(1 << 20) }
        #expect(held.count == 10)
        #expect(share.take(1) == nil)
        #expect(share.take(-1) == nil)
        #expect(share.take(.max) == nil)
        held.removeLast()
        #expect(share.take(1) != nil)
        #expect(share.take((1 << 20) + 1) == nil)
        held.removeAll()
        #expect(pool.used == 0)
    }

    @Test("Memory that came back last is handed out first, and what is kept has a bound")
    func reuse() throws {
        let pool = BufferPool(limit: 8 << 20)
        let share = pool.share()
        var held = (0..<8).compactMap { _ in share.take(1 << 20) }
        let last = held[0].bytes.baseAddress
        for _ in 0..<7 { held.removeLast() }
        held.removeAll()
        #expect(pool.kept == 4 << 20)
        let warm = try #require(share.take(1 << 20))
        #expect(pool.kept == 3 << 20)
        // The first to be given back are kept; of these the last one is first.
        #expect(warm.bytes.baseAddress != last)
        let address = warm.bytes.baseAddress
        withExtendedLifetime(warm) {}
        let other = try #require(share.take(4096))
        #expect(other.bytes.baseAddress != address)
    }

    @Test("While several shares are in use no more is kept than leaves a third of the pool untouched")
    func reuseBySeveral() {
        let pool = BufferPool(limit: 24 << 20)
        let (share, other) = (pool.share(), pool.share())
        var held = (0..<8).compactMap { _ in share.take(1 << 20) }
        let others = (0..<10).compactMap { _ in other.take(1 << 20) }
        #expect(pool.used == 18 << 20)
        held.removeAll()
        #expect(pool.kept == 6 << 20)
        withExtendedLifetime(others) {}
    }

    @Test("Memory kept in one class makes room for another")
    func trimming() throws {
        let pool = BufferPool(limit: 8 << 20)
        let share = pool.share()
        var held = (0..<8).compactMap { _ in share.take(1 << 20) }
        held.removeAll()
        #expect(pool.kept == 4 << 20)
        let large = try #require(share.take(8 << 20))
        #expect(pool.kept == 0)
        #expect(large.bytes.count == 8 << 20)
    }

    @Test("A waiter is woken when there is room for it")
    func waiting() async throws {
        let pool = BufferPool(limit: 1 << 20)
        let share = pool.share()
        var buffer = share.take(1 << 20)
        #expect(buffer != nil && share.take(1) == nil)
        await share.waitForRoom(2 << 20)
        let waiter = Task { await share.waitForRoom(4096) }
        await Task.yield()
        buffer = nil
        await waiter.value
        #expect(share.take(4096) != nil)
    }

    @Test(
        "Another limit holds at once: a higher one wakes who waits, a lower one is kept by what is taken from then on")
    func otherLimit() async throws {
        let pool = BufferPool(limit: 1 << 20)
        let share = pool.share()
        var held = [share.take(1 << 20)]
        #expect(share.take(4096) == nil)
        let waiter = Task { await share.waitForRoom(4096) }
        await Task.yield()
        pool.limit = 8 << 20
        await waiter.value
        held.append(share.take(1 << 20))
        #expect(held[1] != nil)
        pool.limit = 1 << 20
        #expect(share.take(4096) == nil)
        held.removeAll()
        #expect(share.take(1 << 20) != nil)
        #expect(share.take((1 << 20) + 1) == nil)
    }

    @Test("A cancelled waiter returns")
    func cancelling() async throws {
        let pool = BufferPool(limit: 1 << 20)
        let share = pool.share()
        let buffer = try #require(share.take(1 << 20))
        let task = Task { await share.waitForRoom(1) }
        task.cancel()
        await task.value
        #expect(pool.used == 1 << 20)
        withExtendedLifetime(buffer) {}
    }

    @Test("Many tasks share a small budget, and each gets its turn")
    func contention() async {
        let pool = BufferPool(limit: 1 << 20)
        let share = pool.share()
        let most = await withTaskGroup(of: Int.self) { group in
            for task in 0..<32 {
                group.addTask {
                    var most = 0
                    for round in 0..<50 {
                        let count = 4096 << ((task + round) % 9)
                        while true {
                            guard let buffer = share.take(count) else {
                                await share.waitForRoom(count)
                                continue
                            }
                            buffer.bytes.storeBytes(of: UInt8(task), as: UInt8.self)
                            most = max(most, pool.used)
                            await Task.yield()
                            #expect(buffer.bytes.load(as: UInt8.self) == UInt8(task))
                            break
                        }
                    }
                    return most
                }
            }
            return await group.reduce(0, max)
        }
        #expect(most <= 1 << 20)
        #expect(pool.used == 0)
        #expect(pool.kept <= 512 << 10)
    }
}
