import CloudMountVFS
import MemoryProvider
import Testing

@testable import CloudMountCommit

@Suite("What names may take together")
struct NameBudgetTests {
    private func refused(_ room: NameRoom, _ bytes: Int) async -> Bool {
        do throws(VFSError) {
            try await room.cover(bytes)
            return false
        } catch {
            return error.code == .tooLarge
        }
    }

    private func untilWaiting(_ budget: NameBudget, _ count: Int) async {
        for _ in 0..<30_000 where budget.waiting != count { try? await Task.sleep(for: .milliseconds(1)) }
        #expect(budget.waiting == count)
    }

    @Test("Who is alone has all of it, and is refused more at once; a first part of each is free")
    func alone() async throws {
        let budget = NameBudget(limit: 100, free: 10, patience: .seconds(600))
        let room = budget.room()
        try await room.cover(10)
        #expect(budget.used == 0)
        try await room.cover(50)
        try await room.cover(40)
        #expect(budget.used == 40)
        try await room.cover(110)
        #expect(await refused(room, 111))
        // The free part of others is theirs all the same.
        try await budget.room().cover(10)
    }

    @Test("Who does not fit waits for what others give back, and goes on then")
    func waits() async throws {
        let budget = NameBudget(limit: 100, free: 0, patience: .seconds(600))
        var first: NameRoom? = budget.room()
        try await first?.cover(90)
        let second = budget.room()
        async let isRefused = refused(second, 60)
        await untilWaiting(budget, 1)
        first = nil
        #expect(await isRefused == false)
        #expect(budget.used == 60 && budget.waiting == 0)
    }

    @Test("Of those who would wait for each other the last to ask is refused, and the first goes on")
    func embrace() async throws {
        let budget = NameBudget(limit: 100, free: 0, patience: .seconds(600))
        let first = budget.room()
        var second: NameRoom? = budget.room()
        try await first.cover(50)
        try await second?.cover(50)
        async let isRefused = refused(first, 80)
        await untilWaiting(budget, 1)
        if let second { #expect(await refused(second, 60)) }
        second = nil
        #expect(await isRefused == false)
        #expect(budget.used == 80)
    }

    @Test("Who has more than half gets no more while somebody waits, and nobody is waited for without end")
    func turns() async throws {
        let budget = NameBudget(limit: 100, free: 0, patience: .seconds(600))
        var first: NameRoom? = budget.room()
        try await first?.cover(70)
        let second = budget.room()
        async let isRefused = refused(second, 40)
        await untilWaiting(budget, 1)
        if let first { #expect(await refused(first, 75)) }
        first = nil
        #expect(await isRefused == false)
        let hasty = NameBudget(limit: 100, free: 0, patience: .zero)
        let holder = hasty.room()
        try await holder.cover(70)
        #expect(await refused(hasty.room(), 40))
        withExtendedLifetime(holder) {}
    }

    @Test("Moves take of it what they really take, for as long as they last")
    func moves() async throws {
        let store = MemoryProvider()
        for number in 0..<50 {
            _ = try await store.put(PutRequest(key: ObjectKey("a/\(number)")), from: BytesSource([]))
        }
        let budget = NameBudget(limit: 1 << 20, free: 0, patience: .zero)
        func move() -> DirectoryMove {
            DirectoryMove(
                from: "a/", to: "b/", replaced: nil, attributes: StoredAttributes(), provider: store, budget: budget)
        }
        var job: DirectoryMove? = move()
        let moved = try await job?.copyAll()
        #expect(moved.map { $0.count >= 50 } == true)
        #expect(budget.used > 50 * 4 * MemoryLayout<ObjectInfo>.stride)
        job = nil
        #expect(budget.used == 0)
        let full = budget.room()
        try await full.cover(1 << 20)
        let error = await #expect(throws: VFSError.self) { try await move().copyAll() }
        #expect(error?.code == .tooLarge)
        withExtendedLifetime(full) {}
    }
}
