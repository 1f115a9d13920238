import CloudMountFilesystem
import CloudMountStaging
import CloudMountVFS
import Glibc
import Testing

@testable import CloudMountCache
@testable import CloudMountConfig
@testable import CloudMountDaemon

@Suite("Records that cannot be read, or are others by now", .timeLimit(.minutes(15)))
struct UnreadableRecordTests {
    /// A cache directory with staged files of these names; it goes at the end.
    private func withFolder(
        _ names: [String], _ body: (String, StagingArea) async throws -> Void
    ) async throws {
        var template = Array("/tmp/cloudmount-records-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw VFSError(.io, "no directory") }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        mkdir(folder + "/staged", 0o700)
        for name in names { close(open("\(folder)/staged/\(name)", O_WRONLY | O_CREAT, 0o600)) }
        let staging = try StagingArea(directory: folder, limit: 1 << 30, keepFree: 0)
        do { try await body(folder, staging) } catch { Issue.record(error) }
        for name in names { unlink("\(folder)/staged/\(name)") }
        for name in ["state.sqlite", "state.sqlite-wal", "state.mark", "state.reserve", "lock"] {
            unlink("\(folder)/\(name)")
        }
        rmdir(folder + "/staged")
        rmdir(folder)
    }

    /// A journal that keeps nothing as it was written that has three bytes of payload.
    private func spoiling(_ folder: String) throws -> Journal {
        let trigger = """
            CREATE TRIGGER spoil AFTER INSERT ON record WHEN length(NEW.payload) = 3
            BEGIN UPDATE record SET payload = x'00' WHERE id = NEW.id; END
            """
        return try Journal(
            directory: folder, schema: JournalSchema(steps: JournalSchema.current.steps + [[trigger]]))
    }

    private func desk(_ journal: Journal, _ staging: StagingArea, _ names: Set<String>) -> RecoveryDesk {
        RecoveryDesk(writes: KeptWrites(journal: journal, staging: staging), known: { (names, []) })
    }

    private func record(_ journal: Journal, _ staged: String?, _ payload: [UInt8], of mount: String = "m")
        -> Journal.Record
    {
        Journal.Record(id: journal.newID(), mount: mount, key: "f", staged: staged, payload: payload)
    }

    @Test("While a record cannot be read no staged bytes are given away for nobody's, whatever mount it is of")
    func unreadable() async throws {
        try await withFolder(["m-1-2-x", "m-2-2-x"]) { folder, staging in
            let journal = try spoiling(folder)
            defer { journal.close() }
            let bad = record(journal, "m-1-2-x", [1, 2, 3])
            try await journal.commit([.put(bad), .put(record(journal, "m-2-2-x", [1, 2, 3, 4]))])
            #expect(throws: VFSError.self) { try journal.record(bad.id) }
            let staged = try journal.staged()
            #expect(staged.names == ["m-2-2-x"] && staged.unreadable == 1)
            let desk = desk(journal, staging, ["m"])
            let kept = try #require(await desk.run(ControlRequest(.recover)).kept)
            #expect(kept.map(\.name) == ["m-1-2-x"] && kept[0].reason.contains("cannot be read"), "\(kept)")
            let refused = await desk.run(ControlRequest(.recover, name: "m-1-2-x", discard: true))
            #expect(refused.error?.contains("cannot be read") == true, "\(refused)")
            #expect(access("\(folder)/staged/m-1-2-x", F_OK) == 0)
            // When it can be read, it says whose they are.
            var good = bad
            good.payload = [1, 2, 3, 4]
            try await journal.commit([.put(good)])
            #expect(await desk.run(ControlRequest(.recover)).kept == [])
            try await journal.commit([.remove(bad.id)])
            #expect(await desk.run(ControlRequest(.recover, name: "m-1-2-x", discard: true)).ok)
            #expect(access("\(folder)/staged/m-1-2-x", F_OK) != 0 && access("\(folder)/staged/m-2-2-x", F_OK) == 0)
        }
    }

    @Test("Bytes that get a record after they were listed stay")
    func recordedSince() async throws {
        try await withFolder(["m-1-2-x"]) { folder, staging in
            let journal = try spoiling(folder)
            defer { journal.close() }
            let writes = KeptWrites(journal: journal, staging: staging)
            let item = try #require(try writes.items(names: ["m"], running: []).first)
            try await journal.commit([.put(record(journal, "m-1-2-x", [1]))])
            await #expect(throws: VFSError(.busy, "a record tells of it; look again")) {
                try await writes.discard(item)
            }
            #expect(access("\(folder)/staged/m-1-2-x", F_OK) == 0)
        }
    }

    @Test("A record that has changed since it was listed is not discarded, and whoever met the claim looks again")
    func changed() async throws {
        try await withFolder(["old-1-2-x"]) { folder, staging in
            let journal = try spoiling(folder)
            let writes = KeptWrites(journal: journal, staging: staging)
            var told = record(journal, "old-1-2-x", [1], of: "old")
            try await journal.commit([.put(told)])
            let before = try #require(try writes.items(names: [], running: []).first)
            told.payload = [2]
            try await journal.commit([.put(told)])
            let left = journal.left
            await #expect(throws: VFSError(.busy, "what is on record of it has just changed; look again")) {
                try await writes.discard(before)
            }
            #expect(throws: VFSError.self) { try writes.ranges(of: before) }
            #expect(try journal.record(told.id) == told && access("\(folder)/staged/old-1-2-x", F_OK) == 0)
            #expect(journal.left != left && !journal.isClaimed(told.id))
            let now = try #require(try writes.items(names: [], running: []).first)
            // One that cannot be read at first and can be later is another as well.
            var blind = now
            blind.record = .init(id: told.id, digest: nil)
            await #expect(throws: VFSError.self) { try await writes.discard(blind) }
            try await writes.discard(now)
            #expect(try journal.record(told.id) == nil && access("\(folder)/staged/old-1-2-x", F_OK) != 0)
            await #expect(throws: VFSError(.notFound, "it is not kept any more")) { try await writes.discard(now) }
            journal.close()
            let closed = journal.left
            await #expect(throws: VFSError.self) { try await writes.discard(now) }
            #expect(journal.left != closed && !journal.isClaimed(told.id))
        }
    }

    @Test("Of more than an answer has room for the rest is counted, and each is had by its name")
    func many() async throws {
        try await withFolder([]) { folder, staging in
            let journal = try Journal(directory: folder)
            defer { journal.close() }
            // Six bytes for each of the name's, as JSON has them.
            let name = String(repeating: "\u{1}", count: 1000)
            let records = (0..<3000).map { index in
                Journal.Record(
                    id: journal.newID(), mount: "old", key: ObjectKey("\(name)\(index)"), staged: nil, payload: [])
            }
            try await journal.commit(records.map { .put($0) })
            let answer = await desk(journal, staging, []).run(ControlRequest(.recover))
            let named = try #require(answer.kept).count
            #expect(named > 100 && named + (answer.unnamed ?? 0) == 3000)
            #expect(try ControlJSON.line(answer).count < UnixSocket.maxLine)
            let last = await desk(journal, staging, []).run(ControlRequest(.recover, name: "\(name)2999"))
            #expect(last.kept?.count == 1)
        }
    }

    @Test("Without a daemon the cache's folder is held only while a question is answered")
    func offline() async throws {
        try await withFolder(["m-1-2-x"]) { folder, staging in
            staging.unlock()
            let cache = Configuration.Cache(directory: folder, size: 1 << 30, keepFree: 0)
            let recovery = OfflineRecovery(cache, names: ["m"])
            for _ in 0..<2 {
                #expect(try recovery.ask(ControlRequest(.recover))?.kept?.map(\.name) == ["m-1-2-x"])
                // As a daemon that starts while somebody is asked.
                let daemon = try StagingArea(directory: folder, limit: 1 << 30, keepFree: 0)
                let journal = try Journal(directory: folder)
                #expect(throws: VFSError.self) { try recovery.ask(ControlRequest(.recover)) }
                journal.close()
                daemon.unlock()
            }
            #expect(try recovery.ask(ControlRequest(.recover, name: "m-1-2-x", discard: true))?.ok == true)
            #expect(access("\(folder)/staged/m-1-2-x", F_OK) != 0)
        }
    }

    @Test("A cache is empty when it has no bytes, no record and no damaged journal, and no daemon has it")
    func empty() async throws {
        try await withFolder(["m-1-2-x"]) { folder, staging in
            #expect(throws: VFSError.self) { try OfflineRecovery.isEmpty(folder) }
            staging.unlock()
            #expect(try !OfflineRecovery.isEmpty(folder))
            unlink("\(folder)/staged/m-1-2-x")
            #expect(try OfflineRecovery.isEmpty(folder))
            // A write without bytes is one all the same.
            let journal = try Journal(directory: folder)
            let record = Journal.Record(id: journal.newID(), mount: "m", key: "f", staged: nil, payload: [])
            try await journal.commit([.put(record)])
            journal.close()
            #expect(try !OfflineRecovery.isEmpty(folder))
            let again = try Journal(directory: folder)
            try await again.commit([.remove(record.id)])
            again.close()
            #expect(try OfflineRecovery.isEmpty(folder))
            mkdir("\(folder)/state.sqlite.damaged-1", 0o700)
            #expect(try !OfflineRecovery.isEmpty(folder))
            rmdir("\(folder)/state.sqlite.damaged-1")
        }
    }

    @Test("A place that is no file, and ranges that no file has, are refused")
    func places() throws {
        let path = "/tmp/cloudmount-fifo-\(UInt32.random(in: 0 ... .max))"
        #expect(mkfifo(path, 0o600) == 0)
        defer { unlink(path) }
        var file = KeptFile(name: "x", mount: "m", bytes: 0, since: 0, reason: "", place: path)
        #expect(throws: VFSError(.io, "\(path) is no file")) { try file.copy(to: path + "-copy") }
        unlink(path)
        close(open(path, O_WRONLY | O_CREAT, 0o600))
        file.size = 10
        for ranges in [[Int.max, 1], [1, .max], [-1, 1], [1, -1], [9, 2], [.min, .min]] {
            file.ranges = ranges
            #expect(throws: VFSError(.malformedResponse, "the daemon names bytes that are not in the file")) {
                try file.copy(to: path + "-copy")
            }
        }
        #expect(access(path + "-copy", F_OK) != 0)
    }
}
