import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Testing

@Suite("Commits lose nothing")
struct CommitTests {
    private let old = pattern(1000, seed: 1)
    private let theirs = pattern(700, seed: 2)
    private let mebibyte = 1 << 20

    private func flush(_ mount: Mount, _ inode: InodeID, _ handle: HandleID) async -> VFSError.Code? {
        await failure { () async throws(VFSError) in try await mount.fs.flush(inode, handle) }
    }

    @Test("Where the store cannot compare, an upload in parts looks again after its last part")
    func comparedAtTheEnd() async throws {
        var capabilities = StoreKind.unconditional.capabilities
        capabilities.useTinyParts()
        for isNew in [true, false] {
            let mount = try Mount(capabilities)
            let theirs = theirs
            if !isNew { try await mount.put("f", old) }
            let ours = pattern(20_000, seed: 3)
            let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write | Flags.truncate)
            try await mount.fs.write(inode, handle, 0, ours)
            mount.hooks.at(.before, .uploadPart) { _ = try? await mount.put("f", theirs) }
            try await mount.fs.close(inode, handle)
            #expect(try await mount.object("f") == theirs)
            #expect(try await mount.holders(ours).count == 1)
        }
    }

    @Test("A streamed upload, too, looks again before its end where the store cannot compare")
    func streamedComparedAtTheEnd() async throws {
        let mount = try Mount(StoreKind.unconditional.capabilities)
        let theirs = theirs
        let ours = pattern(20 * mebibyte, seed: 3)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        await settled { mount.traffic[.uploadPart] >= 2 }
        // The last part goes out at the end.
        mount.hooks.at(.before, .uploadPart) { _ = try? await mount.put("f", theirs) }
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == theirs)
        #expect(try await mount.holders(ours).count == 1)
    }

    @Test("chmod never puts old bytes over newer ones", arguments: StoreKind.all)
    func chmodOverNewer(_ kind: StoreKind) async throws {
        for atTheMoment in [true, false] {
            let mount = try Mount(kind.capabilities)
            let theirs = theirs
            try await mount.put("f", old)
            let inode = try await mount.inode("f")
            if atTheMoment {
                mount.hooks.at(.before, .copy, "f") { _ = try? await mount.put("f", theirs) }
            } else {
                try await mount.put("f", theirs)
            }
            _ = await failure { () async throws(VFSError) in
                try await mount.fs.setattr(inode) { $0.permissions = 0o600 }
            }
            #expect(try await mount.object("f") == theirs)
        }
    }

    @Test(
        "A streamed file whose last answer was lost is known for our own: no error, no second copy",
        arguments: [VFSError.Code.uploadNotFound, .preconditionFailed])
    func lostCompletion(code: VFSError.Code) async throws {
        let mount = try Mount()
        let ours = pattern(20 * mebibyte)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        // What the store says to the second request, the first of which has done it.
        mount.faults.add(.completeUpload, calls: 1...1, .dropReply(VFSError(code, "it is there already")))
        try await mount.fs.close(inode, handle)
        #expect(try await mount.holders(ours) == ["f"])
        #expect(try await mount.keys() == ["f"])
    }

    @Test("A streamed file whose answer never came is whole after the next fsync, once")
    func silentCompletion() async throws {
        let mount = try Mount()
        let ours = pattern(20 * mebibyte)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        mount.faults.add(.completeUpload, calls: 1...1, .dropReply(.gone))
        _ = await flush(mount, inode, handle)
        #expect(await flush(mount, inode, handle) == nil)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.holders(ours) == ["f"])
        #expect(try await mount.keys() == ["f"])
    }

    @Test("A foreign object of equal size and time is not taken for ours")
    func lookAlike() async throws {
        let mount = try Mount()
        let ours = pattern(700, seed: 3)
        let theirs = theirs
        let time = Timestamp(seconds: 1_700_000_000)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fs.write(inode, handle, 0, ours)
        try await mount.fs.setattr(inode) { $0.modified = .at(time) }
        mount.hooks.at(.before, .put, "f") {
            _ = try? await mount.put("f", theirs, ObjectMetadata(modified: time, user: ["mode": "0100644"]))
        }
        _ = await flush(mount, inode, handle)
        try await mount.fs.release(inode, handle)
        #expect(try await mount.keeps(ours))
        #expect(try await mount.holders(theirs).count == 1)
    }

    @Test("A streamed upload that the store has dropped begins anew")
    func droppedStream() async throws {
        let mount = try Mount()
        let ours = pattern(20 * mebibyte)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        await settled { mount.traffic[.uploadPart] >= 2 }
        await mount.dropUploads()
        try await mount.fs.close(inode, handle)
        #expect(try await mount.holders(ours) == ["f"])
    }

    @Test("A store that takes no part of an upload twice gets all of it anew, in the same close")
    func partTakenOnce() async throws {
        let mount = try Mount()
        var ours = pattern(40 * mebibyte)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        await settled { mount.traffic[.uploadPart] >= 2 }
        ours.replaceSubrange(0..<6, with: [1, 2, 3, 4, 5, 6])
        try await mount.fs.write(inode, handle, 0, Array(ours[..<6]))
        mount.faults.add(.completeUpload, calls: 1...1, .fail(VFSError(.notSupported, "no part twice")))
        try await mount.fs.close(inode, handle)
        #expect(try await mount.holders(ours) == ["f"])
    }

    @Test("An upload in parts that the store drops while it runs begins anew")
    func droppedUpload() async throws {
        var capabilities = StoreKind.conditional.capabilities
        capabilities.useTinyParts()
        for isNew in [true, false] {
            let mount = try Mount(capabilities)
            let base = pattern(20_000, seed: 1)
            // In parts, since one put takes less.
            if !isNew { try await mount.write("f", base) }
            var ours = pattern(20_000, seed: 3)
            mount.hooks.at(.before, .completeUpload) { await mount.dropUploads() }
            let inode: InodeID
            let handle: HandleID
            if isNew {
                (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
                try await mount.fs.write(inode, handle, 0, ours)
            } else {
                inode = try await mount.inode("f")
                handle = try await mount.fs.open(inode, flags: Flags.readWrite)
                try await mount.fs.write(inode, handle, 5000, Array(ours[0..<100]))
                ours = base.patched(Array(ours[0..<100]), at: 5000)
            }
            try await mount.fs.close(inode, handle)
            #expect(try await mount.holders(ours) == ["f"])
        }
    }

    @Test(
        "After an append over a version that others have replaced the name shows theirs, and the new bytes are kept",
        arguments: StoreKind.all)
    func appendOverForeign(_ kind: StoreKind) async throws {
        let mount = try Mount(kind.capabilities)
        try await mount.put("f", old)
        let added = pattern(64, seed: 7)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.write)
        try await mount.put("f", theirs)
        try await mount.fs.write(inode, handle, old.count, added)
        _ = await flush(mount, inode, handle)
        try await mount.fs.release(inode, handle)
        #expect(await outcome { () async throws(VFSError) in try await mount.read("f") } == .success(theirs))
        #expect(try await mount.object("f") == theirs)
        #expect(try await mount.keeps(added))
        if kind.capabilities.readsOldVersions { #expect(try await mount.holders(old + added).count == 1) }
        let staged = mount.stagedFiles().filter { $0.bytes.contains(added) }
        for file in staged { #expect(mount.namedFiles.contains(file.path)) }
        // Nothing stands in the way of the name.
        let more = pattern(30, seed: 8)
        try await mount.write("f", more)
        #expect(try await mount.object("f") == more)
    }

    @Test("An own base that was cached is not needed: a file rewritten whole over a foreign version goes beside it")
    func wholeOverForeign() async throws {
        for kind in StoreKind.all {
            let mount = try Mount(kind.capabilities)
            try await mount.put("f", old)
            let ours = pattern(300, seed: 7)
            let inode = try await mount.inode("f")
            let handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
            try await mount.fs.write(inode, handle, 0, ours)
            try await mount.put("f", theirs)
            try await mount.fs.close(inode, handle)
            #expect(try await mount.object("f") == theirs)
            #expect(try await mount.holders(ours).count == 1)
            #expect(try await mount.read("f") == theirs)
        }
    }

    @Test("What copy_file_range has acknowledged is stored, whatever becomes of the source", arguments: [0, 1, 2])
    func copyFileRange(what: Int) async throws {
        let mount = try Mount()
        let bytes = pattern(2 * mebibyte)
        try await mount.put("source", bytes)
        let source = try await mount.inode("source")
        let from = try await mount.fs.open(source)
        let (target, to) = try await mount.fs.create(Mount.root, "target", flags: Flags.readWrite)
        let copied = await outcome { () async throws(VFSError) in
            try await mount.fs.copyFileRange((source, from), 0, (target, to), 0, bytes.count)
        }
        // Else the kernel copies through its pages.
        guard case .success(let count) = copied else {
            if case .failure(let error) = copied { #expect(error.code == .notSupported) }
            return
        }
        #expect(count == bytes.count)
        switch what {
        case 0: try await mount.put("source", theirs)
        case 1: try await mount.delete("source")
        default: try await mount.fs.unlink(Mount.root, "source")
        }
        try await mount.fs.close(target, to)
        #expect(try await mount.holders(bytes) == ["target"])
    }

    @Test("A copy whose source others have replaced goes through the kernel, and costs the target nothing")
    func copyOfReplaced() async throws {
        let mount = try Mount()
        try await mount.put("source", pattern(2 * mebibyte))
        let source = try await mount.inode("source")
        let from = try await mount.fs.open(source)
        let (target, to) = try await mount.fs.create(Mount.root, "target", flags: Flags.readWrite | Flags.exclusive)
        let newer = pattern(2 * mebibyte, seed: 9)
        try await mount.put("source", newer)
        let copied = await failure { () async throws(VFSError) in
            try await mount.fs.copyFileRange((source, from), 0, (target, to), 0, 2 * mebibyte)
        }
        #expect(copied == .notSupported)
        let bytes = try await mount.readAll(source, from)
        #expect(bytes == newer)
        try await mount.fill(target, to, bytes)
        try await mount.fs.close(target, to)
        #expect(try await mount.object("target") == newer)
        #expect(mount.fs.statistics().failedCommits.isEmpty)
    }

    @Test("fsync on a handle that only reads stores what another handle has written")
    func fsyncReadOnly() async throws {
        let mount = try Mount()
        try await mount.put("f", old)
        let inode = try await mount.inode("f")
        let writer = try await mount.fs.open(inode, flags: Flags.write)
        let reader = try await mount.fs.open(inode)
        try await mount.fs.write(inode, writer, 0, [9, 9, 9])
        try await mount.fs.fsync(inode, reader)
        #expect(try await mount.object("f") == old.patched([9, 9, 9], at: 0))
        try await mount.fs.close(inode, writer)
        try await mount.fs.close(inode, reader)
    }

    @Test("A dirty file below a folder that others have removed is stored all the same", arguments: [true, false])
    func vanishedFolder(isNew: Bool) async throws {
        let mount = try Mount {
            $0.policy.metadataTTL = .zero; $0.policy.negativeTTL = .zero
        }
        try await mount.put("d/", [], ObjectMetadata(contentType: "application/x-directory"))
        try await mount.put("keep", [1])
        if !isNew { try await mount.put("d/f", old) }
        let folder = try await mount.inode("d")
        let ours = pattern(100, seed: 3)
        let inode: InodeID
        let handle: HandleID
        if isNew {
            (inode, handle) = try await mount.fs.create(folder, "f", flags: Flags.write)
        } else {
            inode = try #require(try await mount.fs.lookup(folder, "f")).inode
            handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
        }
        try await mount.fs.write(inode, handle, 0, ours)
        try await mount.delete("d/")
        try await mount.delete("d/f")
        // Whoever looks sees that it is gone.
        _ = try await mount.attributes("d")
        try await mount.listTop()
        _ = await flush(mount, inode, handle)
        try await mount.fs.release(inode, handle)
        mount.fs.forget(inode, count: 1)
        mount.fs.forget(folder, count: 1)
        await mount.fs.drain()
        #expect(try await mount.keeps(ours))
    }

    @Test("A chmod that the store refuses does not take along what another writer has written meanwhile")
    func undoneChmod() async throws {
        for round in 0..<40 {
            let mount = try Mount()
            try await mount.put("f", old)
            let inode = try await mount.inode("f")
            let ours = pattern(100, seed: 3)
            let (isThere, goOn) = (Gate(), Gate())
            mount.hooks.at(.before, .copy, "f") {
                isThere.open()
                await goOn.wait()
            }
            mount.faults.add(.copy, calls: 1...1, key: "f", .dropReply(.gone))
            let chmod = Task {
                await failure { () async throws(VFSError) in
                    try await mount.fs.setattr(inode) { $0.permissions = 0o600 }
                }
            }
            await isThere.wait()
            let handle = try await mount.fs.open(inode, flags: Flags.write)
            try await mount.fs.write(inode, handle, 0, ours)
            // A program closes with a flush; pages of a shared mapping come after it.
            let flushed = Task { round % 2 == 0 ? await flush(mount, inode, handle) : .io }
            if round % 2 == 1 { try await mount.fs.release(inode, handle) }
            for _ in 0..<20 { await Task.yield() }
            goOn.open()
            let code = await flushed.value
            if round % 2 == 0 { try await mount.fs.release(inode, handle) }
            _ = await chmod.value
            await mount.fs.drain()
            if code == nil { #expect(try await mount.object("f") == old.patched(ours, at: 0)) }
            guard try await mount.keeps(ours) else {
                Issue.record("round \(round): the bytes are gone, flush said \(String(describing: code))")
                return
            }
        }
    }

    @Test("unlink does not wait for an upload of the file: it ends it")
    func unlinkWhileUploading() async throws {
        let mount = try Mount()
        let (goOn, closing) = try await mount.uploadThatWaits("f", old)
        let unlinking = Task {
            await failure { () async throws(VFSError) in try await mount.fs.unlink(Mount.root, "f") }
        }
        let ended = await soon(unlinking)
        #expect(ended != nil, "it waits for the upload")
        if let ended { #expect(ended == nil) }
        goOn.open()
        _ = await unlinking.value
        _ = await closing.value
        // What the call has stored that nobody waited for goes again.
        for _ in 0..<1000 {
            if try await mount.keys() == [] { break }
            await pause(.milliseconds(5))
        }
        #expect(try await mount.keys() == [])
    }

    @Test("rename does not wait for an upload of the file, which ends up under the new name")
    func renameWhileUploading() async throws {
        let mount = try Mount()
        let (goOn, closing) = try await mount.uploadThatWaits("f", old)
        let renaming = Task {
            await failure { () async throws(VFSError) in try await mount.fs.rename(Mount.root, "f", Mount.root, "g") }
        }
        #expect(await soon(renaming) != nil, "it waits for the upload")
        goOn.open()
        #expect(await renaming.value == nil)
        _ = await closing.value
        await mount.fs.drain()
        #expect(try await mount.keys() == ["g"])
        #expect(try await mount.object("g") == old)
    }

    @Test("A file that grows by ftruncate between its writes is sent about once")
    func growth() async throws {
        let mount = try Mount()
        let step = 8 * mebibyte
        let piece = pattern(step)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        for index in 0..<8 {
            try await mount.fs.setattr(inode) { $0.size = (index + 1) * step }
            try await mount.fill(inode, handle, piece, at: index * step)
        }
        try await mount.fs.close(inode, handle)
        #expect(try await mount.head("f").size == 8 * step)
        #expect(mount.traffic.bytesUp <= 10 * step, "\(mount.traffic.bytesUp) bytes for a file of \(8 * step)")
    }

    @Test("Two conflicts of one name within a second get two names", arguments: StoreKind.all)
    func conflictsAtOnce(_ kind: StoreKind) async throws {
        let mount = try Mount(kind.capabilities) { $0.policy.freshness = .always }
        try await mount.put("f", old)
        var all: [[UInt8]] = []
        for round in 0..<30 {
            let ours = pattern(300, seed: UInt64(100 + round))
            let inode = try await mount.inode("f")
            let handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
            try await mount.fs.write(inode, handle, 0, ours)
            try await mount.put("f", pattern(200, seed: UInt64(200 + round)))
            try await mount.fs.close(inode, handle)
            all.append(ours)
        }
        for ours in all { #expect(try await mount.holders(ours).count == 1) }
    }

    @Test("A file unlinked and made anew while its old bytes are on their way holds the new bytes only")
    func madeAnew() async throws {
        let mount = try Mount()
        let ours = pattern(40, seed: 3)
        try await mount.write("f", old)
        try await mount.fs.unlink(Mount.root, "f")
        try await mount.write("f", ours)
        #expect(try await mount.contents() == ["f": ours])
    }

    @Test("Holes of what a file held before are no holes of what it holds", arguments: [true, false])
    func holes(copied: Bool) async throws {
        let mount = try Mount()
        let bytes = pattern(2 * mebibyte)
        try await mount.put("source", bytes)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.readWrite)
        try await mount.fs.setattr(inode) { $0.size = 2 * mebibyte }
        try await mount.fs.fsync(inode, handle)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.lseek(inode, handle, 0, whence: 3) } != nil)
        try await mount.fs.setattr(inode) { $0.size = 0 }
        if copied {
            let source = try await mount.inode("source")
            let from = try await mount.fs.open(source)
            let count = try await mount.fs.copyFileRange((source, from), 0, (inode, handle), 0, bytes.count)
            #expect(count == bytes.count)
        } else {
            try await mount.fill(inode, handle, bytes)
        }
        try await mount.fs.fsync(inode, handle)
        #expect(try await mount.fs.lseek(inode, handle, 0, whence: 3) == 0)
        #expect(try await mount.fs.lseek(inode, handle, 0, whence: 4) == bytes.count)
        try await mount.fs.close(inode, handle)
    }
}
