import CloudMountCommit
import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Synchronization
import Testing

/// Directories of several pages.
@Suite("Long listings")
struct ListingTests {
    /// A directory `d` of seven files, three to a page.
    private func mount() async throws -> TestMount {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.maxListKeys = 3
        let mount = try TestMount(capabilities: capabilities)
        for index in 0..<7 { try await mount.put("d/f\(index)", [UInt8(index)]) }
        return mount
    }

    private let names = (0..<7).map { "f\($0)" }

    @Test("A page that comes late or fails does so where the listing is read, and nothing is missing the next time")
    func lateAndFailing() async throws {
        let mount = try await mount()
        let folder = try await mount.inode("d")
        mount.faults.add(.list, calls: 2...2, .delay(.milliseconds(100)))
        #expect(try await mount.fs.list(folder).map(\.name).sorted() == names)
        mount.remount()
        let again = try await mount.inode("d")
        mount.faults.add(.list, calls: 3...3, .fail(VFSError(.unavailable, "unplugged")))
        #expect(await failure { () async throws(VFSError) in try await mount.fs.list(again) } == .unavailable)
        mount.faults.clear()
        #expect(try await mount.fs.list(again).map(\.name).sorted() == names)
    }

    @Test("Pages of thousands are shown whole, and an object beside a folder of its name is hidden")
    func longPages() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.maxListKeys = 1500
        let mount = try TestMount(capabilities: capabilities)
        for index in 0..<3200 { try await mount.put("d/f\(index)", [1]) }
        for key in ["d/f2500/below", "d/g/below", "d/g"] { try await mount.put(key, [2]) }
        let folder = try await mount.inode("d")
        let names = try await mount.fs.list(folder).map(\.name)
        #expect(names.count == 3201)
        #expect(Set(names) == Set((0..<3200).map { "f\($0)" } + ["g"]))
        for name in ["f2500", "g"] { #expect(try await mount.attributes("d/\(name)")?.kind == .directory) }
        #expect(try await mount.attributes("d/f3199")?.size == 1)
        #expect(mount.fs.statistics().hiddenKeys == 2)
    }

    @Test("A first page of many folders and files, whose samples are awaited, is shown whole, each name once")
    func longFirstPage() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.maxListKeys = 10_000
        capabilities.listingCarriesMetadata = false
        let mount = try TestMount(capabilities: capabilities)
        for index in 0..<1500 { try await mount.put("d/f\(index)", [1], ObjectMetadata(user: ["mode": "0100640"])) }
        for index in 0..<1500 { try await mount.put("d/g\(index)/below", [1]) }
        try await mount.put("d/g7", [1])
        let folder = try await mount.inode("d")
        let names = try await mount.fs.list(folder).map(\.name)
        #expect(names.sorted() == ((0..<1500).map { "f\($0)" } + (0..<1500).map { "g\($0)" }).sorted())
        #expect(try await mount.attributes("d/f3")?.permissions == 0o640)
        #expect(mount.fs.statistics().hiddenKeys == 1)
    }

    @Test("A store that has one more folder in each is a tree that ends where its keys do")
    func endlessTree() async throws {
        let mount = try TestMount()
        let fs = MountedBucket(
            settings: mount.settings,
            provider: ScriptedListings(inner: mount.store) { request in
                // Every folder has another one, and nothing else.
                ListPage(commonPrefixes: [ObjectKey(request.prefix.string + "a/")])
            }, staging: mount.staging, memory: mount.memory)
        var folder = TestMount.root
        var depth = 0
        while try await fs.list(folder).map(\.name) == ["a"], depth < 1000 {
            let next = try #require(try await fs.lookup(folder, "a"))
            folder = next.inode
            depth += 1
        }
        #expect(depth == MemoryProvider.fullCapabilities.maxKeyBytes / 2)
    }

    @Test("Names of characters that go with the slash beside them are names", arguments: ["\u{301}x", "x\u{600}"])
    func joined(name: String) async throws {
        let mount = try TestMount()
        try await mount.put("d/\(name)", [1])
        try await mount.put("e/\(name)/f", [2])
        let (d, e) = (try await mount.inode("d"), try await mount.inode("e"))
        func names(_ inode: InodeID) async throws -> [[UInt8]] {
            try await mount.fs.list(inode).map { Array($0.name.utf8) }
        }
        for inode in [d, e] { #expect(try await names(inode) == [Array(name.utf8)]) }
        #expect(try await mount.read("d/\(name)") == [1])
        // Renamed, a file and a directory, and read under the new names.
        try await mount.write("g", [3])
        try await mount.fs.rename(TestMount.root, "g", e, name + "g")
        try await mount.fs.rename(e, name, d, name + "d")
        #expect(try await Set(names(d)) == [Array(name.utf8), Array((name + "d").utf8)])
        #expect(try await names(e) == [Array((name + "g").utf8)])
        #expect(try await mount.read("e/\(name)g") == [3])
        mount.remount()
        let below = try await mount.inode("d")
        let moved = try #require(try await mount.fs.lookup(below, name + "d"))
        #expect(try await names(moved.inode) == [[102]])
        try await mount.fs.unlink(moved.inode, "f")
        try await mount.fs.rmdir(below, name + "d")
        #expect(try await mount.keys("d/").map { Array($0.utf8) } == [Array("d/\(name)".utf8)])
    }

    /// A store whose folders go on for very long, ten files to a page.
    private func endless(
        mostOfDirectory: Int = 1 << 30, budget: NameBudget = .shared,
        _ beforePage: @escaping @Sendable (Int) async -> Void = { _ in }
    ) throws -> (TestMount, MountedBucket) {
        let mount = try TestMount { ($0.mostOfDirectory, $0.names) = (mostOfDirectory, budget) }
        let listings = ScriptedListings(inner: mount.store) { request in
            let page = request.continuation.flatMap { Int($0) } ?? 0
            await beforePage(page)
            let objects = (0..<10).map { number in
                ObjectInfo(
                    key: request.prefix + ObjectKey("f\(1_000_000 + page * 10 + number)"), size: 0, etag: ETag("e"),
                    stored: Timestamp(seconds: 0))
            }
            return ListPage(objects: objects, continuation: page < 2000 ? "\(page + 1)" : nil)
        }
        let fs = MountedBucket(
            settings: mount.settings, provider: TrafficLayer(inner: listings, traffic: mount.traffic),
            staging: mount.staging, memory: mount.memory, clock: mount.time.clock)
        return (mount, fs)
    }

    @Test("A directory that goes on for ever ends in an error for who reads it, at the limit")
    func endlessDirectory() async throws {
        let (mount, fs) = try endless(mostOfDirectory: 256 << 10)
        #expect(await failure { () async throws(VFSError) in try await fs.list(TestMount.root) } == .tooLarge)
        #expect(mount.traffic[.list] < 200)
    }

    @Test("Directories that are open share what names may take, and give it back when they are closed")
    func sharedRoom() async throws {
        let budget = NameBudget(limit: 100 << 10, free: 0, patience: .zero)
        let mount = try TestMount { $0.names = budget }
        for folder in ["a", "b"] {
            for number in 0..<250 { try await mount.put("\(folder)/\(number)", []) }
        }
        let (a, b) = (try await mount.inode("a"), try await mount.inode("b"))
        let handle = try await mount.fs.opendir(a)
        #expect(try await mount.fs.list(a).count == 250)
        #expect(budget.used > 250 * 200)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.list(b) } == .tooLarge)
        try await mount.fs.releasedir(a, handle)
        #expect(budget.used == 0)
        #expect(try await mount.fs.list(b).count == 250)
        #expect(budget.used == 0)
    }

    @Test("A listing that is given up gives back what it had")
    func givenUpRoom() async throws {
        let budget = NameBudget(limit: 1 << 20, free: 0, patience: .zero)
        let gate = Gate()
        let (mount, fs) = try endless(budget: budget) { page in if page >= 5 { await gate.wait() } }
        let handle = try await fs.opendir(TestMount.root)
        await settled { mount.traffic[.list] >= 6 && budget.used > 0 }
        try await fs.releasedir(TestMount.root, handle)
        gate.open()
        await settled { mount.traffic[.list] >= 10 && budget.used == 0 }
        #expect(mount.traffic[.list] >= 10 && budget.used == 0)
    }

    @Test("Nobody reads it: the listing of an open directory ends by itself, and who reads it later sees it whole")
    func unread() async throws {
        let (mount, fs) = try endless()
        let handle = try await fs.opendir(TestMount.root)
        await settled { mount.traffic[.list] >= 10 }
        try? await Task.sleep(for: .milliseconds(300))
        #expect(mount.traffic[.list] <= 11)
        #expect(try await fs.list(TestMount.root).count == 20_010)
        try await fs.releasedir(TestMount.root, handle)
    }

    @Test("Many who have a long directory open share one list of its names")
    func sharedList() async throws {
        let mount = try TestMount()
        for number in 0..<2000 { try await mount.put("\(number)", []) }
        _ = try await mount.fs.list(TestMount.root)
        // More names than all lists of a mount may have.
        var handles: [HandleID] = []
        for _ in 0..<10_000 {
            let handle = try await mount.fs.opendir(TestMount.root)
            #expect(try await !mount.fs.readdir(TestMount.root, handle, from: 0, capacity: 3).isEmpty)
            handles.append(handle)
        }
        try await mount.write("new", [1])
        #expect(try await mount.fs.list(TestMount.root).count == 2001)
        for handle in handles { try await mount.fs.releasedir(TestMount.root, handle) }
    }

    @Test("Who reads the beginning and closes ends the listing")
    func closedEarly() async throws {
        let gate = Gate()
        let (mount, fs) = try endless { page in if page >= 15 { await gate.wait() } }
        let handle = try await fs.opendir(TestMount.root)
        #expect(try await !fs.readdir(TestMount.root, handle, from: 0, capacity: 30).isEmpty)
        await settled { mount.traffic[.list] >= 16 }
        try await fs.releasedir(TestMount.root, handle)
        gate.open()
        try? await Task.sleep(for: .milliseconds(300))
        #expect(16...18 ~= mount.traffic[.list])
    }

    @Test("Of a key that no store could have, the beginning is counted and shown")
    func endlessKey() async throws {
        let mount = try TestMount()
        let fs = MountedBucket(
            settings: mount.settings,
            provider: ScriptedListings(inner: mount.store) { request in
                var page = ListPage()
                let key = request.prefix + ObjectKey(String(repeating: "x", count: 1 << 20))
                page.objects = [ObjectInfo(key: key, size: 0, etag: ETag("e"), stored: Timestamp(seconds: 0))]
                return page
            }, staging: mount.staging, memory: mount.memory)
        #expect(try await fs.list(TestMount.root).isEmpty)
        let seen = fs.statistics()
        #expect(seen.hiddenKeys == 1)
        #expect(seen.hiddenKeyExamples.allSatisfy { $0.utf8.count < 4096 })
    }

    @Test("A directory that is renamed there and back while it is being listed is shown whole")
    func renamedMeanwhile() async throws {
        for late in 1...3 {
            let mount = try await mount()
            let folder = try await mount.inode("d")
            mount.traffic.reset()
            mount.faults.add(.list, calls: late...late, .delay(.milliseconds(100)))
            async let listed = outcome { () async throws(VFSError) in
                try await mount.fs.list(folder).map(\.name).sorted()
            }
            await settled { mount.traffic[.list] >= late - 1 }
            try await mount.fs.rename(TestMount.root, "d", TestMount.root, "e")
            try await mount.fs.rename(TestMount.root, "e", TestMount.root, "d")
            #expect(try await listed.get() == names)
            #expect(try await mount.fs.list(folder).map(\.name).sorted() == names)
            for index in 0..<7 { #expect(try await mount.read("d/f\(index)") == [UInt8(index)]) }
        }
    }
}

/// A store whose listings are the test's.
struct ScriptedListings: ProviderLayer {
    let inner: any ObjectProvider
    let answer: @Sendable (ListRequest) async throws(VFSError) -> ListPage

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value { try await body(inner) }

    func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        try await answer(request)
    }
}

/// Closed until it is opened.
private final class Gate: Sendable {
    private let isOpen = Atomic(false)

    func open() { isOpen.store(true, ordering: .releasing) }
    func wait() async { await settled { isOpen.load(ordering: .acquiring) } }
}
