import CloudMountVFS
import Synchronization
import Testing

/// Takes bytes until `room` are there, then holds the transfer, and tells when that happened.
private final class HoldingSink: ByteSink {
    private struct State {
        var bytes: [UInt8] = []
        var room: Int
        var isHolding = false
        var resume: (@Sendable () -> Void)?
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state: Mutex<State>

    init(room: Int) { state = Mutex(State(room: room)) }

    var bytes: [UInt8] { state.withLock { $0.bytes } }

    func attach(resume: @escaping @Sendable () -> Void) { state.withLock { $0.resume = resume } }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        let (verdict, waiter) = state.withLock { state in
            if state.bytes.count < state.room {
                state.bytes.append(contentsOf: bytes)
                return (ByteSinkVerdict.proceed, CheckedContinuation<Void, Never>?.none)
            }
            state.isHolding = true
            defer { state.waiter = nil }
            return (.pause, state.waiter)
        }
        waiter?.resume()
        return verdict
    }

    /// Returns once the transfer is held.
    func held() async {
        await withCheckedContinuation { continuation in
            let isHolding = state.withLock { state in
                if !state.isHolding { state.waiter = continuation }
                return state.isHolding
            }
            if isHolding { continuation.resume() }
        }
    }

    func release(more: Int) {
        let resume = state.withLock { state in
            state.room += more
            state.isHolding = false
            return state.resume
        }
        resume?()
    }
}

private final class StoppingSink: ByteSink {
    private let taken = Mutex(0)
    var calls: Int { taken.withLock { $0 } }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        taken.withLock { $0 += 1 }
        return .stop
    }
}

extension Conformance {
    private static let big = 24 << 20

    static let streamingCases: [ConformanceCase] = [
        ConformanceCase("cancellation amid a body ends the read and the delivery") { bench in
            try await bench.put("big", pattern(big))
            let sink = HoldingSink(room: 1 << 20)
            let task = Task { try await bench.provider.read(ReadRequest(key: bench.key("big")), into: sink) }
            await sink.held()
            let delivered = sink.bytes.count
            task.cancel()
            await bench.refuses(.cancelled, advice: nil) { _ = try await task.value }
            sink.release(more: big)
            #expect(sink.bytes.count == delivered)
            #expect(delivered < big)
            #expect(same(try await bench.read("big", Extent(0, 1000)).bytes, pattern(1000)), "the next read works")
        },
        ConformanceCase("a cancelled task starts no read") { bench in
            try await bench.put("o", pattern(1000))
            let sink = CollectingSink()
            let task = Task {
                while !Task.isCancelled { await Task.yield() }
                _ = try await bench.provider.read(ReadRequest(key: bench.key("o")), into: sink)
            }
            task.cancel()
            await bench.refuses(.cancelled, advice: nil) { try await task.value }
            #expect(sink.bytes.isEmpty)
        },
        ConformanceCase("a sink that wants no more ends the read") { bench in
            try await bench.put("big", pattern(4 << 20))
            let sink = StoppingSink()
            await bench.refuses(.cancelled, advice: nil) {
                _ = try await bench.provider.read(ReadRequest(key: bench.key("big")), into: sink)
            }
            #expect(sink.calls == 1)
        },
        ConformanceCase("a paused read goes on with the same bytes") { bench in
            let bytes = pattern(6 << 20)
            try await bench.put("big", bytes)
            let sink = HoldingSink(room: 1 << 20)
            let task = Task { try await bench.provider.read(ReadRequest(key: bench.key("big")), into: sink) }
            await sink.held()
            sink.release(more: 1 << 20)
            await sink.held()
            sink.release(more: 8 << 20)
            #expect(try await task.value.size == bytes.count)
            #expect(same(sink.bytes, bytes))
        },
        ConformanceCase("a source that fails stores nothing") { bench in
            struct FailingSource: ByteSource {
                let count = 3 << 20
                func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
                    if offset >= 1 << 20 { throw VFSError(.io, "the local disk failed") }
                    let count = min(buffer.count, (1 << 20) - offset)
                    for index in 0..<count { buffer[index] = 7 }
                    return count
                }
            }
            try await bench.put("o", [1])
            await bench.refuses(.io, advice: nil) {
                _ = try await bench.provider.put(PutRequest(key: bench.key("o")), from: FailingSource())
            }
            #expect(try await bench.read("o").bytes == [1])
            await bench.refuses(.io, advice: nil) {
                _ = try await bench.provider.put(PutRequest(key: bench.key("new")), from: FailingSource())
            }
            await bench.refuses(.notFound) { _ = try await bench.head("new") }
        },
    ]
}
