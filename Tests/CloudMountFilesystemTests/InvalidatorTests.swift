import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Synchronization
import Testing

@Suite("What is believed, dropped")
struct InvalidatorTests {
    private final class Kernel: KernelNotifier {
        private let told = Mutex<(entries: [String], inodes: Set<InodeID>)>(([], []))
        var entries: [String] { told.withLock { $0.entries } }
        var inodes: Set<InodeID> { told.withLock { $0.inodes } }
        func reset() { told.withLock { $0 = ([], []) } }

        func invalidateEntry(parent: InodeID, name: FileName) { told.withLock { $0.entries.append(name.string) } }
        func invalidateInode(_ inode: InodeID, extent: Extent?) { told.withLock { _ = $0.inodes.insert(inode) } }
        func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool) {
            told.withLock { $0.entries.append(name.string) }
        }
        func expireAttributes(_ inode: InodeID) { told.withLock { _ = $0.inodes.insert(inode) } }
    }

    /// `a/f0` to `a/f4`, `a/b/f0` to `a/b/f4` and `c`, all known and believed for an hour.
    private func make(_ kernel: Kernel = Kernel()) async throws -> TestMount {
        let mount = try TestMount {
            $0.policy.metadataTTL = .seconds(3600)
            $0.policy.negativeTTL = .seconds(3600)
        }
        for folder in ["a", "a/b"] {
            for index in 0..<5 { try await mount.put("\(folder)/f\(index)", pattern(10)) }
        }
        try await mount.put("c", pattern(10))
        for folder in ["", "a", "a/b"] {
            _ = try await mount.fs.list(folder.isEmpty ? TestMount.root : mount.inode(folder))
        }
        mount.fs.attach(kernel)
        return mount
    }

    private func change(_ mount: TestMount) async throws {
        for key in ["a/f1", "a/b/f1", "c"] { try await mount.put(key, pattern(77)) }
        for key in ["a/new", "a/b/new", "new"] { try await mount.put(key, pattern(5)) }
        _ = try await mount.store.delete([DeleteRequest("a/f2"), DeleteRequest("a/b/f2")])
    }

    private func sees(_ mount: TestMount, _ folder: String) async throws -> [String: Int] {
        var all: [String: Int] = [:]
        for name in ["f1", "f2", "new"] { all[name] = try await mount.attributes("\(folder)/\(name)")?.size ?? -1 }
        return all
    }

    private let old: [String: Int] = ["f1": 10, "f2": 10, "new": -1]
    private let new: [String: Int] = ["f1": 77, "f2": -1, "new": 5]

    @Test("A folder shows what the store has, with all below it; what is beside it is still believed")
    func folder() async throws {
        let kernel = Kernel()
        let mount = try await make(kernel)
        try await change(mount)
        #expect(try await sees(mount, "a") == old)
        #expect(try await sees(mount, "a/b") == old)
        await mount.fs.upkeep.invalidator.invalidate("a/b")
        #expect(try await sees(mount, "a/b") == new)
        for name in ["f1", "f2"] { #expect(try await mount.attributes("a/\(name)")?.size == 10) }
        #expect(try await mount.attributes("c")?.size == 10)
        // The kernel had not seen any name of it but those that were looked up.
        #expect(Set(kernel.entries).isSuperset(of: ["b", "f1", "f2"]))
        #expect(try await kernel.inodes.contains(mount.inode("a/b/f1")))
        await mount.fs.upkeep.invalidator.invalidate("a")
        #expect(try await sees(mount, "a") == new)
        #expect(try await mount.attributes("c")?.size == 10)
        #expect(try await mount.fs.list(mount.inode("a")).map(\.name).sorted() == ["b", "f0", "f1", "f3", "f4", "new"])
    }

    @Test("All of a mount, a file alone, a name that is not there, and a folder that nobody knew")
    func others() async throws {
        let mount = try await make()
        try await change(mount)
        #expect(try await sees(mount, "a") == old)
        #expect(try await mount.attributes("new") == nil)
        await mount.fs.upkeep.invalidator.invalidate("new")
        #expect(try await mount.attributes("new")?.size == 5)
        await mount.fs.upkeep.invalidator.invalidate("a/f1")
        #expect(try await mount.attributes("a/f1")?.size == 77)
        #expect(try await mount.attributes("a/f2")?.size == 10)
        #expect(try await mount.attributes("x/y") == nil)
        try await mount.put("x/y", [1])
        #expect(try await mount.attributes("x/y") == nil)
        await mount.fs.upkeep.invalidator.invalidate("x/y")
        #expect(try await mount.attributes("x/y")?.size == 1)
        await mount.fs.upkeep.invalidator.invalidate("")
        #expect(try await sees(mount, "a") == new)
        #expect(try await sees(mount, "a/b") == new)
        #expect(try await mount.attributes("c")?.size == 77)
    }

    @Test("Who knows the version that is there drops nothing where it is the one that is known")
    func version() async throws {
        let mount = try await make()
        let known = try await mount.store.head("c").etag
        mount.traffic.reset()
        await mount.fs.upkeep.invalidator.invalidate("c", etag: known)
        #expect(try await mount.attributes("c")?.size == 10)
        #expect(mount.traffic.total == 0)
        try await change(mount)
        await mount.fs.upkeep.invalidator.invalidate("c", etag: try await mount.store.head("c").etag)
        #expect(try await mount.attributes("c")?.size == 77)
    }

    @Test("What is open stays the version that it is, and what is not stored is lost by none of it")
    func held() async throws {
        let mount = try await make()
        let inode = try await mount.inode("a/f0")
        let reader = try await mount.fs.open(inode)
        let (written, writer) = try await mount.fs.create(try await mount.inode("a"), "mine", flags: 0o1001)
        try await mount.fs.write(written, writer, 0, pattern(33))
        await mount.fs.upkeep.invalidator.invalidate("")
        #expect(try await mount.attributes("a/mine")?.size == 33)
        #expect(try await mount.fs.read(inode, reader, 0, 100) == pattern(10))
        try await mount.fs.close(written, writer)
        try await mount.fs.close(inode, reader)
        #expect(try await mount.object("a/mine") == pattern(33))
    }

    @Test("Of a folder of thousands no name is left out")
    func long() async throws {
        let mount = try await make()
        await mount.fs.upkeep.invalidator.invalidate("long")
        for index in 0..<5000 { try await mount.put("long/f\(index)", [1]) }
        let folder = try await mount.inode("long")
        #expect(try await mount.fs.list(folder).count == 5000)
        mount.traffic.reset()
        await mount.fs.upkeep.invalidator.invalidate("long")
        for index in 0..<3 { try await mount.put("long/f\(index * 2000)", [1, 2]) }
        for index in 0..<3 { #expect(try await mount.attributes("long/f\(index * 2000)")?.size == 2) }
        #expect(mount.traffic.total > 0)
    }
}
