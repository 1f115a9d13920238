import CloudMountFilesystem
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

/// What stat(2) shows beside size, mode and mtime.
@Suite("Attributes as they are shown")
struct ShownAttributeTests {
    @Test("A directory has two links and one for each subdirectory once all of it is known, and one before")
    func links() async throws {
        let mount = try TestMount()
        for key in ["d/a/1", "d/b/1", "d/c/1", "d/file"] { try await mount.put(key, [1]) }
        let directory = try await mount.inode("d")
        #expect(try await mount.fs.getattr(directory).linkCount == 1)
        _ = try await mount.fs.list(directory)
        #expect(try await mount.fs.getattr(directory).linkCount == 5)
        _ = try await mount.fs.mkdir(directory, "e")
        #expect(try await mount.fs.getattr(directory).linkCount == 6)
        try await mount.fs.rmdir(directory, "e")
        try await mount.fs.rename(directory, "a", TestMount.root, "a")
        #expect(try await mount.fs.getattr(directory).linkCount == 4)
        #expect(try await mount.fs.getattr(mount.inode("d/file")).linkCount == 1)
    }

    @Test("An owner that no file can have leaves the object the mount's, and writable")
    func owner() async throws {
        let mount = try TestMount()
        let foreign = ObjectMetadata(user: ["uid": "4294967295", "gid": "4294967295", "mode": "33188"])
        try await mount.put("f", pattern(10), foreign)
        let attributes = try #require(try await mount.attributes("f"))
        #expect(attributes.uid == 1000 && attributes.gid == 1000)
        let handle = try await mount.fs.open(attributes.inode, flags: 2)
        try await mount.fs.write(attributes.inode, handle, 0, [9])
        try await mount.fs.close(attributes.inode, handle)
        try await mount.fs.setattr(attributes.inode) { $0.permissions = 0o600 }
        #expect(try await mount.object("f")?.first == 9)
        #expect(try await mount.store.head("f").metadata?.user["uid"] != "4294967295")
    }

    @Test("A read sets the time of access when that is before the last change or a day old, as relatime does")
    func accessed() async throws {
        let mount = try TestMount()
        try await mount.write("f", pattern(100))
        let inode = try await mount.inode("f")
        let modified = try await mount.fs.getattr(inode).modified
        mount.time.advance(.seconds(100))
        #expect(try await mount.read("f") == pattern(100))
        let first = try await mount.fs.getattr(inode)
        #expect(first.accessed > modified && first.modified == modified)
        mount.time.advance(.seconds(100))
        #expect(try await mount.read("f") == pattern(100))
        #expect(try await mount.fs.getattr(inode).accessed == first.accessed)
        mount.time.advance(.seconds(100_000))
        #expect(try await mount.read("f") == pattern(100))
        #expect(try await mount.fs.getattr(inode).accessed > first.accessed)
    }

    @Test("A file that went on as another version while it was open is not mixed with a third by who opens it later")
    func thirdVersion() async throws {
        let mount = try TestMount()
        let versions = (1...3).map { pattern(300_000, seed: UInt64($0)) }
        try await mount.put("f", versions[0])
        _ = try await mount.fs.list(TestMount.root)
        let inode = try await mount.inode("f")
        // Looked up by the kernel, and open, before the file is replaced.
        let first = try await mount.fs.open(inode)
        try await mount.put("f", versions[1])
        #expect(try await mount.fs.read(inode, first, 0, 4096) == Array(versions[1][..<4096]))
        // The kernel is refused once, and looks the name up anew.
        #expect(await failure { () async throws(VFSError) in _ = try await mount.fs.open(inode) } == .stale)
        #expect(try await mount.inode("f") == inode)
        let second = try await mount.fs.open(inode)
        #expect(try await mount.fs.read(inode, first, 4096, 4096) == Array(versions[1][4096..<8192]))
        try await mount.fs.close(inode, first)
        try await mount.fs.close(inode, second)
        // The kernel has the first pages of the second version, which it does not ask for again.
        let third = try await mount.fs.open(inode)
        try await mount.put("f", versions[2])
        let read = await outcome { () async throws(VFSError) in try await mount.fs.read(inode, third, 200_000, 4096) }
        if case .success(let bytes) = read { #expect(bytes == Array(versions[1][200_000..<204_096])) }
        try await mount.fs.close(inode, third)
    }
}
