import CloudMountPlatform
import Testing

@Suite("Shares of the memory")
struct MemoryShareTests {
    private let mebibyte = 1 << 20

    private func fill(_ share: MemoryShare, _ size: Int = 1 << 20) -> [PooledBuffer] {
        var held: [PooledBuffer] = []
        while let buffer = share.take(size) { held.append(buffer) }
        return held
    }

    @Test("One share alone may have all of it")
    func alone() {
        let pool = BufferPool(limit: 64 << 20)
        let share = pool.share()
        #expect(fill(share).count == 64)
    }

    @Test("A mount that takes all it can get leaves each other one its guarantee")
    func guarantee() {
        let pool = BufferPool(limit: 64 << 20)
        let greedy = pool.share()
        let others = (0..<3).map { _ in pool.share() }
        let held = fill(greedy)
        // Half of the pool in four parts of 8 MiB; three of them are promised to the others.
        #expect(held.count == 40)
        let theirs = others.map { fill($0) }
        #expect(theirs.map(\.count) == [8, 8, 8])
        #expect(pool.used == 64 << 20)
    }

    @Test("What is promised is free again when its share goes")
    func leaving() {
        let pool = BufferPool(limit: 64 << 20)
        let share = pool.share()
        do {
            let other = pool.share()
            #expect(fill(share).count == 48)
            withExtendedLifetime(other) {}
        }
        #expect(fill(share).count == 64)
    }

    @Test("While another one waits, who has more than its fair part gets no more, and what it gives back goes there")
    func ceiling() async throws {
        let pool = BufferPool(limit: 64 << 20)
        let (greedy, late) = (pool.share(), pool.share())
        var held = fill(greedy)
        #expect(held.count == 48)
        let guaranteed = fill(late)
        #expect(guaranteed.count == 16)
        let waiter = Task { await late.waitForRoom(1 << 20) }
        while pool.waiting == 0 { await Task.yield() }
        held.removeLast()
        await waiter.value
        let more = try #require(late.take(1 << 20))
        // Another one waits: what comes back is not for the greedy one.
        let second = Task { await late.waitForRoom(4 << 20) }
        while pool.waiting == 0 { await Task.yield() }
        held.removeLast(2)
        #expect(greedy.take(1 << 20) == nil)
        held.removeLast(2)
        await second.value
        #expect(late.take(4 << 20) != nil)
        withExtendedLifetime((guaranteed, more)) {}
    }

    @Test("Reading ahead leaves a quarter to those who wait, and to each share what it is promised")
    func ahead() {
        let pool = BufferPool(limit: 64 << 20)
        let share = pool.share()
        #expect(share.hasRoomAhead(48 << 20))
        #expect(!share.hasRoomAhead(49 << 20))
        let held = (0..<48).compactMap { _ in share.take(mebibyte) }
        #expect(held.count == 48)
        #expect(!share.hasRoomAhead(mebibyte))
    }

    @Test("Half of the pool is for reading ahead while another share reads")
    func aheadTogether() {
        let pool = BufferPool(limit: 64 << 20)
        let (one, other) = (pool.share(), pool.share())
        let held = other.take(mebibyte)
        withExtendedLifetime(held) {
            #expect(one.hasRoomAhead(31 << 20))
            #expect(!one.hasRoomAhead(32 << 20))
        }
    }

    @Test("Random use by many shares: the limit and every guarantee hold")
    func random() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var state = seed
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        let pool = BufferPool(limit: 32 << 20)
        let shares = (0..<8).map { _ in pool.share() }
        var held = [[PooledBuffer]](repeating: [], count: 8)
        for _ in 0..<20_000 {
            let index = next(8)
            if next(5) < 3 {
                let size = 4096 << next(9)
                let guaranteed = shares[index].used + BufferPool.cost(size) <= 2 << 20
                let buffer = shares[index].take(size)
                #expect(buffer != nil || !guaranteed, "seed \(seed)")
                if let buffer { held[index].append(buffer) }
            } else if !held[index].isEmpty {
                held[index].remove(at: next(held[index].count))
            }
            #expect(pool.used <= pool.limit, "seed \(seed)")
        }
        held = []
        #expect(pool.used == 0, "seed \(seed)")
        #expect(shares.allSatisfy { $0.used == 0 }, "seed \(seed)")
    }
}
