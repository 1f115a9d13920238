import CloudMountPlatform
public import CloudMountVFS
import Synchronization

/// The bytes of a staged file that is small enough to need no disk: it is made, sent and forgotten.
struct StagedMemory: Sendable {
    /// A file that grows beyond goes to disk.
    static let limit = 64 << 10

    let share: MemoryShare
    var buffer: PooledBuffer?
    /// What the buffer takes from the area's part of memory.
    var room = 0
    /// Bytes up to the last one written.
    var count = 0
    /// Counts changes.
    var version = 0
}

extension StagedFile {
    /// False when the bytes belong on disk: the file is there already, becomes too large, or memory is short.
    func writeToMemory(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        if writeToMemoryNow(bytes, at: offset) { return true }
        let end = offset + bytes.count
        // Others are asked to give back without the lock.
        guard end <= StagedMemory.limit, let share = state.withLock({ $0.memory?.share }), share.makeRoom(end) else {
            return false
        }
        return writeToMemoryNow(bytes, at: offset)
    }

    private func writeToMemoryNow(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        let end = offset + bytes.count
        guard end <= StagedMemory.limit else { return false }
        let (isDone, before): (Bool, PooledBuffer?) = state.withLock { state in
            guard var memory = state.memory else { return (false, nil) }
            let before = memory.buffer
            if end > before?.bytes.count ?? 0 {
                guard let larger = enlarged(&memory, to: end) else { return (false, nil) }
                memory.buffer = larger
            }
            guard let target = memory.buffer?.bytes else { return (false, nil) }
            if offset > memory.count {
                UnsafeMutableRawBufferPointer(rebasing: target[memory.count..<offset])
                    .initializeMemory(as: UInt8.self, repeating: 0)
            }
            UnsafeMutableRawBufferPointer(rebasing: target[offset..<end]).copyMemory(from: bytes)
            memory.count = max(memory.count, end)
            memory.version += 1
            state.version += 1
            state.memory = memory
            return (true, before)
        }
        // A smaller buffer goes back to its pool outside the lock.
        withExtendedLifetime(before) {}
        return isDone
    }

    private func enlarged(_ memory: inout StagedMemory, to count: Int) -> PooledBuffer? {
        let size = min(StagedMemory.limit, BufferPool.cost(count))
        guard area.takeMemory(size - memory.room, of: memory.share.limit) else { return nil }
        guard let buffer = memory.share.take(size, reclaiming: false) else {
            area.giveBackMemory(size - memory.room)
            return nil
        }
        if let old = memory.buffer?.bytes {
            buffer.bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: old[..<memory.count]))
        }
        memory.room = size
        return buffer
    }

    /// Nil when the bytes are not in memory.
    func readFromMemory(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        state.withLock { state in
            guard let memory = state.memory else { return nil }
            let end = min(memory.count, offset + buffer.count)
            guard offset < end, let bytes = memory.buffer?.bytes else { return 0 }
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<end]))
            return end - offset
        }
    }

    /// False when the bytes are not in memory.
    func truncateMemory(to size: Int) -> Bool {
        state.withLock { state in
            guard let count = state.memory?.count else { return false }
            if size < count {
                state.memory?.count = size
                state.memory?.version += 1
                state.version += 1
            }
            return true
        }
    }

    /// False when the bytes are not in memory.
    func punchMemory(_ extent: Extent) -> Bool {
        state.withLock { state in
            guard let memory = state.memory else { return false }
            let range = extent.lowerBound..<max(extent.lowerBound, min(extent.upperBound, memory.count))
            if !range.isEmpty, let bytes = memory.buffer?.bytes {
                UnsafeMutableRawBufferPointer(rebasing: bytes[range]).initializeMemory(as: UInt8.self, repeating: 0)
                state.memory?.version += 1
                state.version += 1
            }
            return true
        }
    }

    /// Counts changes of bytes in memory; nil when they are on disk.
    public var memoryVersion: Int? { state.withLock { $0.memory?.version } }

    /// Copies the first bytes in one step.
    /// - Returns: false when they are on disk, have changed since `version`, or are fewer.
    public func copyMemory(of version: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        state.withLock { state in
            guard let memory = state.memory, memory.version == version, memory.count >= buffer.count,
                let bytes = memory.buffer?.bytes
            else { return false }
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<buffer.count]))
            return true
        }
    }

    /// The path of the file that has the bytes; nil while they are in memory.
    public var place: String? { state.withLock { $0.memory == nil } ? path : nil }

    /// Brings the bytes from memory to disk, where all that is written later goes too.
    /// - Throws: `noSpace`, `io`; the bytes stay in memory then.
    public func spill() throws(VFSError) {
        try spilling.withLock { _ throws(VFSError) in
            while true {
                guard let memory = state.withLock({ $0.memory }) else { return }
                // Of an earlier turn, or of one that failed.
                try truncateOnDisk(to: memory.count)
                if let bytes = memory.buffer?.bytes, memory.count > 0 {
                    // A write at the same time changes the version: all of it goes to disk once more.
                    try writeToDisk(
                        UnsafeRawBufferPointer(rebasing: bytes[..<memory.count]), at: 0, changes: false)
                }
                let isDone = state.withLock { state in
                    guard state.memory?.version == memory.version else { return false }
                    state.memory = nil
                    return true
                }
                if isDone { return area.giveBackMemory(memory.room) }
            }
        }
    }
}

extension StagedFile {
    /// The bytes are on disk, or go there.
    public func isOnDisk() -> Bool { state.withLock { $0.memory == nil } }
}
