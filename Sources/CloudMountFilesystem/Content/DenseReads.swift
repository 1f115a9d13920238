import CloudMountCache
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Synchronization

/// Decides when reads here and there in a version are so many that more is fetched than they ask for. A value: no clock, no I/O.
///
/// One read in 64 MiB of the version, and eight at least, is enough: then the MiB around each is fetched too, and when a quarter of the
/// version has come so, the rest of it as well, two at a time. No part is fetched twice for it, so all that is fetched is less than
/// twice the version.
struct Density {
    static let unit = 1 << 20
    private static let sparse = 64 << 20
    private static let fewest = 8

    let size: Int
    private var misses = 0
    /// Reads where it has come before: it was not kept, or is still on its way.
    private var inVain = 0
    private var begun: Set<Int> = []
    /// All before it have begun.
    private var next = 0

    init(size: Int) { self.size = size }

    private var units: Int { (size + Self.unit - 1) / Self.unit }

    /// - Parameters:
    ///   - extent: was asked for and not there.
    ///   - most: how many parts may be begun now.
    /// - Returns: what to fetch whole.
    mutating func missed(_ extent: Extent, most: Int) -> [Extent] {
        misses += 1
        if !extent.isEmpty, begun.contains(extent.lowerBound / Self.unit) { inVain += 1 }
        // Nothing is fetched for a disk that has no room for it.
        if inVain > 64, inVain * 2 > begun.count { return [] }
        guard misses > max(Self.fewest, size / Self.sparse), !extent.isEmpty else { return [] }
        var parts: [Extent] = []
        for index in extent.lowerBound / Self.unit...(extent.upperBound - 1) / Self.unit where parts.count < most {
            if begun.insert(index).inserted { parts.append(part(index)) }
        }
        if begun.count * 4 >= units {
            for _ in 0..<2 where parts.count < most {
                while next < units, begun.contains(next) { next += 1 }
                if next < units, begun.insert(next).inserted { parts.append(part(next)) }
            }
        }
        return parts
    }

    private func part(_ index: Int) -> Extent {
        Extent(index * Self.unit, min(size, (index + 1) * Self.unit))
    }
}

/// Fetches for the local disk what lies around the reads of one version.
final class DenseReads: Sendable {
    private struct State {
        var density: Density
        var running = 0
    }

    /// Fetches at a time.
    private static let width = 16

    private let base: ObjectInfo
    private let kept: KeptVersion
    private let context: MountContext
    private let state: Mutex<State>

    init(_ base: ObjectInfo, _ kept: KeptVersion, _ context: MountContext) {
        (self.base, self.kept, self.context) = (base, kept, context)
        state = Mutex(State(density: Density(size: base.size)))
    }

    /// Bytes were asked for that were not there, and by nobody who reads in order.
    func missed(_ extent: Extent) {
        let parts = state.withLock { state in
            let parts = state.density.missed(extent, most: Self.width - state.running)
            state.running += parts.count
            return parts
        }
        for part in parts { fetch(part) }
    }

    private func fetch(_ part: Extent) {
        guard !kept.missing([part]).isEmpty, context.memory.makeRoomAhead(part.count),
            let buffer = context.memory.take(part.count)
        else { return state.withLock { $0.running -= 1 } }
        let fetch = Fetch(extent: part, handle: 0, buffer: buffer) { _, _ in }
        fetch.run(on: context.provider.executor) {
            // What fails is asked for again when somebody wants it.
            let read = await attempt { () async throws(VFSError) in
                try await self.context.provider.read(
                    ReadRequest(key: self.base.key, extent: part, version: self.base.etag), into: fetch)
            }
            if case .success = read, fetch.received() == part.count { self.kept.keep(fetch, self.context) }
            self.state.withLock { $0.running -= 1 }
        }
    }
}
