import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

/// What it costs to look at files where listings say all of them.
@Suite("Metadata in listings")
struct ListedMetadataTests {
    private static let attributes = ObjectMetadata(modified: Timestamp(seconds: 1000), user: ["mode": "0100600"])

    private func mount(_ adjust: (inout Capabilities) -> Void = { _ in }) throws -> TestMount {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.listingCarriesMetadata = true
        adjust(&capabilities)
        return try TestMount(capabilities: capabilities)
    }

    @Test("A long listing of a directory asks for nothing but its pages")
    func longListing() async throws {
        let mount = try mount()
        for number in 0..<300 { try await mount.put("f\(number)", [1], Self.attributes) }
        let entries = try await mount.fs.list(TestMount.root)
        #expect(entries.filter { $0.name.hasPrefix("f") }.count == 300)
        let mode = try await mount.attributes("f7")?.permissions
        #expect(mode == 0o600)
        #expect(mount.traffic[.head] == 0)
        #expect(mount.traffic[.list] == 1)
    }

    @Test("Directories without markers beside files with attributes are not looked at one by one")
    func unmarkedDirectories() async throws {
        let mount = try mount()
        for number in 0..<50 {
            try await mount.put("f\(number)", [1], Self.attributes)
            try await mount.put("d\(number)/x", [1], Self.attributes)
        }
        _ = try await mount.fs.list(TestMount.root)
        await settled { mount.traffic[.head] == 2 }
        #expect(mount.traffic[.head] == 2, "the first and the last, as a sample")
    }

    @Test("A lookup is one request, whether the name is a file or nothing", arguments: ["file", "absent"])
    func lookups(name: String) async throws {
        let mount = try mount()
        try await mount.put("file", [1], Self.attributes)
        try await mount.put("file.txt", [1])
        let found = try await mount.fs.lookup(TestMount.root, name)
        #expect((found != nil) == (name == "file"))
        #expect(found?.permissions == (name == "file" ? 0o600 : nil))
        #expect(mount.traffic.total == 1)
        #expect(mount.traffic[.list] == 1)
    }

    @Test("A directory is found by one more, with the attributes of its marker")
    func directories() async throws {
        let mount = try mount()
        try await mount.put("d/", [], ObjectMetadata(user: ["mode": "040700"]))
        try await mount.put("d/!first", [1])
        let found = try await mount.fs.lookup(TestMount.root, "d")
        #expect(found?.kind == .directory)
        #expect(found?.permissions == 0o700)
        #expect(mount.traffic.total == 2)
        #expect(mount.traffic[.list] == 1)
    }

    @Test("A directory is found behind any number of names that sort before its slash")
    func crowded() async throws {
        let mount = try mount()
        for number in 0..<150 { try await mount.put("name-\(number)", [1]) }
        try await mount.put("name/x", [1])
        try await mount.put("name", [1])
        #expect(try await mount.fs.lookup(TestMount.root, "name")?.kind == .directory)
        #expect(mount.traffic[.list] == 2)
        #expect(try await mount.fs.lookup(TestMount.root, "nam") == nil)
        #expect(mount.traffic[.list] == 3)
    }

    @Test("What stays readable by its version is not fetched when it is unlinked while open")
    func unlinkedWhileOpen() async throws {
        for keeps in [false, true] {
            let mount = try mount { $0.deleteKeepsVersion = keeps }
            try await mount.put("f", pattern(100_000))
            let inode = try await mount.inode("f")
            let handle = try await mount.fs.open(inode)
            mount.traffic.reset()
            try await mount.fs.unlink(TestMount.root, "f")
            #expect(mount.traffic[.read] == (keeps ? 0 : 1))
            try await mount.fs.close(inode, handle)
        }
    }

    @Test("Where looks are cheap, a name is looked up without a listing of those that begin alike")
    func cheapLooks() async throws {
        let mount = try mount { $0.cheapLooks = true }
        try await mount.put("f", [1])
        try await mount.put("d/x", [1])
        for (name, isThere) in [("f", true), ("d", true), ("none", false)] {
            mount.traffic.reset()
            #expect((try await mount.attributes(name) != nil) == isThere)
            #expect(mount.traffic.keys(.head) == [name] && mount.traffic.keys(.list) == [name + "/"])
        }
    }
}
