import CloudMountVFS
import MemoryProvider
import Testing

@testable import CloudMountLayers

@Suite("The concurrency limit of an endpoint") struct ConcurrencyLimitTests {
    @Test("holds no more calls than its maximum")
    func maximum() async throws {
        let limit = ConcurrencyLimit(maximum: 4)
        let running = Shared((now: 0, most: 0))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<200 {
                group.addTask {
                    let slot = try await limit.acquire()
                    running.change { state in
                        state.now += 1
                        state.most = max(state.most, state.now)
                    }
                    await Task.yield()
                    running.change { $0.now -= 1 }
                    limit.release(slot, .success)
                }
            }
            try await group.waitForAll()
        }
        #expect(running.value.most <= 4)
        #expect(limit.current.inFlight == 0)
        #expect(limit.current.waiting == 0)
    }

    @Test("halves when the store asks for less, once for all calls of one burst, and grows back by success")
    func throttled() async throws {
        let limit = ConcurrencyLimit(maximum: 16)
        var slots: [UInt32] = []
        for _ in 0..<16 { slots.append(try await limit.acquire()) }
        for slot in slots { limit.release(slot, .throttled) }
        #expect(limit.current.limit == 8)
        limit.release(try await limit.acquire(), .throttled)
        #expect(limit.current.limit == 4)
        for _ in 0..<4 { limit.release(try await limit.acquire(), .success) }
        #expect(limit.current.limit == 5)
        for _ in 0..<5 + 6 + 7 { limit.release(try await limit.acquire(), .success) }
        #expect(limit.current.limit == 8)
        for _ in 0..<1000 { limit.release(try await limit.acquire(), .success) }
        #expect(limit.current.limit == 16)
        for _ in 0..<20 { limit.release(try await limit.acquire(), .throttled) }
        #expect(limit.current.limit == 1, "never nothing")
    }

    @Test("a call that nobody waits for takes one of three quarters of the slots, and none that others wait for")
    func ahead() async throws {
        let limit = ConcurrencyLimit(maximum: 8)
        var slots: [UInt32] = []
        for _ in 0..<6 { slots.append(try limit.acquireAhead()) }
        #expect(throws: VFSError(.busy, "the endpoint has enough to do")) { try limit.acquireAhead() }
        for _ in 0..<2 { slots.append(try await limit.acquire()) }
        async let waiting = limit.acquire()
        while limit.current.waiting == 0 { await Task.yield() }
        for _ in 0..<3 { limit.release(slots.removeLast(), .success) }
        slots.append(try await waiting)
        #expect(limit.current.inFlight == 6)
        #expect(throws: VFSError.self) { try limit.acquireAhead() }
        limit.release(slots.removeLast(), .success)
        slots.append(try limit.acquireAhead())
        for slot in slots { limit.release(slot, .success) }
        #expect(limit.current.inFlight == 0)
    }

    @Test("serves who waits in order of arrival")
    func order() async throws {
        let limit = ConcurrencyLimit(maximum: 1)
        let first = try await limit.acquire()
        let served = Shared<[Int]>([])
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                group.addTask {
                    let slot = try await limit.acquire()
                    served.change { $0.append(number) }
                    limit.release(slot, .success)
                }
                while limit.current.waiting <= number { await Task.yield() }
            }
            limit.release(first, .success)
            try await group.waitForAll()
        }
        #expect(served.value == Array(0..<20))
    }

    @Test("mounts take turns, however many calls one of them has waiting")
    func turns() async throws {
        let limit = ConcurrencyLimit(maximum: 1)
        let (busy, modest) = (limit.join(), limit.join())
        let first = try await limit.acquire(for: busy)
        let served = Shared<[String]>([])
        func call(_ tenant: Int, _ name: String) async throws {
            let slot = try await limit.acquire(for: tenant)
            served.change { $0.append(name) }
            limit.release(slot, .success, for: tenant)
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                group.addTask { try await call(busy, "busy") }
                while limit.current.waiting <= number { await Task.yield() }
            }
            for number in 20..<23 {
                group.addTask { try await call(modest, "modest") }
                while limit.current.waiting <= number { await Task.yield() }
            }
            limit.release(first, .success, for: busy)
            try await group.waitForAll()
        }
        #expect(served.value.prefix(6) == ["busy", "modest", "busy", "modest", "busy", "modest"])
        #expect(served.value.count == 23)
    }

    @Test("one mount whose calls never end leaves a quarter of the slots to the others")
    func reserve() async throws {
        let limit = ConcurrencyLimit(maximum: 8)
        let (stuck, other) = (limit.join(), limit.join())
        let held = Shared(0)
        let tasks = (0..<20).map { _ in
            Task {
                let slot = try await limit.acquire(for: stuck)
                held.change { $0 += 1 }
                while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) }
                limit.release(slot, .other, for: stuck)
            }
        }
        while held.value < 6 || limit.current.waiting < 14 { await Task.yield() }
        for _ in 0..<100 { limit.release(try await limit.acquire(for: other), .success, for: other) }
        #expect(held.value == 6)
        limit.leave(other)
        for task in tasks { task.cancel() }
        for task in tasks { _ = await task.result }
        #expect(limit.current.inFlight == 0)
        #expect(limit.current.waiting == 0)
        let alone = try await (0..<8).asyncMap { _ in try await limit.acquire(for: stuck) }
        #expect(alone.count == 8, "alone, it has all of them")
    }

    @Test("a smaller maximum holds at once, a larger one is used")
    func bounded() async throws {
        let limit = ConcurrencyLimit(maximum: 8)
        limit.maximum = 2
        let held = [try await limit.acquire(), try await limit.acquire()]
        let third = Task { try await limit.acquire() }
        while limit.current.waiting == 0 { await Task.yield() }
        limit.maximum = 3
        _ = try await third.value
        #expect(limit.current.inFlight == 3)
        #expect(held.count == 2)
    }

    @Test("loses no slot when a waiting task is cancelled")
    func cancellation() async throws {
        let limit = ConcurrencyLimit(maximum: 2)
        let held = [try await limit.acquire(), try await limit.acquire()]
        let waiting = (0..<50).map { _ in
            Task { () async throws in
                let slot = try await limit.acquire()
                limit.release(slot, .success)
            }
        }
        while limit.current.waiting < 50 { await Task.yield() }
        for (number, task) in waiting.enumerated() where number % 2 == 0 { task.cancel() }
        for (number, task) in waiting.enumerated() where number % 2 == 0 {
            await #expect(throws: VFSError.cancelled) { try await task.value }
        }
        #expect(limit.current.waiting == 25)
        for slot in held { limit.release(slot, .success) }
        for (number, task) in waiting.enumerated() where number % 2 == 1 { try await task.value }
        #expect(limit.current.inFlight == 0)
        #expect(limit.current.waiting == 0)
    }

    @Test("keeps its count through random arrivals, failures and cancellations")
    func random() async throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        let limit = ConcurrencyLimit(maximum: 8)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<500 {
                let choice = ((seed &+ UInt64(number)) &* 0x9E37_79B9_7F4A_7C15) >> 60
                group.addTask {
                    let task = Task { () async throws in
                        let slot = try await limit.acquire()
                        for _ in 0..<choice { await Task.yield() }
                        limit.release(slot, choice == 0 ? .throttled : choice < 4 ? .other : .success)
                    }
                    if choice % 3 == 0 { task.cancel() }
                    _ = await task.result
                }
            }
            try await group.waitForAll()
        }
        #expect(limit.current.inFlight == 0, "seed \(seed)")
        #expect(limit.current.waiting == 0, "seed \(seed)")
        #expect((1...8).contains(limit.current.limit), "seed \(seed)")
    }
}

extension Range where Bound == Int {
    fileprivate func asyncMap<Value>(_ body: (Int) async throws -> Value) async rethrows -> [Value] {
        var values: [Value] = []
        for index in self { values.append(try await body(index)) }
        return values
    }
}
