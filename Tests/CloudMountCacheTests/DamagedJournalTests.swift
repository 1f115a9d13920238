import CloudMountVFS
import Glibc
import TestSeeds
import TestServers
import Testing

@testable import CloudMountCache

@Suite("A damaged journal")
struct DamagedJournalTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder("journal") }

    /// A good journal: its files, what is in it, and all versions of records that ever were.
    private struct Good {
        var files: [String: [UInt8]] = [:]
        var records: [Journal.Record] = []
        var ever: [Journal.Record] = []
    }

    /// - Parameter isClean: the journal had been closed; else it is as a kill would leave it.
    private func good(_ name: String, isClean: Bool) throws -> Good {
        let directory = "\(folder.path)/\(name)"
        let journal = try Journal(directory: directory)
        var good = Good()
        var records: [Int64: Journal.Record] = [:]
        for round in 0..<60 {
            let new = (0..<8).map { record(journal.newID(), $0 == 0 ? 9000 : 60 * $0 + round) }
            var changes = new.map { Journal.Change.put($0) }
            for record in new { records[record.id] = record }
            if round % 5 == 4, let (id, old) = records.min(by: { $0.key < $1.key }) {
                var other = old
                other.payload.append(1)
                records[id] = nil
                changes.append(.remove(id))
                if let next = records.keys.min() {
                    other.id = next
                    records[next] = other
                    changes.append(.put(other))
                }
                good.ever.append(other)
            }
            good.ever += new
            try journal.commitNow(changes)
        }
        if isClean { journal.close() }
        good.files = files(in: directory)
        good.records = records.values.sorted { $0.id < $1.id }
        #expect(good.files.keys.contains("state.sqlite-wal") != isClean)
        journal.close()
        return good
    }

    private func damage(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
        let place = Int.random(in: 0..<max(1, bytes.count), using: &random)
        let end = min(bytes.count, place + Int.random(in: 1...9000, using: &random))
        switch Int.random(in: 0..<8, using: &random) {
        case 0: bytes.removeSubrange(place...)
        case 1: for index in place..<end { bytes[index] = 0 }
        case 2: for index in place..<end { bytes[index] = UInt8.random(in: 0...255, using: &random) }
        case 3: bytes = [UInt8](repeating: 0x55, count: 5000)
        case 4: bytes = []
        case 5 where bytes.count > 200: bytes[place % 200] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        default:
            for _ in 0...Int.random(in: 0..<4, using: &random) where !bytes.isEmpty {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            }
        }
    }

    @Test("Whatever is flipped, cut off or overwritten: all is there, or it is told", arguments: [true, false])
    func anyDamage(isClean: Bool) throws {
        let good = try good("good", isClean: isClean)
        var (told, refused) = (0, 0)
        for seed in seeds(250, "damaged journal") {
            var random = SeededGenerator(seed: seed)
            var damaged = good.files
            let name =
                damaged.keys.filter { $0 != "state.mark" || seed % 8 == 0 }.sorted().randomElement(using: &random) ?? ""
            if Int.random(in: 0..<12, using: &random) == 0 {
                damaged[name] = nil
            } else {
                damage(&damaged[name, default: []], &random)
            }
            let directory = "\(folder.path)/\(seed)"
            try place(damaged, in: directory)
            switch try look(directory, good, "seed \(seed), \(name)") {
            case .whole: break
            case .told: told += 1
            case .refused: refused += 1
            }
            try #require(removed(directory))
        }
        // Else nothing was tried.
        #expect(told > (inheritedEnvironment()["SEED"] == nil ? 60 : -1) && refused < 25)
    }

    private enum Outcome { case whole, told, refused }

    private func look(_ directory: String, _ good: Good, _ what: String) throws -> Outcome {
        var opened: Journal?
        // A flip in the version: refused aloud, and nothing is touched.
        let refusal = failure { opened = try Journal(directory: directory) }
        if refusal?.code == .notSupported { return .refused }
        let journal = try #require(opened, "\(what): \(String(describing: refusal))")
        opened = nil
        let records = try journal.records(of: "photos")
        var wasTold = journal.damage != nil
        if let damage = journal.damage {
            #expect(
                records.allSatisfy { record in good.ever.contains(record) || good.records.contains(record) }, "\(what)")
            #expect(damage.carried == records.count, "\(what)")
            if let path = damage.path { #expect(readBytes(path) != nil || readBytes(path + "-wal") != nil, "\(what)") }
        } else {
            #expect(records == good.records, "\(what)")
        }
        // And it goes on.
        var added: [Journal.Record] = []
        for _ in 0..<5 {
            let new = record(journal.newID(), 3000)
            if failure({ try journal.commitNow([.put(new)]) }) == nil { added.append(new) }
        }
        journal.close()
        let again = try Journal(directory: directory)
        if added.count < 5 {
            #expect(again.damage != nil, "\(what)")
            wasTold = true
        } else {
            #expect(again.damage == nil, "\(what)")
        }
        #expect(try again.records(of: "photos") == records + added, "\(what)")
        let last = record(again.newID())
        try again.commitNow([.put(last)])
        again.close()
        return wasTold ? .told : .whole
    }

    private func removed(_ directory: String) -> Bool {
        for name in names(in: directory) { unlink("\(directory)/\(name)") }
        return rmdir(directory) == 0
    }

    @Test(
        "One bad page costs its own records; the old file is kept with all its bytes, and the new one counts from there"
    )
    func oneBadPage() throws {
        var good = try good("good", isClean: true)
        let bytes = try #require(good.files["state.sqlite"])
        // A page of records: of a table's leaf, by its first byte.
        let pages = (1..<bytes.count / 4096).filter { bytes[$0 * 4096] == 0x0D }
        let page = try #require(pages.dropFirst(pages.count / 2).first)
        for index in page * 4096..<page * 4096 + 4096 { good.files["state.sqlite"]?[index] = 0xFF }
        let directory = folder.path + "/damaged"
        try place(good.files, in: directory)
        let journal = try Journal(directory: directory)
        let damage = try #require(journal.damage)
        let records = try journal.records(of: "photos")
        #expect(damage.carried == records.count)
        #expect(records.count > good.records.count * 3 / 4 && records.count < good.records.count)
        #expect(records.allSatisfy(good.records.contains))
        #expect(damage.path?.hasPrefix(directory + "/state.sqlite.damaged-2") ?? false)
        #expect(damage.path.flatMap(readBytes) == good.files["state.sqlite"])
        #expect(journal.newID() > good.records.map(\.id).max() ?? 0)
        journal.close()
        #expect(try Journal(directory: directory).damage == nil)
    }

    @Test(
        "Acknowledged transactions that the log has lost are missed", arguments: ["cut", "gone", "flipped", "emptied"])
    func lostLog(how: String) throws {
        var good = try good("good", isClean: false)
        let log = try #require(good.files["state.sqlite-wal"])
        switch how {
        // The last frame alone, as a write that was never finished would look.
        case "cut": good.files["state.sqlite-wal"] = log.dropLast(4096 + 24)
        case "gone": good.files["state.sqlite-wal"] = nil
        case "flipped": good.files["state.sqlite-wal"]?[log.count - 100] ^= 1
        default: good.files["state.sqlite-wal"] = []
        }
        let directory = folder.path + "/damaged"
        try place(good.files, in: directory)
        let journal = try Journal(directory: directory)
        #expect(journal.damage?.reason.contains("transactions that were acknowledged are missing") ?? false)
        let aside = try #require(journal.damage?.path)
        if how == "cut" || how == "flipped" { #expect(readBytes(aside + "-wal") == good.files["state.sqlite-wal"]) }
        #expect(try journal.records(of: "photos").allSatisfy(good.ever.contains))
    }

    @Test("A move aside that was interrupted is brought to its end by the next start", arguments: 0..<4)
    func interrupted(point: Int) throws {
        let good = try good("good", isClean: true)
        let other = try self.good("other", isClean: false)
        let directory = folder.path + "/damaged"
        var files = ["state.sqlite.rebuilt": good.files["state.sqlite"] ?? [], "state.sqlite.building": [1, 2, 3]]
        files["state.mark"] = good.files["state.mark"]
        if point < 3 { files["state.sqlite"] = other.files["state.sqlite"] }
        if point < 2 { files["state.sqlite-wal"] = other.files["state.sqlite-wal"] }
        if point < 1 { files["state.sqlite-wal.kept"] = other.files["state.sqlite-wal"] }
        try place(files, in: directory)
        let journal = try Journal(directory: directory)
        let damage = try #require(journal.damage)
        #expect(damage.carried == good.records.count)
        #expect(try journal.records(of: "photos") == good.records)
        #expect(damage.path.flatMap(readBytes) == files["state.sqlite"])
        if let path = damage.path { #expect(readBytes(path + "-wal") == files["state.sqlite-wal"]) }
        journal.close()
        #expect(try Journal(directory: directory).damage == nil)
        #expect(!names(in: directory).contains { $0.hasSuffix(".rebuilt") || $0.hasSuffix(".kept") })
    }
}
