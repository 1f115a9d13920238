import CloudMountCache
import CloudMountFilesystem
import CloudMountLayers
import CloudMountStaging
import CloudMountVFS
import Glibc
import MountHarness
import Synchronization
import Testing

@testable import CloudMountDaemon

@Suite("What is kept of files that are never stored by themselves", .timeLimit(.minutes(15)))
struct KeptWritesTests {
    private let ours = pattern(3000, seed: 1)

    /// A file of which another version has come between: three bytes of it are ours.
    private func strand(_ mount: Mount, _ name: String = "f") async throws {
        try await mount.put(name, pattern(200_000, seed: 2))
        let inode = try await mount.inode(name)
        let handle = try await mount.fs.open(inode, flags: 2)
        try await mount.fs.write(inode, handle, 50, [1, 2, 3])
        try await mount.put(name, ours)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.close(inode, handle) } != nil)
    }

    /// A new file that the store forbids.
    private func forbid(_ mount: Mount, _ name: String) async throws {
        mount.faults.add(.put, calls: 1...999, key: ObjectKey(name), .fail(VFSError(.permissionDenied, "not this one")))
        let (inode, handle) = try await mount.fs.create(Mount.root, name, flags: 1)
        try await mount.fill(inode, handle, ours)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.close(inode, handle) } != nil)
        try? await mount.fs.release(inode, handle)
        await settled { mount.fs.statistics().failedCommits.contains { $0.isFinal && $0.path == name } }
    }

    private func writes(_ mount: Mount) -> KeptWrites {
        KeptWrites(journal: mount.life.journal, staging: mount.staging)
    }

    private func running(_ mount: Mount) -> [KeptWrites.Running] {
        let fake = FakeMount()
        let bucket = mount.fs
        fake.state.withLock { $0.bucket = bucket }
        return [("test", fake)]
    }

    private func desk(_ mount: Mount, isUp: Bool = true, names: Set<String> = ["test"]) -> RecoveryDesk {
        let running = isUp ? running(mount) : []
        return RecoveryDesk(writes: writes(mount), known: { (names, running) })
    }

    private func asked(_ desk: RecoveryDesk, _ name: String, discard: Bool? = nil) async throws -> KeptFile {
        let answer = await desk.run(ControlRequest(.recover, target: "test", name: name, discard: discard))
        return try #require(answer.kept?.first, "\(answer)")
    }

    private func read(_ path: String) throws -> [UInt8] {
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 2 << 20)
        return Array(bytes[..<fread(&bytes, 1, bytes.count, file)])
    }

    @Test(
        "What is kept of a file is named, copied with its places and discarded, while its mount is up and when it is not",
        arguments: [true, false])
    func stranded(isUp: Bool) async throws {
        let mount = try Mount(journals: true)
        try await strand(mount)
        try await forbid(mount, "g")
        let (journal, staging) = (mount.life.journal, mount.staging)
        var desk = desk(mount)
        if !isUp {
            // The mount has ended, and nobody answers for what it leaves.
            desk = RecoveryDesk(
                writes: KeptWrites(journal: journal, staging: staging), known: { (["test"], []) })
            try mount.remount(crash: true)
            await settled { journal?.left ?? 0 > 0 && staging.leftovers.count == 2 }
        }
        let all = try #require(await desk.run(ControlRequest(.recover)).kept)
        #expect(Set(all.map(\.key)) == ["f", "g"] && all.allSatisfy { $0.mount == "test" && $0.since > 0 })
        #expect(Set(all.map(\.name)).count == 2 && all.allSatisfy { $0.ranges == nil && $0.place.hasSuffix($0.name) })

        let part = try await asked(desk, "f")
        #expect(part.size == 200_000 && part.isWhole == false && part.ranges == [50, 3])
        #expect(part.reason.contains("changed"))
        let copy = "/tmp/cloudmount-kept-\(UInt32.random(in: 0 ... .max))"
        defer { unlink(copy) }
        #expect(try part.copy(to: copy) == .init(size: 200_000, ranges: [Extent(50, 53)]))
        var expected = [UInt8](repeating: 0, count: 200_000)
        expected.replaceSubrange(50..<53, with: [1, 2, 3])
        #expect(try read(copy) == expected)
        #expect(throws: VFSError(.alreadyExists, "\(copy) exists already")) { try part.copy(to: copy) }
        unlink(copy)
        let whole = try await asked(desk, "g")
        #expect(whole.isWhole == true && whole.reason.contains("not this one"))
        #expect(try whole.copy(to: copy).size == 3000)
        #expect(try read(copy) == ours)

        for name in ["f", whole.name] { _ = try await asked(desk, name, discard: true) }
        #expect(await desk.run(ControlRequest(.recover)).kept == [])
        #expect(access(part.place, F_OK) != 0 && access(whole.place, F_OK) != 0)
        await settled { staging.used == 0 }
        #expect(staging.used == 0 && staging.leftovers.isEmpty)
        #expect(try journal?.mounts() == [:])
        if !isUp { return }
        #expect(mount.fs.statistics().failedCommits.isEmpty)
        try mount.remount(crash: true)
        #expect(mount.fs.statistics().failedCommits.isEmpty && mount.staging.leftovers.isEmpty)
        #expect(await self.desk(mount).run(ControlRequest(.recover)).kept == [])
        #expect(try await mount.object("f") == ours)
    }

    @Test("What only waits is not named, so not discarded either, unless its mount is gone from the configuration")
    func waiting() async throws {
        let mount = try Mount(journals: true) {
            $0.policy.write = .back
            $0.policy.writeDelay = .seconds(3600)
        }
        try await mount.write("f", ours)
        let staged = try #require(mount.stagedFiles().first?.path)
        let name = String(try #require(staged.split(separator: "/").last))
        for isUp in [true, false] {
            let desk = desk(mount, isUp: isUp)
            #expect(await desk.run(ControlRequest(.recover)).kept == [])
            for word in ["f", name] {
                let answer = await desk.run(ControlRequest(.recover, target: "test", name: word, discard: true))
                #expect(answer.error == "nothing of the name '\(word)' is kept")
            }
        }
        let stranger = desk(mount, isUp: false, names: ["other"])
        let kept = try await asked(stranger, "f")
        #expect(kept.isWhole == true && kept.size == 3000 && kept.reason.contains("no mount 'test'"))
        // The mount of this test has taken it up all the same.
        let refused = await stranger.run(ControlRequest(.recover, target: "test", name: "f", discard: true))
        #expect(!refused.ok && refused.error?.contains("taken it up") == true)
        #expect(try await mount.read("f") == ours)
    }

    @Test("Bytes that no record names are named by their file, copied as they are, and discarded")
    func nameless() async throws {
        let scratch = try ScratchFolder("kept")
        defer { withExtendedLifetime(scratch) {} }
        let folder = scratch.path
        mkdir(folder + "/c", 0o700)
        mkdir(folder + "/c/staged", 0o700)
        let path = folder + "/c/staged/a-b-3-77-x"
        let file = open(path, O_WRONLY | O_CREAT, 0o600)
        #expect(pwrite(file, ours, 3000, 1 << 20) == 3000)
        close(file)
        let staging = try StagingArea(directory: folder + "/c", limit: 1 << 30, keepFree: 0)
        let blind = RecoveryDesk(writes: KeptWrites(journal: nil, staging: staging), known: { ([], []) })
        let listed = try #require(await blind.run(ControlRequest(.recover, target: "a-b")).kept)
        #expect(listed.map(\.name) == ["a-b-3-77-x"] && listed[0].key == nil && listed[0].bytes >= 3000)
        // A journal that cannot be read may name it.
        let refused = await blind.run(
            ControlRequest(.recover, target: "a-b", name: "a-b-3-77-x", discard: true))
        #expect(refused.error?.contains("no journal") == true && access(path, F_OK) == 0)
        let journal = try Journal(directory: folder + "/c")
        defer { journal.close() }
        let desk = RecoveryDesk(writes: KeptWrites(journal: journal, staging: staging), known: { ([], []) })
        let kept = try #require(await desk.run(ControlRequest(.recover, name: "a-b-3-77-x")).kept?.first)
        let copied = try kept.copy(to: folder + "/copy")
        #expect(copied.size == (1 << 20) + 3000)
        #expect(try read(folder + "/copy") == [UInt8](repeating: 0, count: 1 << 20) + ours)
        #expect(await desk.run(ControlRequest(.recover, name: "a-b-3-77-x", discard: true)).ok)
        #expect(access(path, F_OK) != 0 && staging.used == 0)
        #expect(await desk.run(ControlRequest(.recover, target: "a-b")).error?.contains("no mount 'a-b'") == true)
    }

    @Test("Of several with one key each is asked for by its name")
    func several() async throws {
        let mount = try Mount(journals: true)
        try await strand(mount)
        try await strand(mount)
        let desk = desk(mount)
        let answer = await desk.run(ControlRequest(.recover, target: "test", name: "f"))
        #expect(!answer.ok && answer.error?.contains("several") == true)
        let all = try #require(await desk.run(ControlRequest(.recover)).kept)
        #expect(all.count == 2)
        _ = try await asked(desk, all[0].name, discard: true)
        #expect(await desk.run(ControlRequest(.recover)).kept == [all[1]])
        #expect(try await asked(desk, "f").name == all[1].name)
    }
}
