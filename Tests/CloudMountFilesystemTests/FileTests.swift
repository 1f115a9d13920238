import CloudMountCache
import CloudMountFilesystem
import CloudMountLayers
import CloudMountPlatform
import CloudMountVFS
import Testing

@Suite("Files")
struct FileTests {
    @Test("A file that was written, closed and remounted has its bytes")
    func roundTrip() async throws {
        let mount = try TestMount()
        let bytes = pattern(300_000)
        try await mount.write("a", bytes)
        #expect(try await mount.object("a") == bytes)
        mount.remount()
        #expect(try await mount.read("a") == bytes)
        #expect(mount.memory.used == 0)
        #expect(mount.staging.used == 0)
    }

    @Test("A file opened with O_TRUNC and closed is empty")
    func truncateOnOpen() async throws {
        let mount = try TestMount()
        try await mount.write("a", pattern(10))
        let inode = try await mount.inode("a")
        let handle = try await mount.fs.open(inode, flags: 0o1001)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("a") == [])
        mount.remount()
        #expect(try await mount.read("a") == [])
    }

    @Test("A new file that replaced another by its name, and is renamed again before it is stored, takes no copy")
    func renamedTwiceBeforeStored() async throws {
        let mount = try TestMount()
        let root = TestMount.root
        try await mount.write("b", pattern(10))
        let (inode, handle) = try await mount.fs.create(root, "a")
        _ = try await mount.fs.write(inode, handle, 0, pattern(20, seed: 2))
        try await mount.fs.rename(root, "a", root, "b")
        try await mount.fs.rename(root, "b", root, "c")
        #expect(mount.traffic[.copy] == 0)
        #expect(try await mount.keys() == [])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.keys() == ["c"])
        #expect(try await mount.object("c") == pattern(20, seed: 2))
    }

    @Test("A commit of many small changes reads what lies between them in a few requests")
    func scatteredChanges() async throws {
        let mount = try TestMount()
        var bytes = pattern(1 << 20)
        try await mount.write("a", bytes)
        let inode = try await mount.inode("a")
        let handle = try await mount.fs.open(inode, flags: 2)
        for offset in stride(from: 5_000, to: 1_000_000, by: 5_000) {
            try await mount.fs.write(inode, handle, offset, [1, 2, 3])
            bytes.replaceSubrange(offset..<offset + 3, with: [1, 2, 3])
        }
        mount.traffic.reset()
        try await mount.fs.fsync(inode, handle)
        #expect(mount.traffic[.read] <= 2)
        #expect(mount.traffic.bytesWanted <= 1 << 20)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("a") == bytes)
        #expect(mount.memory.used == 0)
    }
}
