import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Synchronization
import Testing

/// `poll`: what changes elsewhere in a directory that is in use is seen, however long names are believed.
@Suite("Polling")
struct PollTests {
    private final class Kernel: KernelNotifier {
        private let told = Mutex<(entries: [String], inodes: Set<InodeID>)>(([], []))
        var entries: Set<String> { Set(told.withLock { $0.entries }) }
        var inodes: Set<InodeID> { told.withLock { $0.inodes } }
        func reset() { told.withLock { $0 = ([], []) } }

        func invalidateEntry(parent: InodeID, name: FileName) { told.withLock { $0.entries.append(name.string) } }
        func invalidateInode(_ inode: InodeID, extent: Extent?) { told.withLock { _ = $0.inodes.insert(inode) } }
        func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool) {
            told.withLock { $0.entries.append(name.string) }
        }
        func expireAttributes(_ inode: InodeID) { told.withLock { _ = $0.inodes.insert(inode) } }
    }

    private let time = HeldClock()
    private let kernel = Kernel()

    /// Names are believed for an hour; turns are made by the test alone.
    private func make(
        poll: Duration = .seconds(30), pages: Int = 1000, wrap: (any ObjectProvider) -> any ObjectProvider = { $0 }
    ) throws -> TestMount {
        var clock = time.clock
        clock.sleep = { _ in try? await Task.sleep(for: .seconds(86_400)) }
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.maxListKeys = pages
        capabilities.listingCarriesMetadata = false
        let mount = try TestMount(
            capabilities: capabilities, clock: clock,
            {
                $0.policy.metadataTTL = .seconds(3600)
                $0.policy.negativeTTL = .seconds(3600)
                $0.policy.poll = poll
            }, wrap: wrap)
        mount.fs.attach(kernel)
        return mount
    }

    /// As much later as a turn is due.
    private func turn(_ mount: TestMount, after pause: Duration = .seconds(30)) async {
        time.advance(pause)
        await mount.fs.upkeep.poller.turn()
    }

    private func fill(_ mount: TestMount, _ folder: String, _ count: Int = 4) async throws {
        for index in 0..<count { try await mount.put("\(folder)/f\(index)", pattern(10)) }
    }

    @Test("What came, changed and went elsewhere is seen after one listing; the kernel is told of that alone")
    func changes() async throws {
        let mount = try make()
        try await fill(mount, "a")
        try await fill(mount, "a/gone")
        _ = try await mount.fs.list(mount.inode("a"))
        for name in ["f0", "f1", "f2", "f3", "gone"] { #expect(try await mount.attributes("a/\(name)") != nil) }
        for name in ["new", "folder", "nothing"] { #expect(try await mount.attributes("a/\(name)") == nil) }
        try await mount.put("a/f1", pattern(77))
        try await mount.put("a/new", pattern(5))
        try await mount.put("a/folder/x", pattern(5))
        _ = try await mount.store.delete(
            [DeleteRequest("a/f2")] + (0..<4).map { DeleteRequest(ObjectKey("a/gone/f\($0)")) })
        #expect(try await mount.attributes("a/f1")?.size == 10)
        #expect(try await mount.attributes("a/new") == nil)
        kernel.reset()
        mount.traffic.reset()
        await turn(mount)
        #expect(kernel.entries == ["f1", "new", "folder", "f2", "gone"])
        // The root is in use too, for names are looked up in it.
        #expect(mount.traffic.total == 2 && mount.traffic[.list] == 2)
        #expect(try await mount.attributes("a/f1")?.size == 77)
        #expect(try await mount.attributes("a/new")?.size == 5)
        #expect(try await mount.attributes("a/folder")?.kind == .directory)
        for name in ["f2", "gone", "nothing"] { #expect(try await mount.attributes("a/\(name)") == nil) }
        #expect(try await mount.attributes("a/f0")?.size == 10)
        #expect(mount.fs.statistics().poll?.changes == 5)
        // All is known again: nothing more is told.
        kernel.reset()
        await turn(mount)
        #expect(kernel.entries == [])
    }

    @Test("What is open has its directory looked at for hours; where nobody looks any more nothing is asked")
    func use() async throws {
        let mount = try make()
        try await fill(mount, "a")
        try await fill(mount, "b")
        try await fill(mount, "c")
        let (file, handle) = try await mount.open("a/f1")
        let folder = try await mount.inode("b")
        let open = try await mount.fs.opendir(folder)
        _ = try await mount.inode("c/f1")
        for _ in 0..<12 { await turn(mount) }
        mount.traffic.reset()
        await turn(mount, after: .seconds(7200))
        #expect(Set(mount.traffic.keys(.list)) == ["a/", "b/"])
        try await mount.put("a/f1", pattern(20))
        await turn(mount)
        #expect(try await mount.attributes("a/f1")?.size == 20)
        try await mount.fs.close(file, handle)
        try await mount.fs.ask { mount.fs.releasedir(folder, handle: open, reply: $0) }
        await turn(mount, after: .seconds(7200))
        mount.traffic.reset()
        for _ in 0..<20 { await turn(mount, after: .seconds(3600)) }
        #expect(mount.traffic.total == 0)
        #expect(mount.fs.statistics().poll?.directories == 0)
    }

    @Test("The kernel asks again, from memory, before a directory that somebody watches counts as unused")
    func kernelAsksAgain() async throws {
        let mount = try make()
        try await fill(mount, "a")
        let folder = try await mount.inode("a")
        _ = try await mount.fs.list(folder)
        #expect(try await mount.fs.entry(folder, "f1").validFor <= .seconds(150))
        #expect(try await mount.fs.entry(folder, "none").validFor <= .seconds(150))
        for _ in 0..<10 {
            time.advance(.seconds(150))
            mount.traffic.reset()
            #expect(try await mount.attributes("a/f1") != nil)
            #expect(mount.traffic.total == 0)
            await mount.fs.upkeep.poller.turn()
            #expect(mount.traffic[.list] == 2)
        }
    }

    @Test("No more than 60 requests a minute are made: what does not fit has its turn, those that waited longest first")
    func bound() async throws {
        let mount = try make()
        let folders = (0..<100).map { "d\($0)" }
        for folder in folders { try await mount.put("\(folder)/f", pattern(1)) }
        for folder in folders {
            let inode = try await mount.inode(folder)
            _ = try await mount.fs.opendir(inode)
            _ = try await mount.fs.list(inode)
        }
        var seen: [String: Int] = [:]
        for minute in 1...5 {
            mount.traffic.reset()
            for _ in 0..<10 { await turn(mount, after: .seconds(6)) }
            let keys = mount.traffic.keys(.list)
            #expect(keys.count <= 60 && keys.count > 50, "minute \(minute): \(keys.count)")
            for key in keys { seen[key, default: 0] += 1 }
        }
        // 300 requests for 100 folders and, for a while, the root.
        #expect(folders.allSatisfy { seen["\($0)/"] ?? 0 >= 2 })
        #expect(mount.fs.statistics().poll?.behind ?? .zero > .seconds(30))
    }

    @Test("A directory of many pages is compared whole, page by page, and others have their turn meanwhile")
    func pages() async throws {
        let mount = try make(pages: 3)
        try await fill(mount, "long", 60)
        try await fill(mount, "short", 2)
        for folder in ["short", "long"] { _ = try await mount.fs.list(mount.inode(folder)) }
        for index in [0, 59] { _ = try await mount.inode("long/f\(index)") }
        try await mount.put("long/f0", pattern(20))
        try await mount.put("long/z", pattern(20))
        _ = try await mount.store.delete([DeleteRequest("long/f59")])
        #expect(try await mount.attributes("long/f59") != nil)
        kernel.reset()
        for _ in 0..<4 { await turn(mount) }
        #expect(kernel.entries.isSuperset(of: ["f0", "f59"]))
        #expect(try await mount.attributes("long/f0")?.size == 20)
        #expect(try await mount.attributes("long/z")?.size == 20)
        #expect(try await mount.attributes("long/f59") == nil)
    }

    @Test("No poll while the store is cut off or the policy has none; a reload begins and ends it")
    func cutOff() async throws {
        let mount = try make(poll: .zero)
        try await fill(mount, "a")
        _ = try await mount.fs.list(mount.inode("a"))
        mount.traffic.reset()
        await turn(mount)
        #expect(mount.traffic.total == 0 && mount.fs.statistics().poll == nil)
        var settings = mount.fs.settings()
        settings.policy.poll = .seconds(10)
        mount.fs.update(settings)
        _ = try await mount.inode("a/f1")
        await turn(mount)
        #expect(mount.traffic[.list] > 0)
        // Who could not be asked is not asked for the others either, and nothing is taken for gone.
        mount.faults.add(.list, calls: 1...100, .fail(VFSError(.unavailable, "gone")))
        mount.traffic.reset()
        kernel.reset()
        let before = mount.faults.calls(.list)
        await turn(mount)
        #expect(mount.faults.calls(.list) == before + 1)
        #expect(try await mount.attributes("a/f1") != nil)
        #expect(kernel.entries == [])
        mount.faults.clear()
        settings.policy.poll = .zero
        mount.fs.update(settings)
        mount.traffic.reset()
        await turn(mount)
        #expect(mount.traffic.total == 0)
    }

    @Test("What this mount has changed meanwhile, or has not stored yet, is neither undone nor lost by an older answer")
    func older() async throws {
        let meanwhile = Meanwhile()
        let mount = try make { MeanwhileLayer(inner: $0, meanwhile: meanwhile) }
        try await fill(mount, "a")
        let folder = try await mount.inode("a")
        _ = try await mount.fs.list(folder)
        let (inode, handle) = try await mount.fs.create(folder, "mine", flags: 0o1001)
        try await mount.fs.write(inode, handle, 0, pattern(33))
        try await mount.put("a/mine", pattern(3))
        // While the answer is on its way a name goes, one comes, one is written.
        let done = Meanwhile.Done()
        meanwhile.next("a/") {
            do {
                try await mount.fs.unlink(folder, "f1")
                try await mount.write("fresh", pattern(7), in: folder)
                try await mount.write("f2", pattern(8), in: folder)
                done.isSo.store(true, ordering: .relaxed)
            } catch {}
        }
        await turn(mount)
        let isDone = done.isSo.load(ordering: .relaxed)
        #expect(isDone)
        #expect(try await mount.attributes("a/f1") == nil)
        #expect(try await mount.attributes("a/fresh")?.size == 7)
        #expect(try await mount.attributes("a/f2")?.size == 8)
        #expect(try await mount.attributes("a/mine")?.size == 33)
        #expect(try await mount.fs.read(inode, handle, 0, 100) == pattern(33))
        try await mount.fs.close(inode, handle)
    }
}

/// What happens between a listing's being made and its being heard of.
private final class Meanwhile: Sendable {
    final class Done: Sendable { let isSo = Atomic(false) }

    private let action = Mutex<(key: String, run: @Sendable () async -> Void)?>(nil)

    func next(_ key: String, _ run: @escaping @Sendable () async -> Void) { action.withLock { $0 = (key, run) } }

    func take(_ key: ObjectKey?) -> (@Sendable () async -> Void)? {
        action.withLock { action in
            guard let due = action, due.key == key?.string else { return nil }
            action = nil
            return due.run
        }
    }
}

private struct MeanwhileLayer: ProviderLayer {
    let inner: any ObjectProvider
    let meanwhile: Meanwhile

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        let value = try await body(inner)
        if call.verb == .list { await meanwhile.take(call.key)?() }
        return value
    }
}
