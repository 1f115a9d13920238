package import CloudMountPlatform
package import CloudMountStaging
package import CloudMountVFS
import Synchronization

/// Puts stored bytes, staged bytes and zeros together in memory.
package struct ImageReader: Sendable {
    private let provider: any ObjectProvider
    private let pool: MemoryShare
    /// Whose work on the disk it is.
    private let lane: String
    /// Reads bytes of a version from the local disk, if all of them are there. Blocks.
    package typealias Local = @Sendable (ObjectInfo, Extent, UnsafeMutableRawBufferPointer) -> Bool

    private let local: Local?
    /// Stored bytes between two runs of stored bytes that are read along, where a request of their own would cost more.
    private static let gap = 256 << 10

    /// - Parameter local: asked before the store; nil: nothing is kept on the local disk.
    package init(provider: any ObjectProvider, pool: MemoryShare, lane: String, local: Local? = nil) {
        self.provider = provider
        self.local = local
        self.pool = pool
        self.lane = lane
    }

    /// The bytes of `extent`, of which `pieces` cover all, in one buffer.
    /// - Throws: `stale` when the base is not there any more, `io` when staged bytes are missing.
    package func read(
        _ pieces: [FileImage.Piece], _ extent: Extent, base: ObjectInfo?, staged: StagedFile?
    ) async throws(VFSError) -> PooledBuffer {
        let buffer = try await take(extent.count)
        // Bytes that are staged or zeros are laid over what the store has of them.
        _ = try await inParallel(Self.stored(pieces), width: 8) { part async throws(VFSError) in
            guard let base else { throw VFSError(.io, "a file has lost the version it is based on") }
            let low = part.lowerBound - extent.lowerBound
            if let local = self.local {
                let isRead = await BlockingPool.shared.run(self.lane) {
                    local(base, part, UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[low..<low + part.count]))
                }
                if isRead { return }
            }
            let sink = BufferSink(buffer, offset: low, count: part.count)
            do throws(VFSError) {
                _ = try await self.provider.read(
                    ReadRequest(key: base.key, extent: part, version: base.etag), into: sink)
            } catch {
                throw error.code == .notFound ? VFSError(.stale, error.message, wire: error.wire) : error
            }
            guard sink.received == part.count else { throw VFSError(.stale, "\(base.key) has become shorter") }
        }
        if staged?.isOnDisk() ?? false {
            // A disk may be slow: not on the thread that all transfers share.
            try await BlockingPool.shared.run(lane) { () throws(VFSError) in
                try Self.fill(buffer, extent, pieces, staged)
            }
        } else {
            try Self.fill(buffer, extent, pieces, staged)
        }
        return buffer
    }

    private func take(_ count: Int) async throws(VFSError) -> PooledBuffer {
        var refusals = 0
        while true {
            if let buffer = pool.take(count) { return buffer }
            if BufferPool.cost(count) > pool.limit { throw VFSError(.noSpace, "the memory budget is too small") }
            if pool.makeRoom(count) {
                // The budget has room, and the system no memory.
                refusals += 1
                guard refusals < 100 else { throw VFSError(.noSpace, "the system has no memory") }
                try? await Task.sleep(for: .milliseconds(50))
            }
            await pool.waitForRoom(count)
            if Task.isCancelled { throw .cancelled }
        }
    }

    /// Puts the staged bytes and the zeros of `pieces` where they belong in `buffer`, which begins at `extent`.
    package static func fill(
        _ buffer: PooledBuffer, _ extent: Extent, _ pieces: [FileImage.Piece], _ staged: StagedFile?
    ) throws(VFSError) {
        for piece in pieces {
            let low = piece.extent.lowerBound - extent.lowerBound
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[low..<low + piece.extent.count])
            switch piece {
            case .base: break
            case .zero: target.initializeMemory(as: UInt8.self, repeating: 0)
            case .staged(let part):
                let count = try staged?.read(at: part.lowerBound, into: target) ?? 0
                guard count == target.count else { throw VFSError(.io, "staged bytes are missing") }
            }
        }
    }

    /// What is to be read of the base.
    private static func stored(_ pieces: [FileImage.Piece]) -> [Extent] {
        var extents: [Extent] = []
        for piece in pieces {
            guard case .base(let part) = piece else { continue }
            if let last = extents.last, part.lowerBound - last.upperBound <= gap {
                extents[extents.count - 1].upperBound = part.upperBound
            } else {
                extents.append(part)
            }
        }
        return extents
    }
}

/// Collects a read of known length into a buffer.
package final class BufferSink: ByteSink {
    private let buffer: PooledBuffer
    private let offset: Int
    private let count: Int
    private let filled = Mutex(0)

    /// Fills `buffer` from `offset` on with `count` bytes at most.
    package init(_ buffer: PooledBuffer, offset: Int, count: Int) {
        self.buffer = buffer
        self.offset = offset
        self.count = count
    }

    package func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        let start = filled.withLock { $0 }
        guard start + bytes.count <= count else { return .stop }
        let low = offset + start
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[low..<low + bytes.count]).copyMemory(from: bytes)
        filled.withLock { $0 = start + bytes.count }
        return .proceed
    }

    package var received: Int { filled.withLock { $0 } }
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
