import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

@Suite("What nodes hold in memory")
struct WeightTests {
    private static let most = 1 << 20

    /// A bucket whose objects have 4 KiB of metadata each, of which listings tell.
    private func mount(_ adjust: (inout MountSettings) -> Void = { _ in }) throws -> TestMount {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.listingCarriesMetadata = true
        capabilities.maxMetadataBytes = 8192
        return try TestMount(capabilities: capabilities) {
            $0.mostMetadata = Self.most
            adjust(&$0)
        }
    }

    private func fill(_ mount: TestMount, _ folder: String, _ count: Int) async throws {
        let metadata = ObjectMetadata(
            modified: Timestamp(seconds: 1000),
            user: ["mode": "0100640", "extra": String(repeating: "x", count: 4096)])
        for number in 0..<count { try await mount.put("\(folder)/f\(number)", [1], metadata) }
    }

    /// Some time later something else is looked at.
    private func lookElsewhere(_ mount: TestMount) async throws {
        mount.time.advance(.seconds(1))
        try await fill(mount, "elsewhere", 100)
        _ = try await mount.fs.list(try await mount.inode("elsewhere"))
    }

    @Test("A bucket with rich metadata takes no more memory than it may, and every file is still what it was")
    func shed() async throws {
        let mount = try mount()
        try await fill(mount, "a", 1500)
        let folder = try await mount.inode("a")
        _ = try await mount.fs.list(folder)
        let (marked, kept, open) = (
            try await mount.inode("a/f3"), try await mount.inode("a/f4"), try await mount.inode("a/f5")
        )
        try await mount.fs.setxattr(marked, "user.k", [1, 2, 3])
        let handle = try await mount.fs.open(open)
        #expect(mount.fs.statistics().metadataBytes > 4 * Self.most)
        try await lookElsewhere(mount)
        await settled { mount.fs.statistics().metadataBytes <= Self.most }
        #expect(mount.fs.statistics().metadataBytes <= Self.most)
        // The names and what stat(2) shows cost no request.
        #expect(mount.fs.statistics().inodes > 1500)
        mount.traffic.reset()
        let shown = try await mount.fs.getattr(kept)
        #expect(shown.permissions == 0o640 && shown.modified == Timestamp(seconds: 1000))
        #expect(try await mount.fs.lookup(folder, "f9")?.permissions == 0o640)
        #expect(mount.traffic.total == 0)
        // The rest is asked for, once.
        #expect(try await mount.fs.getxattr(marked, "user.k") == [1, 2, 3])
        #expect(try await mount.fs.listxattr(marked) == ["user.k"])
        #expect(mount.traffic[.head] == 1)
        // What is changed keeps all of it.
        try await mount.fs.setattr(kept) { $0.permissions = 0o600 }
        var user = try await mount.store.head(ObjectKey("a/f4")).metadata?.user
        #expect(user?["mode"] == "0100600" && user?["extra"]?.utf8.count == 4096)
        try await mount.fs.setxattr(try await mount.inode("a/f6"), "user.n", [9])
        #expect(try await mount.store.head(ObjectKey("a/f6")).metadata?.user["extra"]?.utf8.count == 4096)
        let written = try await mount.inode("a/f7")
        let writer = try await mount.fs.open(written, flags: 1)
        try await mount.fs.write(written, writer, 0, [5])
        try await mount.fs.close(written, writer)
        user = try await mount.store.head(ObjectKey("a/f7")).metadata?.user
        #expect(user?["mode"] == "0100640" && user?["extra"]?.utf8.count == 4096)
        try await mount.fs.close(open, handle)
    }

    @Test("What only this mount knows is not let go of")
    func unstored() async throws {
        let mount = try mount { $0.policy.durableAttributes = false }
        try await fill(mount, "a", 1000)
        _ = try await mount.fs.list(try await mount.inode("a"))
        let inode = try await mount.inode("a/f1")
        try await mount.fs.setxattr(inode, "user.k", [7])
        let dirty = try await mount.inode("a/f2")
        let handle = try await mount.fs.open(dirty, flags: 1)
        try await mount.fs.write(dirty, handle, 0, [5])
        try await lookElsewhere(mount)
        await settled { mount.fs.statistics().metadataBytes <= Self.most }
        #expect(mount.fs.statistics().metadataBytes <= Self.most)
        mount.traffic.reset()
        #expect(try await mount.fs.getxattr(inode, "user.k") == [7])
        #expect(mount.traffic.total == 0)
        try await mount.fs.close(dirty, handle)
        #expect(try await mount.store.head(ObjectKey("a/f2")).metadata?.user["extra"]?.utf8.count == 4096)
    }

    @Test("Links that were let go of lead where they led")
    func links() async throws {
        let mount = try mount()
        try await fill(mount, "a", 400)
        try await mount.put(
            "a/l", [],
            ObjectMetadata(user: [
                "gcsfuse_symlink_target": "f1", "extra": String(repeating: "x", count: 4096),
            ]))
        _ = try await mount.fs.list(try await mount.inode("a"))
        let inode = try await mount.inode("a/l")
        let before = try await mount.fs.readlink(inode)
        try await lookElsewhere(mount)
        await settled { mount.fs.statistics().metadataBytes <= Self.most }
        #expect(try await mount.fs.readlink(inode) == before)
        #expect(try await mount.attributes("a/l")?.kind == .symbolicLink)
    }
}
