import CloudMountCache
import CloudMountVFS

/// What an earlier process knew of a directory's names, which nobody has looked at yet. It belongs to the node, not to a path: so it
/// goes where the directory goes, and never to another one of its name. Touched only under the tree's lock.
final class SavedDirectory {
    /// Where it lies, for who reads it without the lock.
    struct Source: Sendable {
        let file: NamesFile
        let place: NamesFile.Place
    }

    let source: Source
    /// Nothing has said since that it may be wrong.
    var isBelieved: Bool
    /// Somebody makes nodes of it.
    var isBeingRead = false
    /// Names that have come or gone since: of them it says nothing any more.
    private(set) var changed: Set<FileName> = []

    init(_ source: Source, isBelieved: Bool) { (self.source, self.isBelieved) = (source, isBelieved) }

    func noteChange(of name: FileName) { changed.insert(name) }
}

/// What lies in front of a directory's names on the disk.
struct SavedHead: Sendable {
    /// Milliseconds since 1970 when it was saved.
    var at = 0
    /// Milliseconds that the names were still believed to be all there are; 0: they were not.
    var remaining = 0
    /// Milliseconds since the store had said so.
    var age = 0
    var isWhole = false
    var isTooLong = false
    /// `Directory.tellsAbsence`.
    var tellsAbsence = false
    var evidence = Directory.Evidence.unknown
    var emptySamples = 0
    /// How many names there are.
    var count = 0
    /// The blocks of the names, one behind the other, right before the head's.
    var blocks: [Int] = []

    private static let evidences: [Directory.Evidence] = [.unknown, .absent, .present]
    private static let mostBlocks = 1 << 16

    init() {}

    init(_ bytes: [UInt8]) throws(VFSError) {
        var from = PackedReader(bytes)
        (at, remaining, age) = (try from.count(), try from.count(), try from.count())
        let flags = try from.count(most: 27)
        (isWhole, isTooLong, tellsAbsence) = (flags & 1 != 0, flags & 2 != 0, flags & 16 != 0)
        let kind = flags >> 2 & 3
        guard Self.evidences.indices.contains(kind) else { throw PackedReader.damage }
        evidence = Self.evidences[kind]
        (emptySamples, count) = (try from.count(), try from.count())
        for _ in 0..<min(Self.mostBlocks, try from.items(least: 1)) {
            blocks.append(try from.count(most: NamesFile.mostOfBlock))
        }
        guard from.isAtEnd else { throw PackedReader.damage }
    }

    var bytes: [UInt8] {
        var to = PackedWriter()
        for number in [at, remaining, age] { to.count(number) }
        let flags = (isWhole ? 1 : 0) + (isTooLong ? 2 : 0) + (tellsAbsence ? 16 : 0)
        to.count(flags + (Self.evidences.firstIndex(of: evidence) ?? 0) << 2)
        for number in [emptySamples, count, blocks.count] + blocks { to.count(number) }
        return to.bytes
    }

    /// Where the blocks lie when the head is at `place`.
    func places(before place: NamesFile.Place) -> [NamesFile.Place] {
        var offset = place.offset - blocks.reduce(0, +)
        return blocks.map { count in
            defer { offset += count }
            return NamesFile.Place(offset: offset, count: count)
        }
    }
}

/// Some of a directory's names.
struct SavedBlock: Sendable {
    /// Milliseconds since 1970 when it was saved.
    var at: Int
    var entries: [SavedEntry]

    /// Names in one block at most, so that reading it and making nodes of it is a short step.
    static let most = LongWork.slice

    /// - Parameter origin: where it lies, or will.
    func bytes(origin: Int) -> [UInt8] {
        var to = PackedWriter()
        to.count(at)
        to.count(entries.count)
        for entry in entries { entry.encode(&to, origin: origin) }
        return to.bytes
    }

    init(at: Int, entries: [SavedEntry]) { (self.at, self.entries) = (at, entries) }

    init(_ bytes: [UInt8], origin: Int, rules: TreeRules) throws(VFSError) {
        var from = PackedReader(bytes)
        at = try from.count()
        let count = try from.items(least: SavedEntry.least)
        guard count <= Self.most else { throw PackedReader.damage }
        entries = []
        entries.reserveCapacity(count)
        for _ in 0..<count { entries.append(try SavedEntry(&from, origin: origin, rules: rules)) }
        guard from.isAtEnd else { throw PackedReader.damage }
    }
}

/// What is read first: which mount it is of, and what was known of it as a whole.
struct SavedTail: Sendable {
    var identity: String
    /// Of the root.
    var head: NamesFile.Place
    var evidenceSeen: Bool
    var sampledDirectories: Int
    /// `HiddenKeys.keys`.
    var hidden: [String]

    var bytes: [UInt8] {
        var to = PackedWriter()
        to.text(identity)
        for number in [head.offset, head.count, evidenceSeen ? 1 : 0, sampledDirectories, hidden.count] {
            to.count(number)
        }
        for key in hidden { to.text(key) }
        return to.bytes
    }

    init(
        identity: String, head: NamesFile.Place, evidenceSeen: Bool, sampledDirectories: Int, hidden: [String]
    ) {
        (self.identity, self.head, self.evidenceSeen) = (identity, head, evidenceSeen)
        (self.sampledDirectories, self.hidden) = (sampledDirectories, hidden)
    }

    init(_ bytes: [UInt8]) throws(VFSError) {
        var from = PackedReader(bytes)
        identity = try from.text()
        head = NamesFile.Place(offset: try from.count(), count: try from.count())
        evidenceSeen = try from.count(most: 1) == 1
        sampledDirectories = try from.count()
        hidden = []
        for _ in 0..<(try from.items(least: 1)) { hidden.append(try from.text()) }
    }
}

/// Turns what was saved with the wall's clock into moments of the monotonic one.
struct SavedClock: Sendable {
    /// Milliseconds since 1970, and monotonic nanoseconds, of the same moment.
    let wall: Int
    let monotonic: UInt64
    /// No moment later than this is believed.
    let latest: UInt64

    /// - Returns: the moment `remaining` milliseconds after `at`; 0 when it has passed, and when the clock was set back since.
    func moment(_ remaining: Int, after at: Int) -> UInt64 {
        let passed = wall - at
        guard passed >= 0, passed < remaining else { return 0 }
        let until = monotonic.addingReportingOverflow(UInt64(clamping: min(remaining - passed, 1 << 43)) * 1_000_000)
        let moment = until.overflow ? .max : until.partialValue
        return min(moment, latest) > monotonic ? min(moment, latest) : 0
    }

    /// - Returns: the moment `age` milliseconds before `at`; nil when the machine has not been up for so long.
    func moment(_ age: Int, before at: Int) -> UInt64? {
        let passed = wall - at + age
        guard passed >= 0, UInt64(clamping: passed) < monotonic / 1_000_000 else { return nil }
        return monotonic - UInt64(clamping: passed) * 1_000_000
    }
}
