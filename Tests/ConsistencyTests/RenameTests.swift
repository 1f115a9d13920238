import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Testing

@Suite("Renames destroy only what was seen and meant")
struct RenameTests {
    private let ours = pattern(1000, seed: 1)
    private let theirs = pattern(700, seed: 2)

    @Test(
        "NOREPLACE onto a name that another machine has made since the listing is refused, and both files stay",
        arguments: StoreKind.all)
    func noReplaceKnownAbsent(_ kind: StoreKind) async throws {
        let mount = try Mount(kind.capabilities)
        try await mount.put("a", ours)
        try await mount.listTop()
        try await mount.put("b", theirs)
        #expect(await rename(mount, "a", "b", flags: .noReplace) == .alreadyExists)
        #expect(try await mount.object("a") == ours)
        #expect(try await mount.object("b") == theirs)
    }

    @Test("NOREPLACE of a file that is not stored yet asks the store for the new name", arguments: [true, false])
    func noReplaceOfUnstored(asks: Bool) async throws {
        let mount = try Mount(clock: HeldClock().clock) { $0.policy.exclusiveCreate = asks ? .store : .local }
        try await mount.listTop()
        let (inode, handle) = try await mount.fs.create(Mount.root, "a")
        try await mount.fs.write(inode, handle, 0, ours)
        try await mount.put("b", theirs)
        #expect(await rename(mount, "a", "b", flags: .noReplace) == (asks ? .alreadyExists : nil))
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("b") == theirs)
        if asks { #expect(try await mount.object("a") == ours) }
        #expect(await rename(mount, "a", "c", flags: .noReplace) == (asks ? nil : .notFound))
    }

    @Test("NOREPLACE onto a name that another machine makes at that very moment is refused where the store can compare")
    func noReplaceRace() async throws {
        let mount = try Mount()
        let theirs = theirs
        try await mount.put("a", ours)
        try await mount.listTop()
        mount.hooks.at(.before, .copy, "b") { _ = try? await mount.put("b", theirs) }
        #expect(await rename(mount, "a", "b", flags: .noReplace) == .alreadyExists)
        #expect(try await mount.object("a") == ours)
        #expect(try await mount.object("b") == theirs)
    }

    @Test("A plain rename never replaces a version that was not seen", arguments: StoreKind.all, [true, false])
    func plainOverUnseen(_ kind: StoreKind, wasThere: Bool) async throws {
        let mount = try Mount(kind.capabilities)
        try await mount.put("a", ours)
        if wasThere { try await mount.put("b", pattern(50, seed: 9)) }
        try await mount.listTop()
        try await mount.put("b", theirs)
        _ = await rename(mount, "a", "b")
        #expect(mount.ledger.unseen.isEmpty)
        #expect(try await mount.holders(ours).count == 1)
    }

    @Test("A version that comes between the look and the copy of a plain rename stays, where the store can compare")
    func plainRace() async throws {
        for wasThere in [true, false] {
            let mount = try Mount()
            let theirs = theirs
            try await mount.put("a", ours)
            if wasThere { try await mount.put("b", pattern(50, seed: 9)) }
            try await mount.listTop()
            mount.hooks.at(.before, .copy, "b") { _ = try? await mount.put("b", theirs) }
            _ = await rename(mount, "a", "b")
            #expect(mount.ledger.unseen.isEmpty)
            #expect(try await mount.holders(ours).count == 1)
            #expect(try await mount.holders(theirs).count == 1)
        }
    }

    @Test("A folder is not moved onto one that another machine has made since the listing", arguments: StoreKind.all)
    func folderOntoForeign(_ kind: StoreKind) async throws {
        for flags in [RenameFlags.noReplace, []] {
            let mount = try Mount(kind.capabilities)
            try await mount.put("d/x", ours)
            try await mount.listTop()
            try await mount.put("e/x", theirs)
            let code = await rename(mount, "d", "e", flags: flags)
            #expect(code == .alreadyExists || code == .notEmpty && flags == [])
            #expect(try await mount.object("d/x") == ours)
            #expect(try await mount.object("e/x") == theirs)
        }
    }

    @Test("What another machine puts into the destination while a folder moves stays, where the store can compare")
    func folderRace() async throws {
        let mount = try Mount()
        let theirs = theirs
        try await mount.put("d/x", ours)
        try await mount.listTop()
        mount.hooks.at(.before, .copy, "e/x") { _ = try? await mount.put("e/x", theirs) }
        _ = await rename(mount, "d", "e")
        #expect(try await mount.holders(theirs) == ["e/x"])
        #expect(try await mount.holders(ours).count == 1)
        #expect(mount.ledger.unseen.isEmpty)
    }

    @Test("The clean-up of a folder move that failed leaves the objects of others alone")
    func cleanUp() async throws {
        let mount = try Mount()
        let theirs = theirs
        for index in 1...5 { try await mount.put("d/\(index)", pattern(100, seed: UInt64(index))) }
        try await mount.listTop()
        mount.faults.add(.copy, calls: 1...9, key: "e/5", .fail(.forbidden))
        mount.hooks.at(.before, .delete) { _ = try? await mount.put("e/1", theirs) }
        #expect(await rename(mount, "d", "e") == .permissionDenied)
        mount.hooks.clear()
        if try await mount.keys("e/") != [] { #expect(try await mount.keys("e/") == ["e/1"]) }
        #expect(mount.ledger.unseen.isEmpty)
        for index in 1...5 { #expect(try await mount.object("d/\(index)") == pattern(100, seed: UInt64(index))) }
    }

    @Test("A folder move that the store refuses leaves no copies behind, those under way included")
    func noCopiesLeft() async throws {
        let mount = try Mount()
        for index in 1...50 { try await mount.put("d/\(index)", pattern(10, seed: UInt64(index))) }
        try await mount.listTop()
        mount.faults.add(.copy, calls: 1...9, key: "e/7", .fail(VFSError(.archived, "in the archive")))
        mount.hooks.at(.before, .copy, always: true) { await pause(.milliseconds(30)) }
        #expect(await rename(mount, "d", "e") == .archived)
        // What was under way in the store comes to its end.
        await pause(.milliseconds(500))
        #expect(try await mount.keys("e/") == [])
        #expect(try await mount.keys("d/").count == 50)
    }

    @Test("A source that changes between the copy and the delete is not deleted", arguments: ["a", "d/a"])
    func sourceChanged(key: String) async throws {
        let mount = try Mount()
        let theirs = theirs
        try await mount.put(key, ours)
        try await mount.listTop()
        mount.hooks.at(.before, .delete, ObjectKey(key)) { _ = try? await mount.put(key, theirs) }
        _ = await rename(mount, key == "a" ? "a" : "d", "new")
        #expect(try await mount.holders(theirs).count == 1)
        #expect(mount.ledger.unseen.isEmpty)
    }

    @Test("A rename whose delete succeeded though its answer was lost does not delete the copy as well")
    func lostDelete() async throws {
        for key in ["a", "d/a"] {
            let mount = try Mount()
            try await mount.put(key, ours)
            try await mount.listTop()
            mount.faults.add(.delete, calls: 1...1, .dropReply(.gone))
            _ = await rename(mount, key == "a" ? "a" : "d", "new")
            #expect(try await mount.holders(ours).count >= 1, "\(key) is under neither name")
        }
    }

    @Test("A folder's copies stay when the old folder has as many objects as before, but others")
    func countsAreNoProof() async throws {
        let mount = try Mount()
        let bytes = (1...2).map { pattern(100, seed: UInt64($0)) }
        for index in 0..<2 { try await mount.put("d/\(index)", bytes[index]) }
        try await mount.listTop()
        mount.faults.add(.delete, calls: 1...1, .dropReply(.gone))
        mount.hooks.at(.after, .delete) { for index in 8...9 { _ = try? await mount.put("d/\(index)", [1]) } }
        _ = await rename(mount, "d", "e")
        for index in 0..<2 { #expect(try await mount.holders(bytes[index]).count >= 1) }
    }

    @Test("When the old name cannot be deleted, what others have put under the new one meanwhile stays")
    func cleanUpOfAFile() async throws {
        let mount = try Mount()
        let theirs = theirs
        try await mount.put("a", ours)
        try await mount.listTop()
        mount.faults.add(.delete, calls: 1...9, key: "a", .fail(.forbidden))
        mount.hooks.at(.before, .delete, "b") { _ = try? await mount.put("b", theirs) }
        #expect(await rename(mount, "a", "b") == .permissionDenied)
        mount.hooks.clear()
        #expect(try await mount.object("a") == ours)
        #expect(mount.ledger.unseen.isEmpty)
    }

    @Test(
        "Bytes written after a rename go over the version that was renamed, never over another of which only a part was known",
        arguments: StoreKind.all)
    func noMixAfterRename(_ kind: StoreKind) async throws {
        let mount = try Mount(kind.capabilities)
        try await mount.put("a", ours)
        try await mount.listTop()
        let longer = pattern(3000, seed: 5)
        try await mount.put("a", longer)
        guard await rename(mount, "a", "b") == nil else {
            // It may also say that the file has changed.
            #expect(try await mount.holders(longer) == ["a"])
            return
        }
        let patch = [UInt8](repeating: 0xAB, count: 16)
        let found = try #require(try await mount.fs.lookup(Mount.root, "b"))
        let handle = try await mount.fs.open(found.inode, flags: Flags.readWrite)
        try await mount.fs.write(found.inode, handle, 32, patch)
        try await mount.fs.close(found.inode, handle)
        let whole = [ours, longer].map { $0.patched(patch, at: 32) }
        let patched = try await mount.contents().values.filter { $0.contains(patch) }
        #expect(patched.count == 1 && whole.contains(patched[0]), "a mix of two versions")
        #expect(try await mount.contents().values.contains { $0 == longer || $0 == whole[1] })
    }

    @Test("A rename out of a folder succeeds when only the folder's marker could not be stored")
    func markerFailed() async throws {
        let mount = try Mount()
        try await mount.put("d/x", ours)
        try await mount.listTop()
        mount.faults.add(.put, calls: 1...9, key: "d/", .fail(.forbidden))
        let folder = try await mount.inode("d")
        try await mount.fs.rename(folder, "x", Mount.root, "x")
        #expect(try await mount.keys() == ["x"])
    }

    @Test("A rename over a file whose upload ends meanwhile replaces what it has stored")
    func overUploading() async throws {
        let mount = try Mount()
        let ours = pattern(900, seed: 8)
        try await mount.write("a", ours)
        try await mount.write("b", pattern(300, seed: 9))
        let (goOn, closing) = try await mount.uploadThatWaits("b", pattern(500, seed: 10))
        let renaming = Task {
            await failure { () async throws(VFSError) in try await mount.fs.rename(Mount.root, "a", Mount.root, "b") }
        }
        // Long enough for the rename to have given up the upload.
        await pause(.milliseconds(400))
        goOn.open()
        #expect(await renaming.value == nil)
        _ = await closing.value
        await mount.fs.drain()
        #expect(try await mount.contents() == ["b": ours])
    }

    @Test("What is renamed into a folder that is being renamed lands where the folder is then")
    func intoMovingFolder() async throws {
        let mount = try Mount()
        let theirs = theirs
        try await mount.put("d/x", ours)
        try await mount.put("f", theirs)
        try await mount.put("g/y", theirs)
        try await mount.listTop()
        let folder = try await mount.inode("d")
        _ = try await mount.fs.list(folder)
        let moves = ["f", "g"].map { name in
            let move = Once()
            mount.hooks.at(.before, .copy, "e/x") {
                move.start {
                    await failure { () async throws(VFSError) in
                        try await mount.fs.rename(Mount.root, name, folder, name)
                    }
                }
                // Long enough for it to wait for the folder's new name.
                await pause(.milliseconds(100))
            }
            return move
        }
        #expect(await rename(mount, "d", "e") == nil)
        for move in moves { #expect(await move.result() == nil) }
        let files = try await mount.contents().filter { !$0.key.hasSuffix("/") }
        #expect(files == ["e/x": ours, "e/f": theirs, "e/g/y": theirs])
    }

    @Test("A file whose first upload was given up and may still end can be renamed meanwhile", .timeLimit(.minutes(15)))
    func whileLanding() async throws {
        let mount = try Mount { $0.policy.deadline = .seconds(600) }
        let bytes = pattern(500, seed: 11)
        try await mount.put("d/x", ours)
        let (goOn, closing) = try await mount.uploadThatWaits("b", bytes)
        // Gives up the upload and is refused: the next begins and waits for what becomes of the first.
        #expect(await rename(mount, "b", "d") == .isDirectory)
        await pause(.milliseconds(100))
        #expect(await rename(mount, "b", "c") == nil)
        goOn.open()
        _ = await closing.value
        await mount.fs.drain()
        #expect(try await mount.contents() == ["c": bytes, "d/x": ours])
    }

    @Test(
        "A folder that a file is being moved into stays, though the store has nothing in it meanwhile",
        .timeLimit(.minutes(15)))
    func intoEmptiedFolder() async throws {
        let mount = try Mount { $0.policy.freshness = .always }
        let bytes = pattern(500, seed: 12)
        try await mount.put("d/x", theirs)
        try await mount.put("f", ours)
        try await mount.listTop()
        let folder = try await mount.inode("d")
        let inode = try await mount.inode("f")
        mount.hooks.at(.before, .copy, "d/g") {
            _ = try? await mount.delete("d/x")
            _ = try? await mount.fs.list(Mount.root)
            _ = try? await mount.fs.lookup(Mount.root, "d")
        }
        try await mount.fs.rename(Mount.root, "f", folder, "g")
        let handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
        try await mount.fs.write(inode, handle, 0, bytes)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.contents() == ["d/g": bytes])
        #expect(try await mount.inode("d/g") == inode)
    }

    @Test("Who looks for the new name of a file that is being moved, and writes to it, writes to that file")
    func newNameWhileMoving() async throws {
        let mount = try Mount { $0.policy.freshness = .always }
        let bytes = pattern(500, seed: 13)
        try await mount.put("f", ours)
        try await mount.listTop()
        let (writing, isRenamed) = (Once(), Gate())
        mount.hooks.at(.before, .delete, "f") {
            writing.start {
                await failure { () async throws(VFSError) in
                    let inode = try await mount.inode("g")
                    let handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
                    try await mount.fs.write(inode, handle, 0, bytes)
                    await isRenamed.wait()
                    try await mount.fs.close(inode, handle)
                }
            }
            await pause(.milliseconds(100))
            _ = try? await mount.fs.list(Mount.root)
        }
        try await mount.fs.rename(Mount.root, "f", Mount.root, "g")
        isRenamed.open()
        #expect(await writing.result() == nil)
        await mount.fs.drain()
        #expect(try await mount.contents() == ["g": bytes])
    }
}
