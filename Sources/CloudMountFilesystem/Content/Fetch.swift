import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// One ranged read on its way into memory; its bytes are readable as they arrive.
final class Fetch: ByteSink {
    let extent: Extent
    /// The handle it was started for, or `ahead`.
    let handle: HandleID
    let buffer: PooledBuffer
    /// Called on the transfer thread after bytes came: how many are there now.
    private let progress: @Sendable (Fetch, Int) -> Void
    private let state = Mutex(State())

    /// No handle's: the file was not open.
    static let ahead: HandleID = 0
    var isAhead: Bool { handle == Self.ahead }

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

    func received() -> Int { state.withLock { $0.received } }

    /// Counts bytes that a reader has got. True when that makes all of them.
    func delivered(_ count: Int) -> Bool {
        state.withLock { state in
            state.delivered += count
            return state.delivered >= extent.count
        }
    }
}
