import CloudMountVFS
import Glibc
import TestSeeds
import TestServers
import Testing

@testable import CloudMountCache

@Suite("The journal, killed and without room")
struct JournalCrashTests {
    @Test(
        "Killed at any moment: all that was acknowledged is there, nothing is half there, and nothing is called damaged"
    )
    func killed() async throws {
        let folder = try TemporaryFolder("journal")
        let trial = inheritedEnvironment()["JOURNAL_TRIAL"] ?? "\(Tools.packageRoot)/.build/debug/journal-trial"
        var there: Set<String> = []
        for seed in seeds(4, "killed journal") {
            var random = SeededGenerator(seed: seed)
            let lines = Int.random(in: 1...400, using: &random)
            let process = try ChildProcess([trial, "write", folder.path])
            while process.output.utf8.count(where: { $0 == UInt8(ascii: "\n") }) < lines {
                guard process.poll() == nil else { break }
                try await Task.sleep(for: .milliseconds(5))
            }
            process.signal(SIGKILL)
            #expect(await process.wait() == .signal(SIGKILL), "\(process.errors)")
            var open: Set<String> = []
            for line in process.output.split(separator: "\n") {
                let pair = String(line.dropFirst(2))
                switch line.first {
                case "+": there.insert(pair)
                case "?":
                    there.remove(pair)
                    open.insert(pair)
                default: open.remove(pair)
                }
            }
            let journal = try Journal(directory: folder.path)
            #expect(journal.damage == nil, "seed \(seed)")
            let records = try journal.records(of: "trial")
            let pairs = Dictionary(grouping: records, by: \.key.string)
            #expect(there.subtracting(pairs.keys) == [], "seed \(seed): lost")
            #expect(pairs.filter { $0.value.count != 2 }.keys.sorted() == [], "seed \(seed): half there")
            #expect(pairs.allSatisfy { key, pair in key == pair.map { "\($0.id)" }.joined(separator: " ") })
            // What was not acknowledged is there or not: no more than each of the eight had under way.
            let doubtful = Set(pairs.keys).subtracting(there)
            #expect(doubtful.count <= 8, "seed \(seed): removed ones are back")
            there.formUnion(doubtful)
            journal.close()
        }
    }

    @Test("Without room the callers concerned are told, what is done can be removed, and with room it goes on")
    func withoutRoom() async throws {
        try #require(geteuid() == 0, "this test mounts a small tmpfs, which needs root")
        let folder = try TemporaryFolder("journal")
        let disk = folder.path + "/disk"
        mkdir(disk, 0o700)
        let duty = Reaper.atEnd("umount -l \(disk)")
        try await ChildProcess.output(of: ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "none", disk])
        do {
            let journal = try Journal(directory: disk)
            var kept = (0..<40).map { _ in record(journal.newID(), 1000) }
            try await journal.commit(kept.map { .put($0) })
            // One that has no room, beside others that have.
            let hold = try Hold(journal)
            let asked = journal.counts.asked
            let small = (0..<10).map { _ in record(journal.newID(), 100) }
            let large = record(journal.newID(), 15 << 20)
            let failures = await withTaskGroup(of: (Int64, VFSError.Code?).self) { group in
                for record in small + [large] {
                    group.addTask {
                        do throws(VFSError) {
                            try await journal.commit([.put(record)])
                            return (record.id, nil)
                        } catch {
                            return (record.id, error.code)
                        }
                    }
                }
                while journal.counts.asked < asked + small.count + 1 { await Task.yield() }
                hold.end()
                return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            #expect(failures == [large.id: .noSpace])
            kept += small
            // No room at all.
            try fill(disk)
            var refused = 0
            for _ in 0..<200 {
                let new = record(journal.newID(), 3000)
                switch failure({ try journal.commitNow([.put(new)]) })?.code {
                case nil: kept.append(new)
                case .noSpace?: refused += 1
                case let code?: Issue.record("\(code)")
                }
            }
            #expect(refused > 50)
            for record in kept[..<5] { try journal.commitNow([.remove(record.id)]) }
            kept.removeFirst(5)
            #expect(try journal.records(of: "photos") == kept)
            journal.close()
            // A start without room too.
            let second = try Journal(directory: disk)
            #expect(second.damage == nil)
            #expect(try second.records(of: "photos") == kept)
            _ = failure { try second.commitNow([.put(record(second.newID(), 200_000))]) }
            unlink(disk + "/filler")
            let last = record(second.newID(), 200_000)
            try await second.commit([.put(last)])
            second.close()
            let third = try Journal(directory: disk)
            #expect(third.damage == nil)
            #expect(try third.records(of: "photos").suffix(1) == [last])
            third.close()
        }
        _ = try await ChildProcess.run(["umount", "-l", disk], seconds: 10)
        Reaper.withdraw(duty)
    }

    private func fill(_ disk: String) throws {
        let raw = open(disk + "/filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        try #require(raw >= 0)
        let block = [UInt8](repeating: 0, count: 4096)
        while write(raw, block, block.count) > 0 {}
        close(raw)
    }
}
