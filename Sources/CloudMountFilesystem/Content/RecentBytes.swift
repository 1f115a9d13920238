import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Synchronization

/// Bytes of files that were stored or read a moment ago: who reads again what was stored, or changes either, asks nothing of the store.
/// They are copies, which nobody changes: of a small file all of it, of a larger one that was stored its end, if that is no whole page, for
/// the kernel keeps no such page of what was written.
final class RecentBytes: Sendable {
    /// Bytes of one version.
    struct Copy: Sendable {
        /// Which.
        let extent: Extent
        fileprivate let buffer: PooledBuffer
        fileprivate let start: Int

        func holds(_ part: Extent) -> Bool {
            extent.lowerBound <= part.lowerBound && part.upperBound <= extent.upperBound
        }

        /// - Parameter part: of `extent`.
        func bytes(_ part: Extent) -> UnsafeMutableRawBufferPointer {
            let low = start + part.lowerBound - extent.lowerBound
            return UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[low..<low + part.count])
        }
    }

    /// Memory that copies share, since most are small. It goes as a whole.
    private struct Slab {
        let buffer: PooledBuffer
        var filled = 0
        var use: UInt64 = 0
        var versions: Set<StoredVersion> = []

        var room: Int { BufferPool.cost(buffer.bytes.count) }
        var left: Int { buffer.bytes.count - filled }
    }

    private struct Entry {
        let slab: Int
        let copy: Copy
        /// The kernel has it too.
        let wasRead: Bool
    }

    private struct State {
        var entries: [StoredVersion: Entry] = [:]
        var slabs: [Int: Slab] = [:]
        /// The slab that is being filled.
        var current = 0
        var bytes = 0
        var uses: UInt64 = 0
    }

    /// Bytes of memory.
    private static let most = 4 << 20
    private static let mostOfSlab = 64 << 10
    private static let leastCost = 512
    /// Files of up to so many bytes are kept whole; of those that were only read, fewer.
    static let (mostOfWritten, mostOfRead) = (1 << 20, 64 << 10)
    private static let page = 4096

    private let memory: MemoryShare
    /// Of the pool for blocking work.
    private let lane: String
    /// Tags tell versions apart.
    private let isSure: Bool
    private let state = Mutex(State())
    private let count = Atomic(0)

    init(_ memory: MemoryShare, _ capabilities: Capabilities, lane: String) {
        (self.memory, isSure, self.lane) = (memory, capabilities.distinctTags, lane)
    }

    /// Bytes of memory that it takes.
    var used: Int { state.withLock { $0.bytes } }

    /// Something has been stored. Its bytes are kept where they were staged whole, and are at hand; those of another version that happens to
    /// have the same tag are not.
    func note(_ snapshot: ContentSnapshot, as info: ObjectInfo) {
        forget(info)
        guard isSure, info.size == snapshot.size, snapshot.size > 0, let staged = snapshot.staged,
            let version = snapshot.bytesVersion, snapshot.image.dirty.first(at: 0) == Extent(0, snapshot.size)
        else { return }
        let isWhole = snapshot.size <= min(Self.mostOfWritten, most / 4)
        let extent = Extent(isWhole ? 0 : snapshot.size / Self.page * Self.page, snapshot.size)
        let isDone = keep(extent, of: info, wasRead: false) { bytes in
            var done = 0
            while done < bytes.count {
                let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[done...])
                guard let count = staged.readNow(at: snapshot.size - rest.count, into: rest) else { return false }
                done += count
            }
            // A write begins with another number.
            return staged.version == version
        }
        guard !isDone, staged.isOnDisk(), staged.version == version else { return }
        // Where many files wait, most of them are closed.
        BlockingPool.shared.submit(lane) {
            self.keep(extent, of: info, wasRead: false) { bytes in
                (try? staged.read(at: extent.lowerBound, into: bytes)) == bytes.count && staged.version == version
            }
        }
    }

    /// A small file has been read whole.
    func noteRead(_ info: ObjectInfo, _ bytes: UnsafeRawBufferPointer) {
        guard isSure, info.size == bytes.count, info.size > 0, info.size <= min(Self.mostOfRead, most / 4),
            find(info, forChange: true) == nil
        else { return }
        keep(Extent(0, info.size), of: info, wasRead: true) { copy in
            copy.copyMemory(from: bytes)
            return true
        }
    }

    private var most: Int { min(Self.most, memory.limit / 32) }
    private var slabSize: Int { min(Self.mostOfSlab, most / 8) }

    /// - Returns: false where the bytes could not be had.
    @discardableResult
    private func keep(
        _ extent: Extent, of info: ObjectInfo, wasRead: Bool, _ fill: (UnsafeMutableRawBufferPointer) -> Bool
    ) -> Bool {
        guard !extent.isEmpty, let (slab, copy) = room(for: extent) else { return true }
        let isFilled = fill(copy.bytes(extent))
        let version = StoredVersion(info)
        change { state in
            // It may have gone meanwhile.
            guard let there = state.slabs[slab] else { return [] }
            guard isFilled else {
                return there.versions.isEmpty && slab != state.current ? Self.take(slab, &state) : []
            }
            // The same bytes in the same slab: that stays.
            let isSame = state.entries[version]?.slab == slab
            let before = isSame ? [] : Self.remove(version, &state)
            state.entries[version] = Entry(slab: slab, copy: copy, wasRead: wasRead)
            state.slabs[slab]?.versions.insert(version)
            return before + (state.bytes > most ? Self.drop(state.bytes - most / 4 * 3, &state) : [])
        }
        memory.hasBecomeReclaimable()
        return isFilled
    }

    /// Memory that nobody else writes to.
    private func room(for extent: Extent) -> (slab: Int, Copy)? {
        func take(_ number: Int, _ state: inout State) -> (slab: Int, Copy)? {
            // What is told of a copy takes room too.
            guard var slab = state.slabs[number] else { return nil }
            let cost = max(extent.count, min(Self.leastCost, slab.buffer.bytes.count))
            guard slab.left >= cost else { return nil }
            defer { state.slabs[number] = slab }
            state.uses += 1
            let copy = Copy(extent: extent, buffer: slab.buffer, start: slab.filled)
            (slab.filled, slab.use) = (slab.filled + cost, state.uses)
            return (number, copy)
        }
        if let taken = state.withLock({ take($0.current, &$0) }) { return taken }
        let size = slabSize
        let isShared = extent.count <= size / 2
        guard let buffer = memory.take(isShared ? size : extent.count, reclaiming: false) else { return nil }
        return state.withLock { state in
            state.uses += 1
            let number = Int(state.uses)
            let slab = Slab(buffer: buffer)
            state.slabs[number] = slab
            state.bytes += slab.room
            if isShared { state.current = number }
            return take(number, &state)
        }
    }

    /// Bytes of a version, if they are still here.
    /// - Parameter forChange: also of one that was only read. Who reads it once more has dropped the kernel's pages of it, and is to be noted
    ///   as a reader.
    func find(_ info: ObjectInfo, forChange: Bool = false) -> Copy? {
        if count.load(ordering: .relaxed) == 0 { return nil }
        return state.withLock { state in
            guard let entry = state.entries[StoredVersion(info)], forChange || !entry.wasRead else { return nil }
            state.uses += 1
            state.slabs[entry.slab]?.use = state.uses
            return entry.copy
        }
    }

    /// The same bytes are another object.
    func relocate(from old: ObjectInfo, to new: ObjectInfo) {
        let (old, new) = (StoredVersion(old), StoredVersion(new))
        if count.load(ordering: .relaxed) == 0 || old == new { return }
        change { state in
            let replaced = Self.remove(new, &state)
            if let entry = state.entries.removeValue(forKey: old) {
                state.entries[new] = entry
                state.slabs[entry.slab]?.versions.remove(old)
                state.slabs[entry.slab]?.versions.insert(new)
            }
            return replaced
        }
    }

    private func forget(_ info: ObjectInfo) {
        if count.load(ordering: .relaxed) > 0 { change { Self.remove(StoredVersion(info), &$0) } }
    }

    /// Lets go of those that were not used for longest.
    /// - Returns: bytes of memory that come back; `wanted` at least, if there are so many.
    func drop(_ wanted: Int) -> Int {
        if state.withLock({ $0.bytes }) == 0 { return 0 }
        return change { Self.drop(wanted, &$0) }.reduce(0) { $0 + $1.room }
    }

    /// What goes gives its memory back outside the lock.
    @discardableResult
    private func change(_ body: (inout State) -> [Slab]) -> [Slab] {
        state.withLock { state in
            let gone = body(&state)
            count.store(state.entries.count, ordering: .relaxed)
            return gone
        }
    }

    private static func remove(_ version: StoredVersion, _ state: inout State) -> [Slab] {
        guard let entry = state.entries.removeValue(forKey: version) else { return [] }
        state.slabs[entry.slab]?.versions.remove(version)
        guard let slab = state.slabs[entry.slab], slab.versions.isEmpty, entry.slab != state.current else { return [] }
        return take(entry.slab, &state)
    }

    private static func take(_ number: Int, _ state: inout State) -> [Slab] {
        guard let slab = state.slabs.removeValue(forKey: number) else { return [] }
        for version in slab.versions { state.entries[version] = nil }
        state.bytes -= slab.room
        return [slab]
    }

    private static func drop(_ wanted: Int, _ state: inout State) -> [Slab] {
        var dropped: [Slab] = []
        let target = state.bytes - wanted
        for (number, _) in state.slabs.sorted(by: { $0.value.use < $1.value.use }) where state.bytes > target {
            dropped += take(number, &state)
        }
        return dropped
    }
}
