import CloudMountCache
import CloudMountCommit
import CloudMountVFS
import MemoryProvider
import TestSeeds
import Testing

@testable import CloudMountFilesystem

@Suite("Names as they lie on the disk")
struct SavedEntryTests {
    private let rules = TreeRules(
        MountSettings(name: "a", uid: 7, gid: 8), MemoryProvider.fullCapabilities)

    private var entries: [SavedEntry] {
        get throws {
            var details = StoredAttributes()
            details.xattrs = ["user.a": [0, 255, 1], "user.b": []]
            details.foreign = ["colour": "röt", "": "empty"]
            details.headers = ["expires": "never"]
            details.contentType = "text/plain"
            (details.accessed, details.born) = (Timestamp(seconds: 4), Timestamp(seconds: -9, nanoseconds: 999_999_999))
            details.device = .max
            (details.symlinkTarget, details.symlinkTargetInBody) = ("../x", true)
            let kinds: [FileKind] = [
                .regular, .directory, .symbolicLink, .fifo, .socket, .characterDevice, .blockDevice,
            ]
            let markers: [Directory.Marker] = [.unknown, .absent, .present]
            let tags = ["0123456789abcdef0123456789ABCDEF", "0123456789abcdef0123456789abcdef", "", "ä\"x", "f-7"]
            var entries: [SavedEntry] = []
            for index in 0..<70 {
                let stored = Timestamp(seconds: 1_700_000_000 - index * 100_000_000, nanoseconds: index)
                let kind = kinds[index % 7]
                let isFolder = kind == .directory
                var object = ObjectInfo(
                    key: ObjectKey(""), size: isFolder ? 3 : index << 40, etag: ETag(tags[index % 5]), stored: stored)
                object.storageClass = [nil, "STANDARD", "GLACIER"][index % 3]
                object.encryption = [nil, "aws:kms"][index % 2]
                var entry = SavedEntry(
                    name: try FileName(validating: Array("n\(index)é".utf8)), kind: kind,
                    permissions: UInt32(index), uid: .max - UInt32(index), gid: UInt32(index),
                    defaulted: [], isKnown: index % 2 == 0, lacksDetails: index % 3 == 0,
                    size: isFolder ? 0 : object.size, remaining: index * 1000, stored: stored, modified: stored,
                    changed: stored)
                if index % 4 > 0 {
                    entry.modified = Timestamp(seconds: index, nanoseconds: 3)
                    entry.changed = Timestamp(seconds: -index)
                }
                entry.object = object
                entry.hasSlash = index % 2 == 0
                entry.marker = markers[index % 3]
                if index % 5 == 0 { entry.details = details }
                if isFolder { entry.below = NamesFile.Place(offset: index * 90, count: 80) }
                entries.append(entry)
            }
            return entries
        }
    }

    private func text(_ entries: [SavedEntry]) -> [String] {
        entries.map { entry in
            var plain = entry
            plain.details = nil
            return "\(plain)"
        }
    }

    @Test("What was written is what is read")
    func again() throws {
        let entries = try entries
        let bytes = SavedBlock(at: 1_764_000_000_123, entries: entries).bytes(origin: 10_000)
        let read = try SavedBlock(bytes, origin: 10_000, rules: rules)
        #expect(read.at == 1_764_000_000_123)
        #expect(text(read.entries) == text(entries))
        #expect(read.entries.map(\.details) == entries.map(\.details))
        // Owner and mode that nobody has set are those of the mount that reads.
        var entry = try #require(entries.first)
        entry.defaulted = .all
        let plain = try #require(
            try SavedBlock(SavedBlock(at: 1, entries: [entry]).bytes(origin: 0), origin: 0, rules: rules).entries.first)
        #expect(plain.uid == 7 && plain.gid == 8 && plain.permissions == 0o644)
    }

    @Test("Heads and tails are what was written")
    func heads() throws {
        var head = SavedHead()
        (head.at, head.remaining, head.age) = (1_764_000_000_123, 60_000, 17)
        (head.isWhole, head.isTooLong, head.evidence, head.emptySamples) = (true, true, .present, 3)
        (head.count, head.blocks) = (1001, [40_000, 50])
        #expect("\(try SavedHead(head.bytes))" == "\(head)")
        let places = head.places(before: NamesFile.Place(offset: 60_000, count: 9))
        #expect(places == [.init(offset: 19_950, count: 40_000), .init(offset: 59_950, count: 50)])
        let tail = SavedTail(
            identity: "a\0b", head: .init(offset: 5, count: 6), evidenceSeen: true, sampledDirectories: 9,
            hidden: ["x//y", ""])
        #expect("\(try SavedTail(tail.bytes))" == "\(tail)")
    }

    @Test("Damaged bytes are an error or a value, never a trap", arguments: 1...4)
    func damage(seed: UInt64) throws {
        let blocks = [
            SavedBlock(at: 5, entries: try entries).bytes(origin: 9000),
            SavedBlock(at: 5, entries: []).bytes(origin: 0),
        ]
        var count = 0
        for bytes in Damage(bytes: blocks, count: 2000, seed: seed) {
            if let block = try? SavedBlock(bytes, origin: 9000, rules: rules) {
                count += 1
                for entry in block.entries { #expect(entry.below.map { $0.offset >= 0 && $0.offset < 9000 } ?? true) }
            }
        }
        #expect(count > 0)
        var head = SavedHead()
        head.blocks = [5, 6, 7]
        for bytes in Damage(bytes: [head.bytes], count: 5000, seed: seed) {
            _ = (try? SavedHead(bytes))?.places(before: NamesFile.Place(offset: 3, count: 9))
        }
        let tail = SavedTail(
            identity: "a", head: .init(offset: 5, count: 6), evidenceSeen: false, sampledDirectories: 0, hidden: ["b"])
        for bytes in Damage(bytes: [tail.bytes], count: 5000, seed: seed) { _ = try? SavedTail(bytes) }
    }

    @Test("Moments: what has passed, a clock that was set back, a machine that has not been up for so long")
    func moments() {
        let clock = SavedClock(wall: 100_000, monotonic: 50_000_000_000, latest: 80_000_000_000)
        #expect(clock.moment(20_000, after: 90_000) == 60_000_000_000)
        #expect(clock.moment(10_000, after: 90_000) == 0)
        #expect(clock.moment(20_000, after: 100_001) == 0)
        #expect(clock.moment(1 << 53, after: 90_000) == 80_000_000_000)
        #expect(clock.moment(5_000, before: 90_000) == 35_000_000_000)
        #expect(clock.moment(45_000, before: 90_000) == nil)
        #expect(clock.moment(1 << 53, before: 0) == nil)
    }
}
