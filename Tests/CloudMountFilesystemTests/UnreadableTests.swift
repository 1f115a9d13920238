import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Synchronization
import Testing

/// Objects of which the store tells less than others: they are there for all that, and nobody takes them for gone.
@Suite("Objects that the store cannot or will not describe")
struct UnreadableTests {
    /// A folder `d` with `a` and `b`; of `b` listings tell the key alone.
    private func mount() async throws -> (TestMount, MountedBucket, UnreadableLayer) {
        let mount = try TestMount()
        let layer = UnreadableLayer(FaultLayer(mount.store, mount.faults))
        let fs = MountedBucket(
            settings: mount.settings, provider: layer, staging: mount.staging, memory: mount.memory)
        try await mount.put("d/a", [1])
        try await mount.put("d/b", [2, 2])
        return (mount, fs, layer)
    }

    private func names(_ fs: MountedBucket, _ folder: InodeID) async throws -> [String] {
        try await fs.list(folder).map(\.name).sorted()
    }

    @Test("An entry that cannot be read hides no other, is counted, and is found by its name")
    func listed() async throws {
        let (_, fs, layer) = try await mount()
        layer.hide("d/b")
        let folder = try #require(try await fs.lookup(TestMount.root, "d")).inode
        #expect(try await names(fs, folder) == ["a"])
        #expect(fs.statistics().hiddenKeys == 1)
        #expect(
            await failure { () async throws(VFSError) in try await fs.create(folder, "b", flags: 0o301) }
                == .alreadyExists)
        #expect(try await fs.lookup(folder, "b")?.size == 2)
        #expect(fs.statistics().hiddenKeys == 0)
        // What is known of it is shown.
        #expect(try await names(fs, folder) == ["a", "b"])
    }

    @Test("A folder with nothing but unreadable entries is a folder, and not an empty one")
    func notEmpty() async throws {
        let (mount, fs, layer) = try await mount()
        layer.hide("d/b")
        _ = try await mount.store.delete([DeleteRequest("d/a")])
        let folder = try #require(try await fs.lookup(TestMount.root, "d")).inode
        #expect(try await names(fs, folder) == [])
        #expect(await failure { () async throws(VFSError) in try await fs.rmdir(TestMount.root, "d") } == .notEmpty)
        #expect(try await mount.keys() == ["d/b"])
    }

    @Test("A folder that cannot be moved whole is not moved, and nothing is moved over one")
    func renames() async throws {
        let (mount, fs, layer) = try await mount()
        layer.hide("d/b")
        _ = try await fs.lookup(TestMount.root, "d")
        let moved = await failure { () async throws(VFSError) in
            try await fs.rename(TestMount.root, "d", TestMount.root, "e")
        }
        #expect(moved != nil)
        #expect(try await mount.keys() == ["d/a", "d/b"])
        _ = try await mount.store.delete([DeleteRequest("d/a")])
        try await mount.put("f/a", [3])
        let over = await failure { () async throws(VFSError) in
            try await fs.rename(TestMount.root, "f", TestMount.root, "d")
        }
        #expect(over == .notEmpty)
        #expect(try await mount.keys() == ["d/b", "f/a"])
    }

    // MARK: Refused

    private static let refusal = VFSError(.permissionDenied, "encrypted with another key")

    /// A folder `d` with `a`, which has a mode, and `x`, which may not be looked at.
    private func refusing() async throws -> (TestMount, folder: InodeID) {
        let mount = try TestMount()
        try await mount.put("d/a", [1], ObjectMetadata(user: ["mode": "33152"]))
        try await mount.put("d/x", pattern(1234), ObjectMetadata(user: ["mode": "33152"]))
        mount.faults.add(.head, calls: 1...999, key: "d/x", .fail(Self.refusal))
        mount.faults.add(.read, calls: 1...999, key: "d/x", .fail(Self.refusal))
        return (mount, try await mount.inode("d"))
    }

    @Test("An object that may not be looked at is listed, and shown as its listing knows it")
    func shown() async throws {
        let (mount, folder) = try await refusing()
        #expect(try await mount.attributes("d/x")?.size == 1234)
        #expect(try await mount.fs.list(folder).map(\.name).sorted() == ["a", "x"])
        let inode = try #require(try await mount.fs.lookup(folder, "x")).inode
        #expect(try await mount.fs.getattr(inode).size == 1234)
        let error = await #expect(throws: VFSError.self) { try await mount.read("d/x") }
        #expect(error?.code == .permissionDenied)
    }

    @Test("What nobody has seen of it is not replaced by guesses")
    func unchanged() async throws {
        let (mount, folder) = try await refusing()
        let inode = try #require(try await mount.fs.lookup(folder, "x")).inode
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.setattr(inode) { $0.permissions = 0o644 }
            } == .permissionDenied)
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.setxattr(inode, "user.a", [1])
            } == .permissionDenied)
        mount.faults.clear()
        #expect(try await mount.store.head("d/x").metadata?.user == ["mode": "33152"])
        #expect(try await mount.attributes("d/x")?.permissions == 0o600)
    }

    @Test("It can be renamed and removed where the store lets it")
    func removed() async throws {
        let (mount, folder) = try await refusing()
        try await mount.fs.rename(folder, "x", folder, "y")
        #expect(try await mount.keys("d/") == ["d/a", "d/y"])
        #expect(try await mount.store.head("d/y").metadata?.user["mode"] == "33152")
        mount.faults.add(.head, calls: 1...999, key: "d/y", .fail(Self.refusal))
        mount.remount()
        let again = try await mount.inode("d")
        #expect(try await mount.attributes("d/y")?.size == 1234)
        try await mount.fs.unlink(again, "y")
        #expect(try await mount.keys("d/") == ["d/a"])
    }

    @Test("A refusal of a name that no listing shows stays a refusal")
    func refused() async throws {
        let (mount, folder) = try await refusing()
        mount.faults.add(.head, calls: 1...999, key: "d/z", .fail(Self.refusal))
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.lookup(folder, "z") } == .permissionDenied)
    }
}

/// Listings tell nothing but the key of some objects.
private final class UnreadableLayer: ProviderLayer {
    let inner: any ObjectProvider
    private let hidden = Mutex<Set<ObjectKey>>([])

    init(_ inner: any ObjectProvider) { self.inner = inner }

    func hide(_ key: ObjectKey) { hidden.withLock { _ = $0.insert(key) } }

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value { try await body(inner) }

    func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        var page = try await inner.list(request)
        let hidden = hidden.withLock { $0 }
        page.unreadable = page.objects.map(\.key).filter(hidden.contains)
        page.objects.removeAll { hidden.contains($0.key) }
        guard page.unreadable.isEmpty || request.takesUnreadable else {
            throw VFSError(.malformedResponse, "an entry that cannot be read")
        }
        return page
    }
}
