import CloudMountCache
import CloudMountFilesystem
import CloudMountLayers
import CloudMountStaging
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

/// `cloudmount sync`: waits until the store has what was written, and says what it has not.
@Suite("Sync")
struct SyncTests {
    private let ours = pattern(3000, seed: 1)
    private let down = VFSError(.connectionFailed, "nobody listens")

    private func make(write: CachePolicy.Write = .back, clock: FilesystemClock = .system) throws -> Mount {
        try Mount(journals: true, clock: clock) { settings in
            settings.policy.write = write
            settings.policy.writeDelay = .seconds(3600)
        }
    }

    private func sync(_ mount: Mount, _ path: String = "", retries: Bool = false) async -> SyncProgress {
        let progress = SyncProgress()
        await mount.fs.upkeep.sync.run([ObjectKey(path)], retries: retries, progress)
        return progress
    }

    @Test("What is at or below the path is stored at once, whatever write_delay says; the rest waits its time")
    func below() async throws {
        let mount = try make()
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        let deep = try await mount.fs.mkdir(folder, "e")
        for (name, parent) in [("a", folder), ("b", deep), ("d.txt", Mount.root), ("f", Mount.root)] {
            try await mount.write(name, ours, in: parent)
        }
        let progress = await sync(mount, "d")
        #expect(progress.unstored.isEmpty)
        #expect(progress.counts == counts(2, bytes: 6000))
        #expect(try await mount.keys().filter { !$0.hasSuffix("/") } == ["d/a", "d/e/b"])
        #expect(await sync(mount, "f").counts == counts(1, bytes: 3000))
        #expect(try await mount.object("f") == ours)
        #expect(await sync(mount).counts == counts(1, bytes: 3000))
        #expect(try await mount.object("d.txt") == ours)
        #expect(mount.fs.statistics().dirtyFiles == 0)
        #expect(await sync(mount).counts == counts(0, bytes: 0))
        await settled { mount.stagingUsed == 0 }
        try mount.remount(crash: true)
        #expect(mount.fs.statistics().dirtyFiles == 0)
    }

    @Test("What is written and not closed is stored too; what is written meanwhile is not waited for")
    func open() async throws {
        let mount = try make()
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        let isThere = Gate()
        let goOn = Gate()
        mount.hooks.at(.before, .put, "f") {
            isThere.open()
            await goOn.wait()
        }
        let syncing = Task { await sync(mount) }
        await isThere.wait()
        try await mount.write("later", ours)
        goOn.open()
        let progress = await syncing.value
        #expect(progress.unstored.isEmpty && progress.counts.storedFiles == 1)
        #expect(try await mount.keys() == ["f"])
        try await mount.fs.close(inode, handle)
    }

    @Test("What the store refuses is named with the reason, and the rest is stored", arguments: [true, false])
    func refused(retries: Bool) async throws {
        let mount = try make()
        mount.faults.add(.put, calls: 1...999, key: "b", .fail(VFSError(.quotaExceeded, "no more")))
        for name in ["a", "b", "c"] { try await mount.write(name, ours) }
        let progress = await sync(mount, retries: retries)
        #expect(progress.unstored.map(\.path) == ["b"])
        #expect(progress.unstored.first?.error.contains("no more") == true)
        #expect(progress.unstored.first?.bytes == 3000 && progress.unstored.first?.stagedPath != "")
        #expect(progress.counts.storedFiles == 2 && progress.counts.files == 3)
        #expect(try await mount.keys() == ["a", "c"])
    }

    @Test("Without patience one attempt is made; with it a store that cannot be reached is waited for")
    func unreachable() async throws {
        let held = HeldClock()
        let mount = try make(
            clock: FilesystemClock(monotonic: held.clock.monotonic, now: held.clock.now) { time in
                // The pauses between attempts are short, those of the queue long.
                if time <= .seconds(2) { await pause(.milliseconds(1)) } else { await pause(.seconds(600)) }
            })
        mount.faults.add(.put, calls: 1...3, .fail(down))
        try await mount.write("f", ours)
        #expect(await sync(mount).unstored.map(\.path) == ["f"])
        #expect(mount.faults.calls(.put) >= 1)
        let progress = await sync(mount, retries: true)
        #expect(progress.unstored.isEmpty && progress.counts == counts(1, bytes: 3000))
        #expect(try await mount.object("f") == ours)
    }

    @Test("Who waits no longer leaves what is not stored as it was")
    func cancelled() async throws {
        let mount = try make()
        mount.faults.add(.put, calls: 1...999, .fail(down))
        try await mount.write("f", ours)
        let progress = SyncProgress()
        let syncing = Task { await mount.fs.upkeep.sync.run([""], retries: true, progress) }
        await settled { mount.faults.calls(.put) > 0 }
        syncing.cancel()
        await syncing.value
        #expect(progress.unstored.map(\.path) == ["f"])
        try mount.remount(crash: true)
        #expect(try await mount.read("f") == ours)
        mount.faults.clear()
        #expect(await sync(mount).unstored.isEmpty)
        #expect(try await mount.object("f") == ours)
    }

    @Test("What a close through to the store has left is stored; what was removed meanwhile is nothing to be told")
    func through() async throws {
        let held = HeldClock()
        // Nothing is tried again by itself.
        let mount = try make(
            write: .through,
            clock: FilesystemClock(monotonic: held.clock.monotonic, now: held.clock.now) { _ in
                await pause(.seconds(600))
            })
        for name in ["f", "g"] {
            mount.faults.add(.put, calls: 1...1, key: ObjectKey(name), .fail(down))
            let (inode, handle) = try await mount.fs.create(Mount.root, name, flags: Flags.write)
            try await mount.fill(inode, handle, ours)
            #expect(await failure { () async throws(VFSError) in try await mount.fs.close(inode, handle) } != nil)
        }
        let isThere = Gate()
        mount.hooks.at(.before, .put, "g") { isThere.open() }
        async let syncing = sync(mount)
        await isThere.wait()
        try await mount.fs.unlink(Mount.root, "g")
        #expect(await syncing.unstored.isEmpty)
        #expect(try await mount.contents() == ["f": ours])
    }

    @Test("What is on record and this mount does not store is told too")
    func unanswered() async throws {
        let mount = try make()
        let journal = try #require(mount.life.journal)
        let id = journal.newID()
        try await journal.commit([.put(.init(id: id, mount: "test", key: "d/x", staged: nil, payload: []))])
        for path in ["", "d"] { #expect(await sync(mount, path).unstored.map(\.path) == ["d/x"]) }
        #expect(await sync(mount, "e").unstored.isEmpty)
        // Another life of the mount answers for it.
        #expect(journal.claim(id))
        #expect(await sync(mount).unstored.isEmpty)
    }

    @Test("What can never be stored is told, with the place of its bytes, also what had become so before")
    func lost() async throws {
        let mount = try make()
        try await mount.put("f", pattern(200_000, seed: 2))
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 50, [1, 2, 3])
        try await mount.put("f", ours)
        for _ in 0..<2 {
            let told = await sync(mount).unstored
            #expect(told.map(\.path) == ["f"] && told.allSatisfy { $0.isFinal && !$0.stagedPath.isEmpty })
            #expect(await sync(mount, "elsewhere").unstored.isEmpty)
        }
    }
}

private func counts(_ files: Int, bytes: Int) -> SyncProgress.Counts {
    var counts = SyncProgress.Counts()
    (counts.files, counts.storedFiles, counts.bytes, counts.storedBytes) = (files, files, bytes, bytes)
    return counts
}
