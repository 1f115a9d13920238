import CloudMountPlatform
import Synchronization
import Testing

/// Holds jobs until it is opened, and counts those that came.
private final class Latch: Sendable {
    private let arrivals = CloudMountPlatform.Semaphore()
    private let gate = CloudMountPlatform.Semaphore()

    /// What a hung disk does.
    func hang() {
        arrivals.signal()
        gate.wait()
        gate.signal()
    }

    /// Whether `count` jobs hang; a minute at most. Blocks.
    func holds(_ count: Int) -> Bool { (0..<count).allSatisfy { _ in arrivals.wait(seconds: 60) } }
    func open() { gate.signal() }
}

/// For what blocks in tests, so that it holds no thread of the tasks.
private func blocking<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
    await withCheckedContinuation { continuation in
        NamedThread("blocked-test") { continuation.resume(returning: body()) }?.detach()
    }
}

@Suite("BlockingPool")
struct BlockingPoolTests {
    @Test("A burst runs side by side although one idle thread is there and its first job hangs")
    func burst() async {
        let pool = BlockingPool(name: "test", width: 8, idleSeconds: 600)
        await pool.run {}
        while pool.idleThreads == 0 { await Task.yield() }
        let latch = Latch()
        for _ in 0..<8 { pool.submit { latch.hang() } }
        #expect(await blocking { latch.holds(8) })
        #expect(pool.threads == 8)
        latch.open()
    }

    @Test("Beyond the width jobs wait, start in order, and all run")
    func order() async {
        let pool = BlockingPool(name: "test", width: 1)
        let latch = Latch()
        let seen = Mutex<[Int]>([])
        pool.submit { latch.hang() }
        for index in 0..<3000 { pool.submit { seen.withLock { $0.append(index) } } }
        #expect(await blocking { latch.holds(1) })
        #expect(seen.withLock { $0 }.isEmpty && pool.threads == 1)
        latch.open()
        await pool.run {}
        #expect(seen.withLock { $0 } == Array(0..<3000))
    }

    @Test("Lanes that hang, each with more jobs than it may run, hold up no other lane")
    func lanes() async {
        let pool = BlockingPool(name: "test", width: 16, laneWidth: 4)
        let latch = Latch()
        for lane in 0..<3 {
            for _ in 0..<20 { pool.submit("hung \(lane)") { latch.hang() } }
        }
        // Eight are all that more than one of a lane may be.
        #expect(await blocking { latch.holds(8) })
        for lane in 0..<6 { #expect(await pool.run("sound \(lane)") { lane } == lane) }
        #expect(pool.threads <= 16)
        latch.open()
        await pool.run("hung 0") {}
    }

    @Test("Lanes take turns when all threads are taken")
    func turns() async {
        let pool = BlockingPool(name: "test", width: 1)
        let latch = Latch()
        let seen = Mutex<[String]>([])
        pool.submit("a") { latch.hang() }
        #expect(await blocking { latch.holds(1) })
        for lane in ["b", "b", "b", "c", "d", "d"] { pool.submit(lane) { seen.withLock { $0.append(lane) } } }
        latch.open()
        await pool.run("b") {}
        #expect(seen.withLock { $0 } == ["b", "c", "d", "b", "d", "b"])
    }

    @Test("An idle thread holds nothing of the jobs that it has done")
    func forgets() async throws {
        final class Held: Sendable {}
        let pool = BlockingPool(name: "test", width: 1, idleSeconds: 600)
        for _ in 0..<3 {
            weak var held: Held?
            do {
                let made = Held()
                held = made
                await pool.run { withExtendedLifetime(made) {} }
            }
            while held != nil { try await Task.sleep(for: .milliseconds(1)) }
        }
        #expect(pool.threads == 1)
    }

    @Test("What a job held may give the pool more to do when it is let go of, also when its lane is done")
    func lastReference() async throws {
        final class Held: Sendable {
            let end: @Sendable () -> Void
            init(_ end: @escaping @Sendable () -> Void) { self.end = end }
            deinit { end() }
        }
        let pool = BlockingPool(name: "test", width: 1)
        let latch = Latch()
        let begun = Atomic(0)
        let ended = CloudMountPlatform.Semaphore()
        pool.submit("lane") { latch.hang() }
        #expect(await blocking { latch.holds(1) })
        for _ in 0..<1500 {
            let held = Held { pool.submit("another") { ended.signal() } }
            pool.submit("lane") {
                begun.add(1, ordering: .relaxed)
                withExtendedLifetime(held) {}
            }
        }
        latch.open()
        #expect(await blocking { (0..<1500).allSatisfy { _ in ended.wait(seconds: 60) } })
        #expect(begun.load(ordering: .relaxed) == 1500)
    }

    @Test("Idle threads end, and work that comes later gets new ones")
    func ends() async throws {
        let pool = BlockingPool(name: "test", width: 4, idleSeconds: 0)
        for round in 0..<50 {
            await withTaskGroup(of: Int.self) { group in
                for index in 0..<8 { group.addTask { await pool.run("\(index % 3)") { index } } }
                let sum = await group.reduce(0, +)
                #expect(sum == 28, "round \(round)")
            }
        }
        while pool.threads > 0 { try await Task.sleep(for: .milliseconds(1)) }
    }
}
