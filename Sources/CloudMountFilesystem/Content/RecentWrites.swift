import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Synchronization

/// Bytes of small files that were stored a moment ago: who reads such a file again, or changes it, asks nothing of the store. They are copies,
/// which nobody changes.
final class RecentWrites: Sendable {
    private struct Entry {
        let bytes: PooledBuffer
        let room: Int
        var use: UInt64
    }

    private struct State {
        var entries: [StoredVersion: Entry] = [:]
        var bytes = 0
        var uses: UInt64 = 0
    }

    /// Bytes of memory.
    private static let most = 4 << 20

    private let memory: MemoryShare
    /// Tags tell versions apart.
    private let isSure: Bool
    private let state = Mutex(State())
    private let count = Atomic(0)

    init(_ memory: MemoryShare, _ capabilities: Capabilities) {
        (self.memory, isSure) = (memory, capabilities.distinctTags)
    }

    /// Bytes of memory that it takes.
    var used: Int { state.withLock { $0.bytes } }

    /// Something has been stored. Its bytes are kept where they were staged whole, and in memory; those of another version that happens to have
    /// the same tag are not.
    func note(_ snapshot: ContentSnapshot, as info: ObjectInfo) {
        let copy = isSure ? copy(snapshot, info) : nil
        if copy == nil, count.load(ordering: .relaxed) == 0 { return }
        change { state in
            state.uses += 1
            let before = state.entries.removeValue(forKey: StoredVersion(info))
            state.bytes -= before?.room ?? 0
            var gone = before.map { [$0] } ?? []
            guard let copy else { return gone }
            let entry = Entry(bytes: copy, room: BufferPool.cost(snapshot.size), use: state.uses)
            state.entries[StoredVersion(info)] = entry
            state.bytes += entry.room
            let most = min(Self.most, memory.limit / 32)
            if state.bytes > most { gone += Self.drop(state.bytes - most / 4 * 3, &state) }
            return gone
        }
        memory.hasBecomeReclaimable()
    }

    private func copy(_ snapshot: ContentSnapshot, _ info: ObjectInfo) -> PooledBuffer? {
        guard info.size == snapshot.size, let staged = snapshot.staged, let version = snapshot.stagedVersion,
            !snapshot.isStreamed,
            snapshot.size > 0, snapshot.image.dirty.first(at: 0) == Extent(0, snapshot.size),
            let copy = memory.take(snapshot.size, reclaiming: false), staged.copyMemory(of: version, into: copy.bytes)
        else { return nil }
        return copy
    }

    /// The bytes of a version, if they are still here.
    func find(_ info: ObjectInfo) -> PooledBuffer? {
        if count.load(ordering: .relaxed) == 0 { return nil }
        return state.withLock { state in
            state.uses += 1
            state.entries[StoredVersion(info)]?.use = state.uses
            return state.entries[StoredVersion(info)]?.bytes
        }
    }

    /// The same bytes are another object.
    func relocate(from old: ObjectInfo, to new: ObjectInfo) {
        if count.load(ordering: .relaxed) == 0 || StoredVersion(old) == StoredVersion(new) { return }
        change { state in
            let replaced = state.entries.removeValue(forKey: StoredVersion(new))
            state.bytes -= replaced?.room ?? 0
            state.entries[StoredVersion(new)] = state.entries.removeValue(forKey: StoredVersion(old))
            return replaced.map { [$0] } ?? []
        }
    }

    /// Lets go of those that were not used for longest.
    /// - Returns: bytes of memory that come back; `wanted` at least, if there are so many.
    func drop(_ wanted: Int) -> Int {
        if count.load(ordering: .relaxed) == 0 { return 0 }
        return change { Self.drop(wanted, &$0) }.reduce(0) { $0 + $1.room }
    }

    /// What goes gives its memory back outside the lock.
    @discardableResult
    private func change(_ body: (inout State) -> [Entry]) -> [Entry] {
        state.withLock { state in
            let gone = body(&state)
            count.store(state.entries.count, ordering: .relaxed)
            return gone
        }
    }

    private static func drop(_ wanted: Int, _ state: inout State) -> [Entry] {
        var dropped: [Entry] = []
        let target = state.bytes - wanted
        for (version, entry) in state.entries.sorted(by: { $0.value.use < $1.value.use }) {
            if state.bytes <= target { break }
            state.entries[version] = nil
            state.bytes -= entry.room
            dropped.append(entry)
        }
        return dropped
    }
}
