import CloudMountFilesystem
import CloudMountLayers
import CloudMountStaging
import CloudMountVFS
import Foundation
import MemoryProvider
import MountHarness
import Testing

/// Others work in the bucket too.
@Suite("Others' changes")
struct RemoteChangeTests {
    /// Nothing is believed for longer than it takes to say it.
    private func impatient() throws -> TestMount {
        try TestMount {
            $0.policy.metadataTTL = .zero; $0.policy.negativeTTL = .zero
        }
    }

    @Test("Neither version is lost when both sides write: ours goes under a conflict name")
    func conflict() async throws {
        let mount = try TestMount()
        try await mount.put("note.txt", pattern(10))
        let inode = try await mount.inode("note.txt")
        let handle = try await mount.fs.open(inode, flags: 2)
        try await mount.fs.write(inode, handle, 0, pattern(20, seed: 2))
        try await mount.put("note.txt", pattern(30, seed: 3))
        try await mount.fs.close(inode, handle)
        let keys = try await mount.keys()
        let other = try #require(keys.first { $0 != "note.txt" })
        #expect(keys.count == 2 && other.hasPrefix("note (conflict ") && other.hasSuffix(").txt"))
        #expect(try await mount.object("note.txt") == pattern(30, seed: 3))
        #expect(try await mount.object(other) == pattern(20, seed: 2))
        #expect(try await mount.read("note.txt") == pattern(30, seed: 3))
    }

    @Test("Names that the store contradicts are asked again at once, however long they were to be believed")
    func contradicted() async throws {
        let mount = try TestMount()
        let root = TestMount.root
        let directory = try await mount.fs.mkdir(root, "d")
        try await mount.write("gone", pattern(10))
        #expect(try await mount.fs.list(root).count == 2)
        #expect(try await mount.fs.list(directory).isEmpty)
        _ = try await mount.store.delete([DeleteRequest("gone")])
        for key in ["d/unseen", "made/", "made/x", "node"] { try await mount.put(key, []) }

        #expect(await failure { () async throws(VFSError) in try await mount.fs.rmdir(root, "d") } == .notEmpty)
        #expect(try await mount.fs.list(directory).map(\.name) == ["unseen"])
        let move = await failure { () async throws(VFSError) in try await mount.fs.rename(root, "gone", root, "new") }
        #expect(move == .notFound)
        #expect(try await mount.fs.lookup(root, "gone") == nil)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.mkdir(root, "made") } == .alreadyExists)
        let made = try #require(try await mount.fs.lookup(root, "made"))
        #expect(try await mount.fs.list(made.inode).map(\.name) == ["x"])
        let node = await failure { () async throws(VFSError) in
            try await mount.fs.mknod(root, "node", mode: 0o100644)
        }
        #expect(node == .alreadyExists)
        #expect(try await mount.fs.lookup(root, "node") != nil)
    }

    @Test("Who appends to a file that has grown elsewhere is sent back to look at its size first")
    func appended() async throws {
        let mount = try TestMount { $0.policy.freshness = .open }
        try await mount.put("log", pattern(100))
        let inode = try await mount.inode("log")
        try await mount.put("log", pattern(150, seed: 2))
        // The kernel, which goes by what it was told, asks again at ESTALE.
        #expect(await failure { () async throws(VFSError) in try await mount.fs.open(inode, flags: 0o2001) } == .stale)
        #expect(try await mount.attributes("log")?.size == 150)
        let handle = try await mount.fs.open(inode, flags: 0o2001)
        try await mount.fs.write(inode, handle, 150, [7])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("log") == pattern(150, seed: 2) + [7])
    }

    @Test("A file that is open to append to stays the version whose size was told")
    func appender() async throws {
        let mount = try TestMount()
        try await mount.put("log", pattern(100))
        let inode = try await mount.inode("log")
        let handle = try await mount.fs.open(inode, flags: 0o2002)
        try await mount.put("log", pattern(150, seed: 2))
        let read = await failure { () async throws(VFSError) in try await mount.fs.read(inode, handle, 0, 10) }
        #expect(read == .stale)
        try await mount.fs.release(inode, handle)
        #expect(try await mount.read("log") == pattern(150, seed: 2))
    }

    @Test("An entry that found no room in a listing is not taken for one that was told")
    func untold() async throws {
        let mount = try TestMount()
        for name in ["a", "b"] { try await mount.put(name, pattern(100)) }
        let inode = try await mount.inode("b")
        try await mount.put("b", pattern(150, seed: 2))
        let directory = try await mount.fs.opendir(TestMount.root)
        let some = try await mount.fs.readdir(TestMount.root, directory, from: 0, capacity: 3)
        #expect(some.map(\.name) == [".", "..", "a"])
        #expect(await failure { () async throws(VFSError) in try await mount.fs.open(inode, flags: 0o2001) } == .stale)
        try await mount.fs.releasedir(TestMount.root, directory)
    }

    @Test("A link that leads elsewhere by now is another inode: the kernel reads the target of one only once")
    func repointed() async throws {
        let mount = try impatient()
        let here = mount.fs
        let link = try await here.symlink("release-41", TestMount.root, "current")
        #expect(try await here.readlink(link) == "release-41")
        mount.remount()
        try await mount.fs.unlink(TestMount.root, "current")
        _ = try await mount.fs.symlink("release-42", TestMount.root, "current")
        let now = try #require(try await here.lookup(TestMount.root, "current"))
        #expect(now.inode != link)
        #expect(try await here.readlink(now.inode) == "release-42")
        // And stays the one it is.
        #expect(try await here.lookup(TestMount.root, "current")?.inode == now.inode)
    }

    @Test("A file that others remove while it is written whole comes back under its own name")
    func removedWhileWritten() async throws {
        let mount = try TestMount()
        try await mount.put("file", pattern(10))
        let inode = try await mount.inode("file")
        let handle = try await mount.fs.open(inode, flags: 0o1001)
        try await mount.fs.write(inode, handle, 0, pattern(500, seed: 2))
        _ = try await mount.store.delete([DeleteRequest("file")])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.keys() == ["file"])
        #expect(try await mount.object("file") == pattern(500, seed: 2))
    }

    @Test("A part of a file that others remove cannot be stored, which its close says; its bytes are kept")
    func removedWhileChanged() async throws {
        let mount = try TestMount()
        try await mount.put("file", pattern(1000))
        let inode = try await mount.inode("file")
        let handle = try await mount.fs.open(inode, flags: 2)
        try await mount.fs.write(inode, handle, 10, pattern(5, seed: 2))
        _ = try await mount.store.delete([DeleteRequest("file")])
        #expect(await failure { () async throws(VFSError) in try await mount.fs.flush(inode, handle) } == .stale)
        let kept = try #require(mount.fs.statistics().failedCommits.first)
        #expect(kept.path == "file" && kept.bytes == 5)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.write(inode, handle, 0, [1]) } == .stale)
        try await mount.fs.release(inode, handle)
        #expect(
            FileManager.default.contents(atPath: kept.stagedPath).map { [UInt8]($0).suffix(5) }
                == pattern(5, seed: 2).suffix(5))
        // Written anew as a whole it is stored.
        try await mount.write("file", pattern(7, seed: 3))
        #expect(try await mount.object("file") == pattern(7, seed: 3))
        // Told of until somebody takes it away.
        #expect(mount.fs.statistics().failedCommits.count == 1)
        try FileManager.default.removeItem(atPath: kept.stagedPath)
        #expect(mount.fs.statistics().failedCommits.isEmpty)
    }

    @Test("Metadata that others change without new bytes is seen")
    func metadataAlone() async throws {
        let mount = try impatient()
        try await mount.put("file", [1], ObjectMetadata(user: ["mode": "0100600"]))
        #expect(try await mount.attributes("file")?.permissions == 0o600)
        let info = try await mount.store.head("file")
        _ = try await mount.store.copy(
            CopyRequest(source: info, destination: "file", metadata: ObjectMetadata(user: ["mode": "0100640"])))
        #expect(try await mount.attributes("file")?.permissions == 0o640)
    }

    @Test(
        "Every legal key is reachable or counted: one that no path can say goes with its directory, and keeps nobody from removing it"
    )
    func unreachableKeys() async throws {
        let mount = try TestMount()
        let long = String(repeating: "n", count: 300)
        for key in ["d/x", "d//y", "d/../z", "d/./", "d/e/\(long)", "a", "a/b"] { try await mount.put(key, [1]) }
        let top = try await mount.inode("d")
        #expect(Set(try await mount.fs.list(top).map(\.name)) == ["x", "e"])
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.rmdir(TestMount.root, "d")
            } == .notEmpty)
        #expect(try await mount.keys("d").count == 5)
        try await mount.fs.rmdir(top, "e")
        try await mount.fs.unlink(top, "x")
        #expect(mount.fs.statistics().hiddenKeys >= 3)
        try await mount.fs.rename(TestMount.root, "d", TestMount.root, "moved")
        #expect(try await mount.keys("moved").count == 4)
        try await mount.fs.rmdir(TestMount.root, "moved")
        #expect(try await mount.keys() == ["a", "a/b"])
        let folder = try await mount.inode("a")
        #expect(try await mount.attributes("a")?.kind == .directory)
        #expect(mount.fs.statistics().hiddenKeyExamples == ["a"])
        try await mount.fs.unlink(folder, "b")
        try await mount.fs.rmdir(TestMount.root, "a")
        #expect(try await mount.attributes("a")?.kind == .regular)
        #expect(try await mount.fs.list(TestMount.root).map(\.name) == ["a"])
        #expect(mount.fs.statistics().hiddenKeys == 0)
    }

    @Test("Uploads that began under a name that the file has no more are given up", arguments: ["file", "folder"])
    func renamedStream(what: String) async throws {
        let mount = try TestMount()
        let folder = try await mount.fs.mkdir(TestMount.root, "folder")
        let bytes = pattern(40 << 20)
        let (inode, handle) = try await mount.fs.create(folder, "file")
        func write(_ range: Range<Int>) async throws {
            for offset in stride(from: range.lowerBound, to: range.upperBound, by: 1 << 20) {
                try await mount.fs.write(inode, handle, offset, Array(bytes[offset..<offset + (1 << 20)]))
            }
        }
        try await write(0..<30 << 20)
        await settled { mount.traffic[.uploadPart] > 1 }
        if what == "file" {
            try await mount.fs.rename(folder, "file", TestMount.root, "there")
        } else {
            try await mount.fs.rename(TestMount.root, "folder", TestMount.root, "there")
        }
        try await mount.fs.fsync(inode, handle)
        // And back, where the old upload would fit again.
        if what == "file" { try await mount.fs.rename(TestMount.root, "there", folder, "file") }
        try await write(30 << 20..<40 << 20)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object(what == "file" ? "folder/file" : "there/file") == bytes)
        await settled { mount.traffic[.beginUpload] == mount.traffic[.completeUpload] + mount.traffic[.abortUpload] }
        #expect(mount.traffic[.beginUpload] == mount.traffic[.completeUpload] + mount.traffic[.abortUpload])
        #expect(try await mount.keys().filter { !$0.hasSuffix("/") }.count == 1)
        mount.staging.finishRemovals(seconds: 60)
        #expect(mount.staging.used == 0)
    }

    @Test("A link's target may be longer than what the store keeps beside an object")
    func longLink() async throws {
        let mount = try TestMount()
        let target = String(repeating: "ü", count: 2000)
        let inode = try await mount.fs.symlink(target, TestMount.root, "link")
        #expect(try await mount.fs.readlink(inode) == target)
        mount.remount()
        let found = try #require(try await mount.attributes("link"))
        #expect(found.kind == .symbolicLink && found.size == 4000)
        #expect(try await mount.fs.readlink(found.inode) == target)
        try await mount.fs.setattr(found.inode) { $0.modified = .at(Timestamp(seconds: 5)) }
        mount.remount()
        #expect(try await mount.fs.readlink(try await mount.inode("link")) == target)
    }
}
