import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

@Suite("What is not known is neither believed nor forgotten")
struct DoubtTests {
    private let ours = pattern(800, seed: 1)
    private let theirs = pattern(800, seed: 2)

    @Test("Once a write is stored, another tool's bytes of its size with its metadata are not taken for it")
    func markAfterDoubt() async throws {
        let mount = try Mount()
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, ours)
        // Nobody knows what has become of the first attempt; the second stores it.
        mount.faults.add(.put, calls: 1...1, .fail(.gone))
        mount.faults.add(.head, calls: 1...1, .fail(.gone))
        let first = await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) }
        #expect(first == .connectionFailed)
        try await mount.fs.fsync(inode, handle)
        try await mount.fs.close(inode, handle)
        let kept = try await mount.store.head("f").metadata
        try await mount.put("f", theirs, #require(kept))
        let removal = await failure { () async throws(VFSError) in try await mount.fs.unlink(Mount.root, "f") }
        #expect(removal == .busy)
        #expect(try await mount.contents() == ["f": theirs])
    }

    @Test("A file that was replaced elsewhere gets no bytes of its own by a rename while its attributes change")
    func renamedWhileAttributesChange() async throws {
        for wasThere in [true, false] {
            let mount = try Mount()
            try await mount.put("a", ours)
            if wasThere { try await mount.put("b", pattern(50, seed: 9)) }
            try await mount.listTop()
            let inode = try await mount.inode("a")
            try await mount.put("a", theirs)
            let change = Once()
            mount.hooks.at(.before, .copy, "b") {
                change.start {
                    await failure { () async throws(VFSError) in
                        try await mount.fs.setattr(inode) { $0.permissions = 0o600 }
                    }
                }
                await pause(.milliseconds(100))
            }
            let renamed = await failure { () async throws(VFSError) in
                try await mount.fs.rename(Mount.root, "a", Mount.root, "b")
            }
            _ = await change.result()
            await mount.fs.drain()
            let contents = try await mount.contents()
            #expect(renamed == nil || contents["a"] == theirs)
            #expect(contents.values.filter { $0 == theirs }.count == 1)
            let others = contents.values.filter { $0 != theirs }
            #expect(others.allSatisfy { wasThere && $0 == pattern(50, seed: 9) })
        }
    }

    @Test("Times that a streamed file gets long after its close make no stranger of it", arguments: [true, false])
    func lateTimes(isPartial: Bool) async throws {
        let mount = try Mount()
        var wanted = pattern(20 << 20, seed: 3)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.readWrite)
        for offset in stride(from: 0, to: wanted.count, by: 1 << 20) {
            try await mount.fs.write(inode, handle, offset, Array(wanted[offset..<offset + (1 << 20)]))
        }
        try await mount.fs.setattr(inode) { $0.modified = .at(Timestamp(seconds: 1_000_000)) }
        mount.faults.add(.copy, calls: 1...1, .fail(.gone))
        try await mount.fs.fsync(inode, handle)
        #expect(mount.faults.calls(.copy) == 1)
        let stored = try await mount.store.head("f")
        _ = try await mount.store.copy(
            CopyRequest(source: stored, destination: "f", metadata: stored.metadata))
        let (offset, bytes) = isPartial ? (1000, ours) : (0, pattern(21 << 20, seed: 4))
        try await mount.fs.write(inode, handle, offset, bytes)
        try await mount.fs.close(inode, handle)
        wanted.replaceSubrange(offset..<min(wanted.count, offset + bytes.count), with: bytes)
        #expect(try await mount.contents() == ["f": wanted])
        #expect(mount.fs.statistics().failedCommits.isEmpty)
    }

    @Test("What a store forbids to undo keeps nobody from its name")
    func forbiddenUndo() async throws {
        let mount = try Mount(clock: HeldClock().clock)
        try await mount.listTop()
        mount.faults.add(.put, calls: 1...1, .dropReply(.gone))
        mount.faults.add(.head, calls: 1...1, .fail(.gone))
        mount.faults.add(.delete, calls: 1...1000, .fail(.forbidden))
        let lock = Flags.write | Flags.exclusive
        let made = await failure { () async throws(VFSError) in
            _ = try await mount.fs.create(Mount.root, "lock", flags: lock)
        }
        #expect(made == .connectionFailed)
        let again = await failure { () async throws(VFSError) in
            _ = try await mount.fs.create(Mount.root, "lock", flags: lock)
        }
        #expect(again == .alreadyExists)
    }

    @Test("What comes to the old name while a rename's deletion goes unanswered is shown at once")
    func shownAfterUnansweredDeletion() async throws {
        let mount = try Mount()
        let theirs = theirs
        try await mount.put("a", ours)
        try await mount.listTop()
        mount.faults.add(.delete, calls: 1...1, .dropReply(.gone))
        mount.hooks.at(.after, .delete, "a") { _ = try? await mount.put("a", theirs) }
        try await mount.fs.rename(Mount.root, "a", Mount.root, "b")
        #expect(try await mount.contents() == ["a": theirs, "b": ours])
        #expect(try await mount.attributes("a")?.size == theirs.count)
    }

    @Test("A folder whose object has a body is not empty")
    func folderWithBody() async throws {
        let mount = try Mount()
        try await mount.put("d/", theirs)
        _ = try await mount.fs.mkdir(Mount.root, "e")
        let removed = await failure { () async throws(VFSError) in try await mount.fs.rmdir(Mount.root, "d") }
        let replaced = await failure { () async throws(VFSError) in
            try await mount.fs.rename(Mount.root, "e", Mount.root, "d")
        }
        #expect(removed == .notEmpty)
        #expect(replaced == .notEmpty)
        #expect(try await mount.object("d/") == theirs)
    }

    @Test("Of two who move a folder to one name at a time, who gives up leaves the other's copies alone")
    func twoMoves() async throws {
        let mount = try Mount()
        for name in ["d/1", "d/2"] { try await mount.put(name, ours, ObjectMetadata(nonce: ObjectMetadata.newNonce())) }
        _ = try await mount.fs.list(Mount.root)
        // The other's copy of the first file, with its mark, comes after the name was claimed; our copy of the second fails.
        mount.hooks.at(.before, .copy, "e/1") {
            guard let source = try? await mount.store.head("d/1") else { return }
            _ = try? await mount.store.copy(CopyRequest(source: source, destination: "e/1"))
        }
        mount.faults.add(.copy, calls: 2...2, .fail(.forbidden))
        let moved = await failure { () async throws(VFSError) in
            try await mount.fs.rename(Mount.root, "d", Mount.root, "e")
        }
        #expect(moved != nil)
        #expect(try await mount.object("e/1") == ours)
        #expect(try await mount.object("d/2") == ours)
    }
}
