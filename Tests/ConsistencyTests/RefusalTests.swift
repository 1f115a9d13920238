import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Testing

@Suite("What a refusal or a lost answer leaves behind")
struct RefusalTests {
    private let ours = pattern(800, seed: 1)
    private let theirs = pattern(700, seed: 2)

    @Test("A file that could be neither removed nor cut is what it was for who has it open, and for the store")
    func neitherRemovedNorCut() async throws {
        let mount = try Mount()
        try await mount.put("f", ours)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: 0)
        mount.faults.add(.delete, calls: 1...1, .fail(.forbidden))
        #expect(await failure { () async throws(VFSError) in try await mount.fs.unlink(Mount.root, "f") } != nil)
        mount.faults.add(.put, calls: 1...1, .fail(.forbidden))
        let cut = await failure { () async throws(VFSError) in try await mount.fs.setattr(inode) { $0.size = 100 } }
        #expect(cut == .permissionDenied)
        #expect(try await mount.fs.read(inode, handle, 0, 4096) == ours)
        let writing = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, writing, ours.count, [7])
        try await mount.fs.close(inode, writing)
        try await mount.fs.release(inode, handle)
        #expect(try await mount.contents() == ["f": ours + [7]])
    }

    @Test(
        "truncate(2) by name of a version that nobody here has seen is refused by EBUSY, which the kernel does not try again"
    )
    func cutUnseen() async throws {
        let mount = try Mount()
        try await mount.put("f", ours)
        let inode = try await mount.inode("f")
        try await mount.put("f", theirs)
        let cut = await failure { () async throws(VFSError) in try await mount.fs.setattr(inode) { $0.size = 100 } }
        #expect(cut == .busy)
        #expect(try await mount.contents() == ["f": theirs])
        let shown = try #require(try await mount.attributes("f"))
        #expect(shown.size == theirs.count)
        _ = try await mount.fs.setattr(shown.inode) { $0.size = 100 }
        #expect(try await mount.contents() == ["f": Array(theirs[..<100])])
    }

    @Test(
        "What is changed of the mount's root, which is no object, is so while the mount lives, and is nothing to store")
    func root() async throws {
        let mount = try Mount()
        _ = try await mount.fs.setattr(Mount.root) {
            $0.permissions = 0o711
            $0.modified = .at(Timestamp(seconds: 9))
        }
        try await mount.fs.setxattr(Mount.root, "user.x", [1])
        try await mount.put("f", ours)
        try await mount.listTop()
        let shown = try await mount.fs.getattr(Mount.root)
        #expect(shown.permissions == 0o711)
        #expect(try await mount.fs.getxattr(Mount.root, "user.x") == [1])
        await mount.fs.drain()
        #expect(mount.fs.statistics().failedCommits.isEmpty)
        #expect(mount.fs.statistics().dirtyFiles == 0)
        #expect(try await mount.contents() == ["f": ours])
    }

    @Test("A file that was renamed while its cut was refused is what it was, under the new name")
    func renamedWhileCut() async throws {
        let mount = try Mount()
        try await mount.put("f", ours)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: 0)
        #expect(try await mount.fs.read(inode, handle, 0, 100) == Array(ours[..<100]))
        mount.faults.add(.put, calls: 1...9, .fail(.forbidden))
        let isSent = Gate()
        mount.hooks.at(.before, .put, "f") {
            isSent.open()
            await pause(.milliseconds(100))
        }
        let cutting = Task {
            await failure { () async throws(VFSError) in try await mount.fs.setattr(inode) { $0.size = 0 } }
        }
        await pause(.milliseconds(50))
        let renamed = await failure { () async throws(VFSError) in
            try await mount.fs.rename(Mount.root, "f", Mount.root, "g")
        }
        #expect(await cutting.value == .permissionDenied)
        #expect(renamed == nil)
        #expect(try await mount.fs.read(inode, handle, 0, 4096) == ours)
        #expect(try await mount.contents() == ["g": ours])
    }

    @Test(
        "What is renamed onto a name with the bytes of a write that was given up there stays, whenever that is heard of"
    )
    func sameBytesOntoWhatWasGivenUp() async throws {
        let mount = try Mount(tagsBytes: true)
        try await mount.put("k", theirs)
        try await mount.put("x", ours)
        try await mount.listTop()
        let inode = try await mount.inode("k")
        let handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
        try await mount.fs.write(inode, handle, 0, ours)
        // It takes effect at once, and is heard of long after.
        let isHeard = Gate()
        mount.hooks.at(.after, .put, "k") { await isHeard.wait() }
        let syncing = Task { await outcome { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } }
        let ours = ours
        for _ in 0..<200 {
            if try await mount.object("k") == ours { break }
            await pause(.milliseconds(5))
        }
        try await mount.fs.rename(Mount.root, "x", Mount.root, "k")
        isHeard.open()
        _ = await syncing.value
        try await mount.fs.release(inode, handle)
        await mount.fs.drain()
        await pause(.milliseconds(300))
        #expect(try await mount.contents() == ["k": ours])
    }

    @Test("An exclusive create whose end was not known leaves nothing that says the name is taken")
    func uncertainCreate() async throws {
        let mount = try Mount()
        try await mount.listTop()
        mount.faults.add(.put, calls: 1...1, .dropReply(.gone))
        mount.faults.add(.head, calls: 1...1, .fail(.gone))
        let lock = Flags.write | Flags.exclusive
        let first = await failure { () async throws(VFSError) in
            let (inode, handle) = try await mount.fs.create(Mount.root, "lock", flags: lock)
            try await mount.fs.close(inode, handle)
        }
        #expect(first == .connectionFailed)
        let (inode, handle) = try await mount.fs.create(Mount.root, "lock", flags: lock)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.contents() == ["lock": []])
        try await mount.fs.unlink(Mount.root, "lock")
        #expect(try await mount.contents().isEmpty)
        mount.faults.add(.put, calls: 1...1, .dropReply(.gone))
        mount.faults.add(.head, calls: 1...1, .fail(.gone))
        let link = await failure { () async throws(VFSError) in
            _ = try await mount.fs.create(Mount.root, "other", flags: lock)
        }
        #expect(link == .connectionFailed)
        await mount.fs.drain()
        #expect(try await mount.contents().isEmpty)
    }

    @Test("An upload that was given up goes with its file also when the mount has been drained before")
    func undoneAfterDrain() async throws {
        let mount = try Mount()
        try await mount.listTop()
        await mount.fs.drain()
        let (goOn, closing) = try await mount.uploadThatWaits("f", ours)
        try await mount.fs.unlink(Mount.root, "f")
        mount.faults.add(.head, calls: 1...1, .fail(.gone))
        mount.faults.add(.delete, calls: 1...1, .fail(.gone))
        goOn.open()
        _ = await closing.value
        await settled { mount.ledger.account.versions.count == 1 && mount.ledger.account.current.isEmpty }
        #expect(mount.ledger.account.versions.count == 1)
        #expect(try await mount.contents().isEmpty)
    }

    @Test("Changes over bytes that somebody else has replaced are kept and named also when the file was renamed since")
    func strandedUnderAnotherName() async throws {
        let mount = try Mount()
        try await mount.put("f", ours)
        try await mount.listTop()
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 100, [1, 2, 3])
        try await mount.put("f", theirs)
        try await mount.fs.rename(Mount.root, "f", Mount.root, "g")
        #expect(await failure { () async throws(VFSError) in try await mount.fs.close(inode, handle) } == .stale)
        #expect(mount.fs.statistics().dirtyFiles == 0)
        #expect(mount.fs.statistics().failedCommits.count == 1)
        #expect(mount.stagedFiles().contains { $0.bytes.contains([1, 2, 3]) })
        #expect(try await mount.fs.lookup(Mount.root, "g") == nil)
        #expect(try await mount.contents() == ["f": theirs])
    }

    @Test("A new file is renamed over one whose write lands meanwhile: nobody else has changed the name")
    func newOntoWhatLands() async throws {
        let mount = try Mount { $0.policy.onConflict = .fail }
        try await mount.put("k", theirs)
        try await mount.listTop()
        let inode = try await mount.inode("k")
        let handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
        try await mount.fs.write(inode, handle, 0, pattern(50, seed: 5))
        let goOn = Gate()
        mount.hooks.at(.before, .put, "k") { await goOn.wait() }
        let syncing = Task { await outcome { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } }
        await pause(.milliseconds(50))
        let (new, writing) = try await mount.fs.create(Mount.root, "new", flags: Flags.write)
        try await mount.fs.write(new, writing, 0, ours)
        Task {
            await pause(.milliseconds(500))
            goOn.open()
        }
        try await mount.fs.rename(Mount.root, "new", Mount.root, "k")
        try await mount.fs.close(new, writing)
        _ = await syncing.value
        try await mount.fs.release(inode, handle)
        await mount.fs.drain()
        #expect(try await mount.contents() == ["k": ours])
    }
}
