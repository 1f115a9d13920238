import CloudMountPlatform
import Synchronization

/// The readers of one mount that may hold bytes which nobody has asked for yet, so that those of idle files make room when
/// memory is short.
final class ReadAhead: Sendable {
    private struct Entry {
        weak var reader: VersionReader?
    }

    private let readers = Mutex<[ObjectIdentifier: Entry]>([:])

    func add(_ reader: VersionReader) {
        readers.withLock { $0[ObjectIdentifier(reader)] = Entry(reader: reader) }
    }

    func remove(_ id: ObjectIdentifier) { readers.withLock { $0[id] = nil } }

    /// Who was not read from for so long rests, in nanoseconds. Those that are at work must not take from each other what they will ask
    /// for in a moment.
    private static let rest: UInt64 = 1_000_000_000

    /// Drops what was read ahead, of those first that were not read from for longest.
    /// - Returns: bytes that were given back; `wanted` at least, if there are so many.
    func drop(_ wanted: Int, for pressure: MemoryPressure, _ now: UInt64) -> Int {
        let readers = readers.withLock { $0.values.compactMap(\.reader) }
        let restsSince = pressure == .ahead ? now.elapsed(since: Self.rest) : .max
        var freed = 0
        for (reader, lastUse) in readers.map({ ($0, $0.lastUse()) }).sorted(by: { $0.1 < $1.1 }) {
            if freed >= wanted || lastUse > restsSince { break }
            freed += reader.dropIdle()
        }
        return freed
    }
}
