import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

@Suite("What lands late is told from what has come since")
struct LateTests {
    private let ours = pattern(800, seed: 1)
    private let theirs = pattern(700, seed: 2)

    @Test("A removed file's upload that lands late does not come back in the place of the file that was made anew")
    func removedAndMadeAgain() async throws {
        let mount = try Mount()
        try await mount.listTop()
        let (goOn, closing) = try await mount.uploadThatWaits("f", theirs)
        let old = try await mount.inode("f")
        try await mount.fs.unlink(Mount.root, "f")
        _ = await closing.value
        // As the kernel does when nothing refers to it any more.
        mount.fs.forget(old, count: 1_000_000)
        let ours = ours
        let again = Task { await outcome { () async throws(VFSError) in try await mount.write("f", ours) } }
        await pause(.milliseconds(100))
        goOn.open()
        #expect(await again.value.isSuccess)
        await mount.fs.drain()
        #expect(try await mount.contents() == ["f": ours])
    }

    @Test(
        "A file whose upload landed under the old name of its folder is read and goes on under the new one",
        arguments: [true, false])
    func movedWithItsFolder(bareAnswers: Bool) async throws {
        let mount = try Mount(bareAnswers: bareAnswers)
        let (ours, more) = (ours, theirs)
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        let (inode, handle) = try await mount.fs.create(folder, "x", flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, ours)
        // The answer comes when the commit has been given up, the effect before the folder is listed.
        let isGivenUp = Gate()
        mount.hooks.at(.after, .put, "d/x") { await isGivenUp.wait() }
        let syncing = Task { await outcome { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } }
        await settled { mount.ledger.account.versions.values.contains { $0.key == "d/x" } }
        try await mount.fs.rename(Mount.root, "d", Mount.root, "e")
        isGivenUp.open()
        _ = await syncing.value
        #expect(try await mount.fs.read(inode, handle, 0, 4096) == ours)
        try await mount.fs.write(inode, handle, ours.count, more)
        try await mount.fs.close(inode, handle)
        await mount.fs.drain()
        #expect(try await mount.contents().filter { !$0.key.hasSuffix("/") } == ["e/x": ours + more])
    }

    @Test(
        "What lands after an unlink has been refused is what the file is made of from then on",
        arguments: [true, false], [true, false])
    func landedAfterRefusal(bareAnswers: Bool, isHeardFirst: Bool) async throws {
        for isOpen in [true, false] {
            try await landedAfterRefusal(bareAnswers: bareAnswers, isHeardFirst: isHeardFirst, isOpen: isOpen)
        }
    }

    private func landedAfterRefusal(bareAnswers: Bool, isHeardFirst: Bool, isOpen: Bool) async throws {
        var capabilities = StoreKind.conditional.capabilities
        capabilities.useTinyParts()
        let mount = try Mount(capabilities, bareAnswers: bareAnswers)
        var wanted = pattern(20_000, seed: 3)
        try await mount.write("f", wanted)
        let inode = try await mount.inode("f")
        var handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 10_000, ours)
        let (isThere, goOn) = (Gate(), Gate())
        mount.hooks.at(.before, .completeUpload, "f") {
            isThere.open()
            await goOn.wait()
        }
        let first = handle
        let storing = Task {
            await outcome { () async throws(VFSError) in
                // As after a write through a shared mapping, no flush has come before.
                if isOpen { try await mount.fs.fsync(inode, first) } else { try await mount.fs.release(inode, first) }
            }
        }
        await isThere.wait()
        mount.faults.add(.delete, calls: 1...100, .fail(.forbidden))
        let removing = Task {
            await failure { () async throws(VFSError) in try await mount.fs.unlink(Mount.root, "f") }
        }
        await pause(.milliseconds(400))
        if isHeardFirst { goOn.open() }
        #expect(await removing.value == .permissionDenied)
        goOn.open()
        _ = await storing.value
        mount.faults.clear()
        if !isOpen { handle = try await mount.fs.open(inode, flags: Flags.readWrite) }
        try await mount.fs.write(inode, handle, 2_000, theirs)
        try await mount.fs.fsync(inode, handle)
        try await mount.fs.close(inode, handle)
        wanted.replaceSubrange(10_000..<10_000 + ours.count, with: ours)
        wanted.replaceSubrange(2_000..<2_000 + theirs.count, with: theirs)
        #expect(try await mount.contents() == ["f": wanted])
        await mount.fs.drain()
        #expect(mount.fs.statistics().failedCommits.isEmpty)
    }

    @Test("A change of a folder is not undone by an older store of it that comes later")
    func markersInOrder() async throws {
        for kind in [StoreKind.conditional, .unconditional] {
            let mount = try Mount(kind.capabilities)
            let folder = try await mount.fs.mkdir(Mount.root, "d")
            let first = Once()
            mount.hooks.at(.before, .put, "d/") {
                first.start {
                    await failure { () async throws(VFSError) in
                        try await mount.fs.setattr(folder) { $0.permissions = 0o711 }
                    }
                }
                await pause(.milliseconds(100))
            }
            try await mount.fs.setattr(folder) { $0.modified = .at(Timestamp(seconds: 1_000_000)) }
            #expect(await first.result() == nil)
            try mount.remount()
            #expect(try await mount.attributes("d")?.permissions == 0o711)
        }
    }

    @Test("An older answer about a folder does not take back a change of it, nor has the next change store that")
    func olderAnswer() async throws {
        let mount = try Mount { $0.policy.freshness = .always }
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        try await mount.put("d/x", ours)
        let (isAsked, goOn) = (Gate(), Gate())
        mount.hooks.at(.after, .head, "d/") {
            isAsked.open()
            await goOn.wait()
        }
        let looking = Task { await outcome { () async throws(VFSError) in try await mount.attributes("d") } }
        await pause(.milliseconds(200))
        guard isAsked.isOpen else { return goOn.open() }
        try await mount.fs.setattr(folder) { $0.permissions = 0o711 }
        goOn.open()
        _ = await looking.value
        try await mount.fs.setattr(folder) { $0.uid = 7 }
        try mount.remount()
        #expect(try await mount.attributes("d")?.permissions == 0o711)
    }

    /// A file with bytes of ours, whose mode is changed to 0640 while they are on their way.
    private func changedWhileStored(
        _ mount: Mount
    ) async throws -> (inode: InodeID, handle: HandleID, change: Once) {
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, ours)
        let change = Once()
        mount.hooks.at(.before, .put, "f") {
            change.start {
                await failure { () async throws(VFSError) in
                    try await mount.fs.setattr(inode) { $0.permissions = 0o640 }
                }
            }
            await pause(.milliseconds(100))
        }
        return (inode, handle, change)
    }

    @Test("A change of attributes while its file is stored is stored when it returns, though somebody writes")
    func changedBesideCommit() async throws {
        let mount = try Mount()
        let (inode, handle, change) = try await changedWhileStored(mount)
        try await mount.fs.fsync(inode, handle)
        #expect(await change.result() == nil)
        #expect(try await mount.store.head("f").metadata?.user["mode"] == "0100640")
        try await mount.fs.close(inode, handle)
    }

    @Test("What is changed while the last commit of a closed file is under way is stored")
    func changedAfterRelease() async throws {
        let mount = try Mount()
        let (inode, handle, change) = try await changedWhileStored(mount)
        // As after a write through a shared mapping, no flush has come before.
        try await mount.fs.release(inode, handle)
        await settled { mount.ledger.account.versions.values.contains { $0.key == "f" } }
        #expect(await change.result() == nil)
        await settled { mount.fs.statistics().dirtyFiles == 0 }
        try mount.remount(crash: true)
        #expect(try await mount.attributes("f")?.permissions == 0o640)
    }
}
