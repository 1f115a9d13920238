import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// One ranged read on its way into memory; its bytes are readable as they arrive.
final class Fetch: ByteSink {
    let extent: Extent
    /// The handle it was started for.
    let handle: HandleID
    let buffer: PooledBuffer
    /// Called on the transfer thread after bytes came: how many are there now.
    private let progress: @Sendable (Fetch, Int) -> Void
    private let state = Mutex(State())

    private struct State {
        var received = 0
        var delivered = 0
        var isStopped = false
        var task: Task<Void, Never>?
    }

    init(
        extent: Extent, handle: HandleID, buffer: PooledBuffer, progress: @escaping @Sendable (Fetch, Int) -> Void
    ) {
        self.extent = extent
        self.handle = handle
        self.buffer = buffer
        self.progress = progress
    }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        let (start, stopped) = state.withLock { ($0.received, $0.isStopped) }
        if stopped || start + bytes.count > extent.count { return .stop }
        // Only this call writes, and readers look no further than `received`.
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[start..<start + bytes.count]).copyMemory(from: bytes)
        state.withLock { $0.received = start + bytes.count }
        progress(self, start + bytes.count)
        return .proceed
    }

    /// The bytes of `part`, which must have arrived.
    func slice(_ part: Extent) -> UnsafeRawBufferPointer {
        let low = part.lowerBound - extent.lowerBound
        return UnsafeRawBufferPointer(rebasing: buffer.bytes[low..<low + part.count])
    }

    func run(on executor: (any TaskExecutor)?, _ body: @escaping @Sendable () async -> Void) {
        let task = Task(executorPreference: executor) { await body() }
        let stopped = state.withLock { state in
            state.task = task
            return state.isStopped
        }
        if stopped { task.cancel() }
    }

    /// Nobody wants the bytes any more.
    func stop() {
        let task = state.withLock { state in
            state.isStopped = true
            return state.task
        }
        task?.cancel()
    }

    var received: Int { state.withLock { $0.received } }

    /// Counts bytes that a reader has got. True when that makes all of them.
    func delivered(_ count: Int) -> Bool {
        state.withLock { state in
            state.delivered += count
            return state.delivered >= extent.count
        }
    }
}

/// Collects a read of known length into a buffer.
final class BufferSink: ByteSink {
    private let buffer: PooledBuffer
    private let offset: Int
    private let count: Int
    private let filled = Mutex(0)

    /// Fills `buffer` from `offset` on with `count` bytes at most.
    init(_ buffer: PooledBuffer, offset: Int, count: Int) {
        self.buffer = buffer
        self.offset = offset
        self.count = count
    }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        let start = filled.withLock { $0 }
        guard start + bytes.count <= count else { return .stop }
        let low = offset + start
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[low..<low + bytes.count]).copyMemory(from: bytes)
        filled.withLock { $0 = start + bytes.count }
        return .proceed
    }

    var received: Int { filled.withLock { $0 } }
}

/// An upload from memory.
struct BufferSource: ByteSource {
    let buffer: PooledBuffer
    let count: Int

    func read(at offset: Int, into target: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        let length = max(0, min(target.count, count - offset))
        if length > 0 {
            target.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer.bytes[offset..<offset + length]))
        }
        return length
    }

    func readNow(at offset: Int, into target: UnsafeMutableRawBufferPointer) -> Int? {
        guard let count = try? read(at: offset, into: target), count > 0 else { return nil }
        return count
    }
}
