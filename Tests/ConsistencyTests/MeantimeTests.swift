import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Testing

@Suite("What happens while something else is under way")
struct MeantimeTests {
    private let ours = pattern(800, seed: 1)
    private let theirs = pattern(700, seed: 2)

    // MARK: Listings

    @Test("A name that the store has confirmed while its directory is listed is there when the listing ends")
    func confirmed() async throws {
        let clock = HeldClock()
        let mount = try Mount(clock: clock.clock)
        for name in ["a", "x"] { try await mount.put(name, theirs) }
        try await mount.listTop()
        try await mount.delete("x")
        clock.advance(.seconds(3600))
        let ours = ours
        mount.hooks.at(.after, .list, "") {
            _ = try? await mount.put("x", ours)
            _ = try? await mount.fs.lookup(Mount.root, "x")
        }
        try await mount.listTop()
        mount.hooks.clear()
        #expect(try await mount.fs.lookup(Mount.root, "x")?.size == ours.count)
    }

    // MARK: Commits and names

    @Test(
        "A write that lands under the old name while the file or its folder is renamed does not stay there, nor uncovers what was there before",
        arguments: StoreKind.all, ["", "d/"])
    func landsUnderOldName(kind: StoreKind, folder: String) async throws {
        let mount = try Mount(kind.capabilities, keepsBytes: true)
        try await mount.put(folder + "f", theirs)
        try await mount.listTop()
        let inode = try await mount.inode(folder + "f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, ours)
        let goOn = Gate()
        mount.hooks.at(.before, .put, ObjectKey(folder + "f")) { await goOn.wait() }
        let syncing = Task { await outcome { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } }
        await pause(.milliseconds(50))
        let ours = ours
        mount.hooks.at(.before, .delete, ObjectKey(folder + "f")) {
            goOn.open()
            await settled { mount.ledger.account.versions.values.contains { $0.bytes == ours } }
        }
        if folder.isEmpty {
            try await mount.fs.rename(Mount.root, "f", Mount.root, "g")
        } else {
            try await mount.fs.rename(Mount.root, "d", Mount.root, "e")
        }
        goOn.open()
        _ = await syncing.value
        try await mount.fs.close(inode, handle)
        await mount.fs.drain()
        await pause(.milliseconds(300))
        let files = try await mount.contents().filter { !$0.key.hasSuffix("/") }
        #expect(files == [folder.isEmpty ? "g" : "e/f": ours])
    }

    @Test(
        "A write whose answer was lost does not stay under the name that its file had then", arguments: StoreKind.all,
        ["", "d/"])
    func lostUnderOldName(kind: StoreKind, folder: String) async throws {
        let mount = try Mount(kind.capabilities)
        try await mount.put(folder + "f", theirs)
        try await mount.listTop()
        let inode = try await mount.inode(folder + "f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, ours)
        let key = ObjectKey(folder + "f")
        mount.faults.add(.put, calls: 1...1, key: key, .dropReply(.gone))
        mount.faults.add(.head, calls: 1...1, key: key, .fail(.gone))
        #expect(await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } != nil)
        if folder.isEmpty {
            try await mount.fs.rename(Mount.root, "f", Mount.root, "g")
        } else {
            try await mount.fs.rename(Mount.root, "d", Mount.root, "e")
        }
        try await mount.fs.close(inode, handle)
        await mount.fs.drain()
        let files = try await mount.contents().filter { !$0.key.hasSuffix("/") }
        #expect(files == [folder.isEmpty ? "g" : "e/f": ours])
    }

    @Test("An upload that was given up and whose answer is lost is looked for, and goes with the file")
    func lostAnswerOfWhatWasGivenUp() async throws {
        let mount = try Mount()
        try await mount.listTop()
        mount.faults.add(.put, calls: 1...1, .dropReply(.gone))
        let (goOn, closing) = try await mount.uploadThatWaits("f", ours)
        try await mount.fs.unlink(Mount.root, "f")
        goOn.open()
        _ = await closing.value
        await settled { mount.ledger.account.versions.count == 1 && mount.ledger.account.current.isEmpty }
        #expect(mount.ledger.account.versions.count == 1)
        #expect(try await mount.contents().isEmpty)
    }

    @Test("A file whose changes are in conflict can be removed: what somebody else has stored stays")
    func removedInConflict() async throws {
        let mount = try Mount { $0.policy.onConflict = .fail }
        try await mount.write("f", ours)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite | Flags.truncate)
        try await mount.fs.write(inode, handle, 0, [1])
        try await mount.put("f", theirs)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.close(inode, handle) } == .stale)
        try await mount.fs.unlink(Mount.root, "f")
        #expect(mount.fs.statistics().dirtyFiles == 0)
        #expect(try await mount.contents() == ["f": theirs])
        #expect(try await mount.read("f") == theirs)
    }

    @Test("What has come into the place of bytes that could not be stored is not removed by who means those")
    func removedAfterStranding() async throws {
        let mount = try Mount { ($0.policy.metadataTTL, $0.policy.negativeTTL) = (.zero, .zero) }
        try await mount.put("f", ours)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, [1])
        try await mount.put("f", theirs)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.close(inode, handle) } == .stale)
        #expect(try await mount.read("f") == theirs)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.unlink(Mount.root, "f") } == .busy)
        #expect(try await mount.contents() == ["f": theirs])
        try await mount.fs.unlink(Mount.root, "f")
        #expect(try await mount.contents().isEmpty)
    }

    @Test("A file that was cut to nothing and grows again is renamed with the size that the store has of it")
    func renamedWhileRewritten() async throws {
        let mount = try Mount()
        try await mount.write("f", ours)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite | Flags.truncate)
        try await mount.fs.write(inode, handle, 0, pattern(5000, seed: 3))
        try await mount.fs.rename(Mount.root, "f", Mount.root, "g")
        #expect(mount.ledger.account.misdescribed == [])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.contents() == ["g": pattern(5000, seed: 3)])
    }

    @Test("A hole that is punched into a file which is being sent as it grows is a hole in the store: it is sent anew")
    func holeBehindStream() async throws {
        let mount = try Mount()
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.readWrite)
        var bytes = pattern(20 << 20, seed: 4)
        for offset in stride(from: 0, to: bytes.count, by: 1 << 20) {
            try await mount.fs.write(inode, handle, offset, Array(bytes[offset..<offset + 1 << 20]))
        }
        await settled { !mount.ledger.account.uploads.isEmpty }
        try await mount.fs.fallocate(inode, handle, mode: 3, 100, 200)
        for index in 100..<300 { bytes[index] = 0 }
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == bytes)
        // Not every disk makes holes, and none before the change is seen by a commit.
        #expect(mount.ledger.account.uploads.count == 2)
    }

    @Test(
        "A rename onto a file whose upload was given up and lands just before replaces that too",
        arguments: [true, false])
    func ontoWhatLands(isNew: Bool) async throws {
        let mount = try Mount(keepsBytes: true)
        if !isNew { try await mount.put("f", pattern(10)) }
        try await mount.put("g", theirs)
        try await mount.listTop()
        let goOn = Gate()
        let (inode, handle): (InodeID, HandleID)
        if isNew {
            (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        } else {
            inode = try await mount.inode("f")
            handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
        }
        try await mount.fs.write(inode, handle, 0, ours)
        mount.hooks.at(.before, .put, "f") { await goOn.wait() }
        let syncing = Task { await outcome { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } }
        await pause(.milliseconds(50))
        let ours = ours
        mount.hooks.at(.before, .copy, "f") {
            goOn.open()
            await settled { mount.ledger.account.versions.values.contains { $0.bytes == ours } }
            await pause(.milliseconds(50))
        }
        // Where what was given up is waited for instead.
        Task {
            await pause(.milliseconds(600))
            goOn.open()
        }
        try await mount.fs.rename(Mount.root, "g", Mount.root, "f")
        _ = await syncing.value
        try await mount.fs.release(inode, handle)
        await mount.fs.drain()
        #expect(try await mount.contents() == ["f": theirs])
    }

    // MARK: Directories

    @Test("What is made while a listing that does not show it is under way stays", arguments: ["mkdir", "O_EXCL"])
    func madeWhileListed(how: String) async throws {
        let mount = try Mount()
        try await mount.put("a", ours)
        let (isListed, goOn, isMade) = (Gate(), Gate(), Gate())
        let key: ObjectKey = how == "mkdir" ? "new/" : "new"
        mount.hooks.at(.before, .put, key) {
            isMade.open()
            await isListed.wait()
        }
        let making = Task {
            await outcome { () async throws(VFSError) -> InodeID in
                if how == "mkdir" { return try await mount.fs.mkdir(Mount.root, "new") }
                let (inode, handle) = try await mount.fs.create(
                    Mount.root, "new", flags: Flags.write | Flags.exclusive)
                try await mount.fs.close(inode, handle)
                return inode
            }
        }
        await isMade.wait()
        mount.hooks.at(.after, .list) {
            isListed.open()
            await goOn.wait()
        }
        let listing = Task { await outcome { () async throws(VFSError) in try await mount.fs.list(Mount.root) } }
        let inode = try await making.value.get()
        goOn.open()
        _ = await listing.value
        #expect(try await mount.fs.lookup(Mount.root, "new")?.inode == inode)
        #expect(try await mount.fs.list(Mount.root).map(\.name).sorted() == ["a", "new"])
    }

    @Test(
        "A folder that is removed while its useless marker goes does not come back by the marker that keeps it when it is empty"
    )
    func removedWhileItsMarkerGoes() async throws {
        let mount = try Mount(StoreKind("folders are visible") { $0.visibleFolders = true }.capabilities)
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        let (isGoing, goOn) = (Gate(), Gate())
        mount.hooks.at(.before, .delete, "d/") {
            isGoing.open()
            await goOn.wait()
        }
        try await mount.write("f", ours, in: folder)
        await isGoing.wait()
        try await mount.fs.unlink(folder, "f")
        let removing = Task { await outcome { () async throws(VFSError) in try await mount.fs.rmdir(Mount.root, "d") } }
        await pause(.milliseconds(50))
        mount.hooks.at(.before, .put, "d/") { await pause(.milliseconds(200)) }
        goOn.open()
        #expect(await removing.value.isSuccess)
        await pause(.milliseconds(400))
        #expect(try await mount.contents().isEmpty)
        #expect(try await mount.fs.lookup(Mount.root, "d") == nil)
    }

    @Test("A folder that cannot be made keeps what others have put into it meanwhile")
    func failedFolderWithFiles() async throws {
        let mount = try Mount()
        try await mount.listTop()
        let (isThere, goOn) = (Gate(), Gate())
        mount.hooks.at(.before, .put, "d/") {
            isThere.open()
            await goOn.wait()
        }
        mount.faults.add(.put, calls: 1...1, key: "d/", .dropReply(.forbidden))
        let making = Task { await outcome { () async throws(VFSError) in try await mount.fs.mkdir(Mount.root, "d") } }
        await isThere.wait()
        try await mount.delete("d/")
        guard let folder = try await mount.fs.lookup(Mount.root, "d")?.inode else {
            return goOn.open()
        }
        let (inode, handle) = try await mount.fs.create(folder, "f", flags: Flags.write)
        goOn.open()
        #expect(await !making.value.isSuccess)
        try await mount.fs.write(inode, handle, 0, ours)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("d/f") == ours)
        #expect(try await mount.read("d/f") == ours)
    }

    @Test("A file that was made for who does not wait for it any more is not stored")
    func interruptedCreate() async throws {
        let mount = try Mount { $0.policy.exclusiveCreate = .local }
        let (isAsked, goOn) = (Gate(), Gate())
        mount.hooks.at(.before, .head, "f") {
            isAsked.open()
            await goOn.wait()
        }
        let interrupt = Interrupt()
        let creating = Task {
            await Interrupt.$current.withValue(interrupt) {
                await outcome { () async throws(VFSError) in
                    try await mount.fs.create(Mount.root, "f", flags: Flags.write)
                }
            }
        }
        await isAsked.wait()
        interrupt.raise()
        #expect(await !creating.value.isSuccess)
        goOn.open()
        await pause(.milliseconds(300))
        await mount.fs.drain()
        #expect(mount.ledger.account.versions.isEmpty)
        #expect(try await mount.fs.lookup(Mount.root, "f") == nil)
    }
}
