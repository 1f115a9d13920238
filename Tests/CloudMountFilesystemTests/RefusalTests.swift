import CloudMountFilesystem
import CloudMountLayers
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Foundation
import MemoryProvider
import MountHarness
import Testing

/// What a store refuses or answers too late: the tree says what the store has, and no byte is lost.
@Suite("Refusals")
struct RefusalTests {
    private static let refusal = VFSError(.permissionDenied, "no")

    private func attribute(_ mount: TestMount, _ path: String) async throws -> FileAttributes {
        try #require(try await mount.attributes(path))
    }

    @Test("A change of attributes that the store refuses is not seen", arguments: ["file", "folder"])
    func attributes(name: String) async throws {
        let mount = try TestMount()
        try await mount.write("file", pattern(1000))
        _ = try await mount.fs.mkdir(TestMount.root, "folder")
        let before = try await attribute(mount, name)
        for verb in [Verb.put, .copy] { mount.faults.add(verb, calls: 1...99, .fail(Self.refusal)) }
        let inode = before.inode
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.setattr(inode) { $0.permissions = 0o600 }
            } == .permissionDenied)
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.setattr(inode) { $0.modified = .at(Timestamp(seconds: 1)) }
            } == .permissionDenied)
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.setxattr(inode, "user.a", [1])
            } == .permissionDenied)
        mount.faults.clear()
        #expect(try await mount.fs.getattr(inode) == before)
        #expect(try await mount.fs.listxattr(inode) == [])
        #expect(mount.fs.statistics().dirtyFiles == 0)
    }

    @Test(
        "Where the store keeps no attributes, what needs them is refused, unless they are to last as long as the mount")
    func noAttributes() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.metadata = false
        let mount = try TestMount(capabilities: capabilities)
        let (root, fs) = (TestMount.root, mount.fs)
        try await mount.write("file", pattern(1000))
        let folder = try await fs.mkdir(root, "folder", mode: 0o700)
        let inode = try await mount.inode("file")
        for node in [inode, folder] {
            var before = try await fs.getattr(node)
            #expect(before.permissions == (node == folder ? 0o755 : 0o644), "as after the next look")
            let permissions = before.permissions
            try await fs.setattr(node) { $0.permissions = permissions }
            before = try await fs.getattr(node)
            let changes: [(inout AttributeChanges) -> Void] = [
                { $0.permissions = 0o600 }, { $0.uid = 4_000_000 }, { $0.gid = 4_000_000 },
            ]
            for change in changes {
                let refusal = await failure { () async throws(VFSError) in try await fs.setattr(node, change) }
                #expect(refusal == .notPermitted)
            }
            let refusal = await failure { () async throws(VFSError) in try await fs.setxattr(node, "user.a", [1]) }
            #expect(refusal == .notSupported)
            #expect(try await fs.getattr(node) == before)
            // Times are kept in memory, and cost no request.
            let calls = mount.traffic[.put] + mount.traffic[.copy]
            try await fs.setattr(node) { $0.modified = .at(Timestamp(seconds: 1)) }
            #expect(try await fs.getattr(node).modified == Timestamp(seconds: 1))
            #expect(mount.traffic[.put] + mount.traffic[.copy] == calls)
        }
        #expect(
            await failure { () async throws(VFSError) in try await fs.symlink("file", root, "link") } == .notPermitted)
        #expect(
            await failure { () async throws(VFSError) in
                try await fs.mknod(root, "pipe", mode: 0o010644)
            } == .notPermitted)
        #expect(try await fs.list(root).map(\.name).sorted() == ["file", "folder"])
        let memory = try TestMount(capabilities: capabilities) { $0.policy.durableAttributes = false }
        try await memory.write("file", pattern(1000))
        let kept = try await memory.inode("file")
        try await memory.fs.setattr(kept) { $0.permissions = 0o600 }
        try await memory.fs.setxattr(kept, "user.a", [1])
        #expect(try await memory.fs.getattr(kept).permissions == 0o600)
    }

    @Test("A folder that is real on the store keeps no attributes, the files in it do")
    func realFolders() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.realFolders = true
        capabilities.folderObjects = false
        let mount = try TestMount(capabilities: capabilities)
        let folder = try await mount.fs.mkdir(TestMount.root, "folder")
        try await mount.write("file", pattern(10))
        let inode = try await mount.inode("file")
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.setattr(folder) { $0.permissions = 0o700 }
            } == .notPermitted)
        try await mount.fs.setattr(inode) { $0.permissions = 0o600 }
        #expect(try await mount.fs.getattr(inode).permissions == 0o600)
    }

    @Test("A truncation that the store refuses leaves the file as it was, also for who has it open")
    func truncation() async throws {
        let mount = try TestMount()
        let bytes = pattern(100_000)
        try await mount.write("file", bytes)
        let inode = try await mount.inode("file")
        let reader = try await mount.fs.open(inode)
        for verb in [Verb.put, .copy] { mount.faults.add(verb, calls: 1...99, .fail(Self.refusal)) }
        for size in [0, 10, 200_000] {
            #expect(
                await failure { () async throws(VFSError) in
                    try await mount.fs.setattr(inode) { $0.size = size }
                } == .permissionDenied)
            #expect(try await mount.fs.getattr(inode).size == bytes.count)
            #expect(try await mount.fs.read(inode, reader, 0, 200_000) == bytes)
        }
        mount.faults.clear()
        try await mount.fs.close(inode, reader)
        #expect(try await mount.read("file") == bytes)
        #expect(mount.fs.statistics().dirtyFiles == 0)
        mount.staging.finishRemovals(seconds: 60)
        #expect(mount.staging.used == 0)
    }

    @Test("A new file that may not be stored has no name after its close; its bytes stay on local disk")
    func forbiddenCreate() async throws {
        let mount = try TestMount()
        mount.faults.add(.put, calls: 1...99, .fail(Self.refusal))
        let (inode, handle) = try await mount.fs.create(TestMount.root, "new")
        try await mount.fs.write(inode, handle, 0, pattern(5000))
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.flush(inode, handle)
            } == .permissionDenied)
        try await mount.fs.release(inode, handle)
        #expect(try await mount.fs.list(TestMount.root).isEmpty)
        #expect(try await mount.fs.lookup(TestMount.root, "new") == nil)
        await settled { !mount.staging.leftovers.isEmpty }
        let leftover = try #require(mount.staging.leftovers.first)
        #expect(FileManager.default.contents(atPath: leftover.path).map(Array.init) == pattern(5000))
        #expect(mount.fs.statistics().dirtyFiles == 0)
    }

    @Test("A file that may not be overwritten is what the store has after its close")
    func forbiddenOverwrite() async throws {
        let mount = try TestMount()
        try await mount.write("file", pattern(3000))
        mount.faults.add(.put, calls: 1...99, .fail(Self.refusal))
        let inode = try await mount.inode("file")
        let handle = try await mount.fs.open(inode, flags: 0o1001)
        try await mount.fs.write(inode, handle, 0, pattern(10, seed: 2))
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.flush(inode, handle)
            } == .permissionDenied)
        try await mount.fs.release(inode, handle)
        #expect(try await mount.read("file") == pattern(3000))
        await settled { mount.staging.leftovers.count == 1 }
        #expect(mount.staging.leftovers.count == 1)
    }

    @Test("A failed commit is reported each time, is read meanwhile, and succeeds later", arguments: [1, 20 << 20])
    func laterSuccess(size: Int) async throws {
        let mount = try TestMount()
        let down = VFSError(.connectionFailed, "nobody listens")
        let bytes = pattern(size)
        let (inode, handle) = try await mount.fs.create(TestMount.root, "new")
        for verb in [Verb.put, .beginUpload, .head] { mount.faults.add(verb, calls: 1...99, .fail(down)) }
        for offset in stride(from: 0, to: size, by: 1 << 20) {
            try await mount.fs.write(inode, handle, offset, Array(bytes[offset..<min(size, offset + (1 << 20))]))
        }
        for _ in 0..<2 {
            #expect(
                await failure { () async throws(VFSError) in
                    try await mount.fs.fsync(inode, handle)
                } == .connectionFailed)
        }
        try await mount.fs.release(inode, handle)
        #expect(try await mount.read("new") == bytes)
        let failed = try #require(mount.fs.statistics().failedCommits.first)
        #expect(failed.path == "new" && failed.bytes == size)
        #expect(FileManager.default.contents(atPath: failed.stagedPath).map { [UInt8]($0) } == bytes)
        mount.faults.clear()
        let again = try await mount.fs.open(inode, flags: 2)
        try await mount.fs.fsync(inode, again)
        try await mount.fs.close(inode, again)
        #expect(try await mount.object("new") == bytes)
        #expect(mount.fs.statistics().failedCommits.isEmpty && mount.fs.statistics().dirtyFiles == 0)
    }

    @Test("A small file needs no disk until its commit fails or the mount is drained")
    func smallFiles() async throws {
        let mount = try TestMount()
        let (inode, handle) = try await mount.fs.create(TestMount.root, "small")
        try await mount.fs.write(inode, handle, 0, pattern(5000))
        mount.staging.finishRemovals(seconds: 60)
        #expect(mount.staging.used == 0 && mount.memory.used > 0)
        #expect(try await mount.read("small") == pattern(5000))
        try await mount.fs.close(inode, handle)
        // A copy is kept for who reads it next.
        #expect(mount.staging.used == 0 && mount.memory.used > 0 && mount.memory.used == mount.fs.bytesKept)
        #expect(try await mount.object("small") == pattern(5000))

        let (other, open) = try await mount.fs.create(TestMount.root, "open")
        try await mount.fs.write(other, open, 0, pattern(100))
        mount.faults.add(.put, calls: 1...99, .fail(VFSError(.connectionFailed, "nobody listens")))
        await mount.fs.drain()
        let failed = try #require(mount.fs.statistics().failedCommits.first)
        #expect(FileManager.default.contents(atPath: failed.stagedPath).map { [UInt8]($0) } == pattern(100))
        // What comes after a drain, which may be given up, is on disk at once.
        let (late, last) = try await mount.fs.create(TestMount.root, "late")
        let before = mount.staging.used
        try await mount.fs.write(late, last, 0, pattern(100))
        #expect(mount.staging.used == before + 4096)
        // Also of a file whose bytes are still in memory.
        let writer = try await mount.fs.open(inode, flags: 1)
        try await mount.fs.write(inode, writer, 5000, [1])
        #expect(mount.staging.used == before + 4096 + 8192)
    }

    @Test(
        "A failed commit of a small file is reported also when the disk has no room for it, and its bytes are not lost")
    func noRoom() async throws {
        let mount = try TestMount()
        mount.staging.limit(to: 0, keepFree: 0)
        let (inode, handle) = try await mount.fs.create(TestMount.root, "small")
        try await mount.fs.write(inode, handle, 0, pattern(5000))
        mount.faults.add(.put, calls: 1...99, .fail(VFSError(.connectionFailed, "nobody listens")))
        let said = await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) }
        #expect(said == .connectionFailed)
        #expect(mount.fs.statistics().failedCommits.first.map { $0.stagedPath.isEmpty && $0.bytes == 5000 } == true)
        // One that grows is refused, and nothing of it has changed.
        let full = await failure { () async throws(VFSError) in
            try await mount.fs.write(inode, handle, 5000, pattern(100_000))
        }
        #expect(full == .noSpace)
        #expect(try await mount.read("small") == pattern(5000))
        mount.faults.clear()
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("small") == pattern(5000))
    }

    @Test("rm also removes what a commit has stored whose answer was lost")
    func unlinkAfterLostAnswer() async throws {
        let mount = try TestMount()
        mount.faults.add(.put, calls: 1...1, .dropReply(VFSError(.connectionFailed, "reset")))
        let (inode, handle) = try await mount.fs.create(TestMount.root, "new")
        // Nor can the commit see for itself.
        mount.faults.add(.head, calls: 1...1, .fail(VFSError(.connectionFailed, "reset")))
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.flush(inode, handle)
            } == .connectionFailed)
        try await mount.fs.release(inode, handle)
        try await mount.fs.unlink(TestMount.root, "new")
        #expect(try await mount.keys() == [])
    }

    @Test("What is made is made, also when the first answer was lost and the second says that it exists")
    func lostAnswers() async throws {
        let mount = try TestMount()
        let exists = VFSError(.preconditionFailed, "there is one")
        mount.faults.add(.put, calls: 1...3, .dropReply(exists))
        _ = try await mount.fs.mkdir(TestMount.root, "folder")
        _ = try await mount.fs.symlink("target", TestMount.root, "link")
        try await mount.write("file", [1])
        #expect(try await mount.keys() == ["file", "folder/", "link"])
        // What is another's stays another's.
        try await mount.put("theirs/", [])
        mount.faults.clear()
        mount.faults.add(.head, calls: 1...1, .fail(VFSError(.notFound, "not yet")))
        mount.faults.add(.list, calls: 1...1, .dropReply(VFSError(.io, "passing")))
        #expect(
            await failure { () async throws(VFSError) in
                _ = try await mount.fs.mkdir(TestMount.root, "theirs")
            } != nil)
    }

    @Test("A rename that cannot remove the old name fails, and every path shows what the store has", arguments: [1, 2])
    func renameWithoutDelete(failures: Int) async throws {
        let mount = try TestMount()
        try await mount.write("a", pattern(10))
        try await mount.write("over", pattern(20))
        let folder = try await mount.fs.mkdir(TestMount.root, "folder")
        try await mount.write("x", pattern(30), in: folder)
        let limit = failures == 1 ? 1 : 99
        for (from, to) in [("a", "b"), ("a", "over"), ("folder", "moved")] {
            mount.faults.clear()
            mount.faults.add(.delete, calls: 1...limit, .fail(Self.refusal))
            #expect(
                await failure { () async throws(VFSError) in
                    try await mount.fs.rename(TestMount.root, from, TestMount.root, to)
                } == .permissionDenied)
        }
        mount.faults.clear()
        #expect(try await mount.read("a") == pattern(10))
        #expect(try await mount.read("over") == pattern(10))
        #expect(try await mount.read("folder/x") == pattern(30))
        let shown = try await mount.fs.list(TestMount.root).map(\.name)
        // Where one deletion was refused, what had been copied could be removed again.
        let copies = failures == 1 ? [] : ["b", "moved"]
        #expect(Set(shown) == Set(["a", "over", "folder"] + copies))
        #expect(try await mount.attributes("b") != nil || failures == 1)
    }

    @Test("A directory whose copy fails half-way is where it was, whole, and nothing is left of the copy")
    func renameHalfWay() async throws {
        let mount = try TestMount()
        let folder = try await mount.fs.mkdir(TestMount.root, "deep")
        let below = try await mount.fs.mkdir(folder, "er")
        for number in 0..<40 { try await mount.write("f\(number)", pattern(100, seed: UInt64(number)), in: below) }
        let before = try await mount.keys()
        mount.faults.add(.copy, calls: 20...20, .fail(VFSError(.unavailable, "busy")))
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.rename(TestMount.root, "deep", TestMount.root, "new")
            } == .unavailable)
        #expect(try await mount.keys() == before)
        #expect(try await mount.read("deep/er/f7") == pattern(100, seed: 7))
        try await mount.fs.rename(TestMount.root, "deep", TestMount.root, "new")
        #expect(try await mount.read("new/er/f39") == pattern(100, seed: 39))
        #expect(try await mount.keys("deep") == [])
    }
}
