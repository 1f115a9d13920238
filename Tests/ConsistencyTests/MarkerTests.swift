import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

/// What folders have of their own, where several mounts change it. Tags are of bytes, as on S3: those of all markers are the same.
@Suite("Markers of folders, and others who store them", .timeLimit(.minutes(15)))
struct MarkerTests {
    private func mount(_ listed: Bool) throws -> Mount {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.listingCarriesMetadata = listed
        return try Mount(capabilities, tagsBytes: true) {
            $0.policy.metadataTTL = .zero
            $0.policy.negativeTTL = .zero
        }
    }

    @Test(
        "What another mount makes of a folder is seen, and a time that is stored afterwards keeps it",
        arguments: [false, true])
    func othersAttributes(_ listed: Bool) async throws {
        let mount = try mount(listed)
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        let other = try mount.second()
        let there = try #require(try await other.lookup(Mount.root, "d")).inode
        _ = try await other.setattr(there) { $0.permissions = 0o700 }
        #expect(try await mount.attributes("d")?.permissions == 0o700)
        // Changed again, and not looked at before a name in it changes here.
        _ = try await other.setattr(there) { $0.permissions = 0o710 }
        let (inode, handle) = try await mount.fs.create(folder, "f")
        try await mount.fs.close(inode, handle)
        await mount.fs.drain()
        let seen = try #require(try await mount.second().lookup(Mount.root, "d"))
        #expect(seen.permissions == 0o710)
        #expect(try await mount.attributes("d")?.permissions == 0o710)
        #expect(seen.modified == (try await mount.attributes("d")?.modified))
    }

    @Test("A marker that other tools see goes with the first file that comes into its folder")
    func uselessMarker() async throws {
        let mount = try Mount(StoreKind("folders are visible") { $0.visibleFolders = true }.capabilities)
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        try await mount.write("f", [1], in: folder)
        for _ in 0..<500 where try await mount.keys() != ["d/f"] { await pause(.milliseconds(10)) }
        #expect(try await mount.keys() == ["d/f"])
    }

    @Test("A folder onto which another one could not be renamed is what it was", arguments: [true, false])
    func refusedOver(tagsBytes: Bool) async throws {
        let mount = try Mount(tagsBytes: tagsBytes)
        let folder = try await mount.fs.mkdir(Mount.root, "a")
        try await mount.write("f", [1], in: folder)
        let target = try await mount.fs.mkdir(Mount.root, "b")
        _ = try await mount.fs.setattr(target) { $0.permissions = 0o700 }
        mount.faults.add(.copy, calls: 1...99, key: "b/f", .fail(.forbidden))
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.rename(Mount.root, "a", Mount.root, "b") }
                != nil)
        #expect(try await mount.keys() == ["a/", "a/f", "b/"])
        #expect(try await mount.second().lookup(Mount.root, "b")?.permissions == 0o700)
    }

    @Test("Where one object may not be deleted after a rename, the rest of the old folder goes all the same")
    func keptByRefusal() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.maxDeleteKeys = 1
        let mount = try Mount(capabilities)
        let folder = try await mount.fs.mkdir(Mount.root, "a")
        try await mount.write("f", [1], in: folder)
        let inner = try await mount.fs.mkdir(folder, "x")
        try await mount.write("g", [2], in: inner)
        mount.faults.add(.delete, calls: 1...99, key: "a/f", .fail(.forbidden))
        let code = await failure { () async throws(VFSError) in
            try await mount.fs.rename(Mount.root, "a", Mount.root, "b")
        }
        #expect(code == .permissionDenied)
        #expect(try await mount.keys() == ["a/", "a/f", "b/", "b/f", "b/x/", "b/x/g"])
    }

    @Test("The time of a folder that has gone elsewhere does not bring it back")
    func goneElsewhere() async throws {
        let mount = try mount(false)
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        let (inode, handle) = try await mount.fs.create(folder, "f")
        try await mount.fs.close(inode, handle)
        try await mount.delete("d/f")
        try await mount.delete("d/")
        await mount.fs.drain()
        #expect(try await mount.keys().isEmpty)
    }
}
