import CloudMountVFS
import Glibc
import TestServers
import Testing

@testable import CloudMountCache

@Suite("The journal")
struct JournalTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder("journal") }

    @Test("What was put is there after a restart, in order of id, whatever is in a key; what was removed is not")
    func roundTrip() async throws {
        let keys = [
            "a", "", "a//b", "é", "e\u{301}", "a\0b", "\0", "'; DROP TABLE record; --", "🗻/\u{200F}x", "%",
            "tab\tline\n",
            String(repeating: "ü", count: 512),
        ]
        var expected: [Journal.Record] = []
        do {
            let journal = try Journal(directory: folder.path)
            #expect(journal.damage == nil)
            for (index, key) in keys.enumerated() {
                expected.append(
                    Journal.Record(
                        id: journal.newID(), mount: "phötos\0", key: ObjectKey(key), staged: index == 1 ? nil : key,
                        payload: (0..<index * 1000).map { UInt8(truncatingIfNeeded: $0) }))
            }
            // Out of order.
            for record in expected.reversed() { try await journal.commit([.put(record)]) }
            expected[3].payload = [7]
            try await journal.commit([.put(expected[3]), .remove(expected[5].id), .remove(1 << 62)])
            expected.remove(at: 5)
            #expect(try journal.records(of: "phötos\0") == expected)
            journal.close()
        }
        #expect(names(in: folder.path) == ["state.mark", "state.reserve", "state.sqlite"])
        let journal = try Journal(directory: folder.path)
        #expect(journal.damage == nil)
        #expect(try journal.records(of: "phötos\0") == expected)
        #expect(try journal.records(of: "phötos") == [])
        #expect(journal.newID() > expected.map(\.id).max() ?? 0)
    }

    @Test("Each mount has its own records, and those of others are left alone")
    func mounts() async throws {
        let journal = try Journal(directory: folder.path)
        let records = (0..<30).map { record(journal.newID(), of: $0 % 3 == 0 ? "gone" : "photos") }
        try await journal.commit(records.map { .put($0) })
        #expect(try journal.mounts() == ["gone": 10, "photos": 20])
        try await journal.commit(records.filter { $0.mount == "photos" }.map { .remove($0.id) })
        #expect(try journal.records(of: "gone") == records.filter { $0.mount == "gone" })
        #expect(try journal.mounts() == ["gone": 10])
    }

    @Test("Ids ascend over restarts, also those that were never put, and others are refused")
    func ids() async throws {
        var last: Int64 = 0
        for round in 0..<4 {
            let journal = try Journal(directory: folder.path)
            for _ in 0..<100 {
                let id = journal.newID()
                #expect(id > last)
                last = id
            }
            if round != 1 { try await journal.commit([.put(record(last)), .remove(last)]) }
            for id in [0, -1, last + 1, .max] {
                #expect(failure { try journal.commitNow([.put(record(id))]) }?.code == .invalidArgument)
            }
            journal.close()
        }
        // Also without the mark, those that were put.
        unlink(folder.path + "/state.mark")
        #expect(try Journal(directory: folder.path).newID() > last)
    }

    @Test("What is asked for while the writer works goes into one transaction")
    func groupCommit() async throws {
        let journal = try Journal(directory: folder.path)
        let count = 300
        let hold = try Hold(journal)
        let records = (0..<count).map { _ in record(journal.newID()) }
        try await withThrowingTaskGroup { group in
            for record in records { group.addTask { try await journal.commit([.put(record)]) } }
            while journal.counts.asked < count { try await Task.sleep(for: .milliseconds(1)) }
            hold.end()
            try await group.waitForAll()
        }
        #expect(journal.counts.commits == count)
        // The first ones may have been taken before the others came.
        #expect(journal.counts.transactions <= 2)
        #expect(try journal.records(of: "photos") == records)
    }

    @Test("A record that is too large is refused, and the others with it go on")
    func tooLarge() async throws {
        let journal = try Journal(directory: folder.path)
        let small = record(journal.newID())
        let large = record(journal.newID(), Journal.mostBytes)
        #expect(failure { try journal.commitNow([.put(small), .put(large)]) }?.code == .tooLarge)
        #expect(try journal.records(of: "photos") == [])
        let largest = Journal.Record(
            id: journal.newID(), mount: "", key: "", staged: nil,
            payload: [UInt8](repeating: 1, count: Journal.mostBytes))
        try await journal.commit([.put(small), .put(largest)])
        #expect(try journal.records(of: "") == [largest])
    }

    @Test("After the end every call says so, and the end may be asked for again")
    func afterClose() async throws {
        let journal = try Journal(directory: folder.path)
        let id = journal.newID()
        // What was asked for before is carried out.
        try await withThrowingTaskGroup { group in
            for _ in 0..<20 { group.addTask { try await journal.commit([.put(record(journal.newID()))]) } }
            try await group.waitForAll()
        }
        for _ in 0..<3 { journal.close() }
        #expect(failure { try journal.commitNow([.put(record(id))]) }?.code == .io)
        await #expect(throws: VFSError.self) { try await journal.commit([.remove(id)]) }
        #expect(failure { _ = try journal.records(of: "photos") }?.code == .io)
        #expect(failure { _ = try journal.mounts() }?.code == .io)
        #expect(try Journal(directory: folder.path).records(of: "photos").count == 20)
    }

    @Test("One process at a time has it")
    func oneHolder() throws {
        let journal = try Journal(directory: folder.path)
        #expect(failure { _ = try Journal(directory: folder.path) }?.code == .busy)
        try journal.commitNow([.put(record(journal.newID()))])
        journal.close()
        #expect(try Journal(directory: folder.path).records(of: "photos").count == 1)
    }

    @Test("Only this user can read the files, and links and files of others are refused")
    func owners() throws {
        let path = folder.path + "/state.sqlite"
        do {
            let journal = try Journal(directory: folder.path)
            try journal.commitNow([.put(record(journal.newID()))])
            for name in ["state.sqlite", "state.sqlite-wal", "state.mark"] {
                var status = stat()
                try #require(lstat("\(folder.path)/\(name)", &status) == 0)
                #expect(status.st_mode & 0o7777 == 0o600, "\(name)")
            }
            journal.close()
        }
        for name in ["state.sqlite", "state.mark", "state.sqlite-wal"] {
            let (file, away) = ("\(folder.path)/\(name)", "\(folder.path)/away")
            let isThere = rename(file, away) == 0
            symlink(away, file)
            #expect(failure { _ = try Journal(directory: folder.path) }?.code == .permissionDenied, "\(name)")
            unlink(file)
            mkdir(file, 0o700)
            #expect(failure { _ = try Journal(directory: folder.path) } != nil, "\(name)")
            rmdir(file)
            if isThere { try #require(rename(away, file) == 0) }
        }
        // A second name would outlive what is written.
        link(path, folder.path + "/second")
        #expect(failure { _ = try Journal(directory: folder.path) }?.code == .permissionDenied)
        unlink(folder.path + "/second")
        try #require(geteuid() == 0, "this test gives files to another user, which needs root")
        chown(path, 65534, 65534)
        #expect(failure { _ = try Journal(directory: folder.path) }?.code == .permissionDenied)
        chown(path, 0, 0)
        chmod(path, 0o644)
        #expect(try Journal(directory: folder.path).records(of: "photos").count == 1)
        var status = stat()
        stat(path, &status)
        #expect(status.st_mode & 0o7777 == 0o600)
    }

    @Test("A file of a newer version is refused with both versions, and left as it is", arguments: [false, true])
    func newer(isClean: Bool) throws {
        var newer = JournalSchema.current
        newer.steps.append(["ALTER TABLE record ADD COLUMN other INTEGER"])
        let journal = try Journal(directory: folder.path, schema: newer)
        if isClean { journal.close() }
        let before = files(in: folder.path)
        let copy = folder.path + "/copy"
        try place(before, in: copy)
        let error = failure { _ = try Journal(directory: copy) }
        #expect(error?.code == .notSupported)
        let message = error?.message ?? ""
        #expect(message.contains(copy + "/state.sqlite"))
        #expect(message.contains("version \(newer.version)") && message.contains("\(JournalSchema.current.version)"))
        #expect(files(in: copy) == before)
        journal.close()
    }

    @Test("A file of an older version is brought forward with what it holds")
    func older() throws {
        let first = record(1 << 32 | 1)
        do {
            let journal = try Journal(directory: folder.path)
            _ = journal.newID()
            try journal.commitNow([.put(first)])
            journal.close()
        }
        var newer = JournalSchema.current
        newer.steps.append(["CREATE TABLE other (id INTEGER PRIMARY KEY)", "INSERT INTO other VALUES (5)"])
        for _ in 0..<2 {
            let journal = try Journal(directory: folder.path, schema: newer)
            #expect(journal.damage == nil)
            #expect(try journal.records(of: "photos") == [first])
            journal.close()
            #expect(readBytes(folder.path + "/state.sqlite")?[60..<64].elementsEqual([0, 0, 0, 2]) ?? false)
        }
    }

    @Test("Opening reads what the journal holds a few times at most, and nothing else")
    func openingIsCheap() throws {
        do {
            let journal = try Journal(directory: folder.path)
            for _ in 0..<20 {
                try journal.commitNow((0..<1000).map { _ in .put(record(journal.newID(), 400)) })
            }
            journal.close()
        }
        let size = readBytes(folder.path + "/state.sqlite")?.count ?? 0
        #expect(size > 20_000 * 400)
        let before = try bytesRead()
        let journal = try Journal(directory: folder.path)
        let read = try bytesRead() - before
        #expect(read < 3 * size, "\(read) bytes of a file of \(size)")
        #expect(try journal.mounts() == ["photos": 20_000])
    }

    /// Of this thread, by all calls (proc(5)).
    private func bytesRead() throws -> Int {
        let line = readFile("/proc/thread-self/io").split(separator: "\n").first { $0.hasPrefix("rchar: ") }
        return try #require(line.flatMap { Int($0.dropFirst(7)) })
    }
}
