import CloudMountFilesystem
import CloudMountLayers
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import MemoryProvider
import MountHarness
import Synchronization
import Testing

/// Each setting of a policy, seen by what it asks of the store, and changed while the mount is in use.
@Suite("Policies")
struct PolicyTests {
    private func mount(_ adjust: (inout CachePolicy) -> Void = { _ in }) throws -> TestMount {
        try TestMount { adjust(&$0.policy) }
    }

    private func change(_ mount: TestMount, _ adjust: (inout CachePolicy) -> Void) {
        var settings = mount.fs.settings()
        adjust(&settings.policy)
        mount.fs.update(settings)
    }

    /// What `work` asks of the store.
    private func requests(_ mount: TestMount, _ work: () async throws -> Void) async throws -> Int {
        mount.traffic.reset()
        try await work()
        return mount.traffic.total
    }

    private func lookUp(_ mount: TestMount, _ name: String = "a") async throws {
        #expect(try await mount.fs.lookup(TestMount.root, name) != nil)
    }

    private func openAndClose(_ mount: TestMount, _ inode: InodeID) async throws -> Bool {
        let reply: OpenReply = try await mount.fs.ask {
            mount.fs.open(inode, flags: 0, caller: TestMount.caller, reply: $0)
        }
        try await mount.fs.close(inode, reply.handle)
        return reply.keepCache
    }

    @Test("metadata_ttl: a name is believed for so long, and a shorter time holds at once")
    func metadataTTL() async throws {
        let mount = try mount()
        try await mount.put("a", [1])
        #expect(try await requests(mount) { try await lookUp(mount) } > 0)
        #expect(try await requests(mount) { try await lookUp(mount) } == 0)
        let kernel = Notices()
        mount.fs.attach(kernel)
        change(mount) { $0.metadataTTL = .zero }
        #expect(kernel.expired == ["a"])
        #expect(try await requests(mount) { try await lookUp(mount) } > 0)
        #expect(try await requests(mount) { try await lookUp(mount) } > 0)
        change(mount) { $0.metadataTTL = .seconds(60) }
        try await lookUp(mount)
        #expect(try await requests(mount) { try await lookUp(mount) } == 0)
    }

    @Test("negative_ttl: an absent name is believed so for so long, and a shorter time holds at once")
    func negativeTTL() async throws {
        let mount = try mount()
        func miss() async throws { #expect(try await mount.fs.lookup(TestMount.root, "no") == nil) }
        change(mount) { $0.negativeTTL = .seconds(600) }
        #expect(try await requests(mount) { try await miss() } > 0)
        #expect(try await requests(mount) { try await miss() } == 0)
        change(mount) { $0.negativeTTL = .zero }
        #expect(try await requests(mount) { try await miss() } > 0)
        #expect(try await requests(mount) { try await miss() } > 0)
        change(mount) { $0.negativeTTL = .seconds(60) }
        try await miss()
        #expect(try await requests(mount) { try await miss() } == 0)
    }

    @Test("the kernel asks again, from memory, for what a complete listing lacks, so that a shorter time holds soon")
    func absentFromListing() async throws {
        let mount = try mount { $0.metadataTTL = .seconds(3600) }
        try await mount.put("a", [1])
        _ = try await mount.fs.list(TestMount.root)
        var valid: Duration = .zero
        #expect(try await requests(mount) { valid = try await mount.fs.entry(TestMount.root, "no").validFor } == 0)
        #expect(valid > .zero && valid <= .seconds(10))
    }

    @Test("freshness: ttl asks once, open at every open, always at every lookup too")
    func freshness() async throws {
        let mount = try mount()
        try await mount.put("a", [1])
        let inode = try await mount.inode("a")
        #expect(try await requests(mount) { _ = try await openAndClose(mount, inode) } == 0)
        change(mount) { $0.freshness = .open }
        #expect(try await requests(mount) { _ = try await openAndClose(mount, inode) } == 1)
        #expect(try await requests(mount) { _ = try await openAndClose(mount, inode) } == 1)
        #expect(try await requests(mount) { try await lookUp(mount) } == 0)
        change(mount) { $0.freshness = .always }
        #expect(try await requests(mount) { _ = try await openAndClose(mount, inode) } > 0)
        #expect(try await requests(mount) { try await lookUp(mount) } > 0)
        #expect(try await requests(mount) { try await lookUp(mount) } > 0)
        #expect(try await requests(mount) { _ = try await mount.fs.getattr(inode) } > 0)
    }

    @Test("freshness: open shows a changed object at once, and the kernel forgets the old size and pages before")
    func freshBytes() async throws {
        let mount = try mount { $0.freshness = .open }
        try await mount.put("a", [1, 2])
        let kernel = Notices()
        mount.fs.attach(kernel)
        #expect(try await mount.read("a") == [1, 2])
        let inode = try await mount.inode("a")
        #expect(try await openAndClose(mount, inode))
        try await mount.put("a", [3, 4, 5])
        // The kernel looks the name up then, so that it knows the size before it reads.
        let refused = await failure { () async throws(VFSError) in try await mount.fs.open(inode) }
        #expect(refused == .stale)
        #expect(try await mount.read("a") == [3, 4, 5])
        // Where the file itself is a mount point it opens it again as it is.
        try await mount.put("a", [6])
        let again = await failure { () async throws(VFSError) in try await mount.fs.open(inode) }
        #expect(again == .stale)
        #expect(kernel.attributes.isEmpty)
        #expect(try await !openAndClose(mount, inode))
        #expect(kernel.attributes == [inode])
    }

    @Test("data: off drops the kernel's pages at each open and reads nothing ahead")
    func data() async throws {
        let mount = try mount()
        try await mount.put("a", pattern(8 << 20))
        let inode = try await mount.inode("a")
        _ = try await openAndClose(mount, inode)
        #expect(try await openAndClose(mount, inode))
        change(mount) { $0.data = .off }
        #expect(try await !openAndClose(mount, inode))
        #expect(try await bytesFetched(mount, inode, reads: 4) == 4 * 4096)
        change(mount) { $0.data = .memory }
        _ = try await openAndClose(mount, inode)
        #expect(try await openAndClose(mount, inode))
        #expect(try await bytesFetched(mount, inode, reads: 4) > 1 << 20)
    }

    @Test("prefetch: 0 fetches exactly what is asked for, also by a file that is open already")
    func prefetch() async throws {
        let mount = try mount { $0.prefetch = 0 }
        try await mount.put("a", pattern(8 << 20))
        let inode = try await mount.inode("a")
        #expect(try await bytesFetched(mount, inode, reads: 8) == 8 * 4096)
        change(mount) { $0.prefetch = 4 << 20 }
        #expect(try await bytesFetched(mount, inode, reads: 8) > 1 << 20)
        let fetched = try await bytesFetched(mount, inode, reads: 8, before: { change(mount) { $0.prefetch = 0 } })
        #expect(fetched == 8 * 4096)
    }

    /// What the store sends for some reads of 4 KiB from the start of a new handle.
    private func bytesFetched(
        _ mount: TestMount, _ inode: InodeID, reads: Int, before: () -> Void = {}
    ) async throws -> Int {
        mount.traffic.reset()
        let handle = try await mount.fs.open(inode)
        before()
        for index in 0..<reads { _ = try await mount.fs.read(inode, handle, index * 4096, 4096) }
        // What is read ahead is under way by itself.
        try await Task.sleep(for: .milliseconds(100))
        let bytes = mount.traffic.bytesWanted
        try await mount.fs.close(inode, handle)
        return bytes
    }

    // MARK: Offline

    private func breakOff(_ mount: TestMount, _ code: VFSError.Code) {
        for verb in [Verb.head, .list, .read, .put, .copy] {
            mount.faults.add(verb, calls: 1...Int.max, .fail(VFSError(code, "unplugged")))
        }
    }

    @Test(
        "offline: serve shows what is known past its time; what is not known is an error, never absent",
        arguments: [VFSError.Code.unavailable, .timedOut, .connectionFailed, .throttled])
    func serve(_ code: VFSError.Code) async throws {
        let mount = try mount {
            $0.metadataTTL = .zero
            $0.negativeTTL = .zero
            $0.offline = .serve
        }
        try await mount.put("a", [1])
        try await mount.put("d/x", [1, 2])
        #expect(try await mount.fs.list(TestMount.root).map(\.name).sorted() == ["a", "d"])
        let inode = try await mount.inode("a")
        let folder = try await mount.inode("d")
        #expect(try await mount.inode("d/x") != 0)
        breakOff(mount, code)
        #expect(try await mount.fs.lookup(TestMount.root, "a")?.size == 1)
        #expect(try await mount.fs.getattr(inode).size == 1)
        #expect(try await mount.fs.lookup(folder, "x")?.size == 2)
        // What a whole listing lacked is absent.
        #expect(try await mount.fs.lookup(TestMount.root, "b") == nil)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.lookup(folder, "b") } == code)
        #expect(try await mount.fs.list(TestMount.root).map(\.name).sorted() == ["a", "d"])
        // `d` has never been listed: one known name of it is no listing.
        #expect(await failure { () async throws(VFSError) in try await mount.fs.list(folder) } == code)
        let handle = try await mount.fs.open(inode)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.read(inode, handle, 0, 1) } == code)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.fs.getxattr(inode, "user.cloudmount.state") == Array("stale".utf8))
        #expect(mount.fs.statistics().staleNodes > 0)

        mount.faults.clear()
        _ = try await mount.store.delete([DeleteRequest("a")])
        #expect(try await mount.fs.list(TestMount.root).map(\.name) == ["d"])
        #expect(try await mount.fs.lookup(TestMount.root, "a") == nil)
        #expect(try await mount.fs.lookup(TestMount.root, "b") == nil)
        #expect(try await mount.fs.list(folder).map(\.name) == ["x"])
        #expect(mount.fs.statistics().staleNodes == 0)
    }

    @Test("offline: a listing that breaks off half-way ends in an error unless all names are known")
    func partialListing() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.maxListKeys = 10
        let mount = try TestMount(capabilities: capabilities) {
            $0.policy.metadataTTL = .zero
            $0.policy.offline = .serve
        }
        for index in 0..<25 { try await mount.put("f\(index)", [1]) }
        mount.faults.add(.list, calls: 2...Int.max, .fail(VFSError(.unavailable, "unplugged")))
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.list(TestMount.root) } == .unavailable)
        mount.faults.clear()
        #expect(try await mount.fs.list(TestMount.root).count == 25)
        mount.faults.add(.list, calls: 2...Int.max, .fail(VFSError(.unavailable, "unplugged")))
        let names = try await mount.fs.list(TestMount.root).map(\.name)
        #expect(names.count == 25)
        #expect(Set(names).count == 25)
    }

    @Test("offline: fail, and errors that the store gives itself, are errors")
    func fail() async throws {
        let mount = try mount { $0.metadataTTL = .zero }
        try await mount.put("a", [1])
        let inode = try await mount.inode("a")
        func look() async -> VFSError.Code? {
            await failure { () async throws(VFSError) in try await mount.fs.lookup(TestMount.root, "a") }
        }
        breakOff(mount, .unavailable)
        #expect(await look() == .unavailable)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.open(inode) } == .unavailable)
        change(mount) { $0.offline = .serve }
        #expect(await look() == nil)
        change(mount) { $0.offline = .fail }
        mount.time.advance(.milliseconds(1100))
        #expect(await look() == .unavailable)
        change(mount) { $0.offline = .serve }
        mount.faults.clear()
        breakOff(mount, .permissionDenied)
        #expect(await look() == .permissionDenied)
    }

    @Test("a state can be read, and neither set nor listed")
    func state() async throws {
        let mount = try mount()
        try await mount.write("a", [1])
        let inode = try await mount.inode("a")
        func state() async throws -> String {
            String(decoding: try await mount.fs.getxattr(inode, "user.cloudmount.state"), as: UTF8.self)
        }
        #expect(try await state() == "current")
        #expect(try await mount.fs.listxattr(inode) == [])
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.setxattr(inode, "user.cloudmount.x", [1]) }
                == .notPermitted)
        let handle = try await mount.fs.open(inode, flags: 1)
        try await mount.fs.write(inode, handle, 0, [2])
        #expect(try await state() == "dirty")
        breakOff(mount, .unavailable)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.flush(inode, handle) } == .unavailable)
        #expect(try await state() == "failed")
        mount.faults.clear()
        try await mount.fs.close(inode, handle)
        #expect(try await state() == "current")
    }

    // MARK: Attributes

    @Test("durable_attributes: false costs no request, holds while mounted, and goes along with the next content")
    func attributesInMemory() async throws {
        let mount = try mount {
            $0.durableAttributes = false
            $0.metadataTTL = .zero
        }
        try await mount.write("a", [1, 2])
        let inode = try await mount.inode("a")
        let requests = try await requests(mount) {
            _ = try await mount.fs.setattr(inode) { $0.permissions = 0o600 }
            _ = try await mount.fs.setattr(inode) { $0.modified = .at(Timestamp(seconds: 7)) }
            try await mount.fs.setxattr(inode, "user.x", [9])
        }
        #expect(requests == 0)
        #expect(mount.fs.statistics().dirtyFiles == 0)
        let shown = try await mount.attributes("a")
        #expect(shown?.permissions == 0o600)
        #expect(shown?.modified.seconds == 7)
        let handle = try await mount.fs.open(inode, flags: 1)
        try await mount.fs.write(inode, handle, 0, [3])
        try await mount.fs.close(inode, handle)
        mount.remount()
        let stored = try await mount.inode("a")
        #expect(try await mount.fs.getattr(stored).permissions == 0o600)
        #expect(try await mount.fs.getxattr(stored, "user.x") == [9])
    }

    @Test("durable_attributes: true, also switched on while mounted, stores a change at once")
    func attributesStored() async throws {
        let mount = try mount { $0.durableAttributes = false }
        try await mount.write("a", [1, 2])
        let inode = try await mount.inode("a")
        change(mount) { $0.durableAttributes = true }
        mount.traffic.reset()
        _ = try await mount.fs.setattr(inode) { $0.permissions = 0o600 }
        #expect(mount.traffic[.copy] == 1)
        mount.remount()
        #expect(try await mount.attributes("a")?.permissions == 0o600)
    }

    @Test("a truncation is stored whatever becomes of attributes")
    func truncation() async throws {
        let mount = try mount { $0.durableAttributes = false }
        try await mount.write("a", [1, 2])
        let inode = try await mount.inode("a")
        _ = try await mount.fs.setattr(inode) { $0.size = 1 }
        #expect(try await mount.object("a") == [1])
    }

    @Test("other defaults of owner and mode hold at once for what has none of its own")
    func defaults() async throws {
        let mount = try mount()
        try await mount.put("a", [1])
        try await mount.put("b", [1])
        try await mount.write("own", [1])
        let changed = try await mount.inode("b")
        _ = try await mount.fs.setattr(changed) { $0.permissions = 0o640 }
        _ = try await mount.inode("a")
        _ = try await mount.inode("own")
        var settings = mount.fs.settings()
        settings.uid = 77
        settings.filePermissions = 0o600
        mount.fs.update(settings)
        let shown = try await (mount.attributes("a"), mount.attributes("b"), mount.attributes("own"))
        #expect(shown.0?.uid == 77)
        #expect(shown.0?.permissions == 0o600)
        #expect(shown.1?.permissions == 0o640)
        #expect(shown.2?.permissions == 0o644)
        #expect(shown.2?.uid == 1000)
    }

    // MARK: Conflicts

    /// A file changed here and elsewhere; the error of its close.
    private func collide(_ mount: TestMount) async throws -> VFSError.Code? {
        try await mount.put("a", [1])
        let inode = try await mount.inode("a")
        let handle = try await mount.fs.open(inode, flags: 0o1001)
        try await mount.fs.write(inode, handle, 0, [2, 2])
        try await mount.put("a", [3, 3, 3])
        return await failure { () async throws(VFSError) in try await mount.fs.close(inode, handle) }
    }

    @Test("on_conflict: keep-both keeps both, and both are seen at once")
    func keepBoth() async throws {
        let mount = try mount()
        try await mount.put("a", [0])
        _ = try await mount.fs.list(TestMount.root)
        #expect(try await collide(mount) == nil)
        #expect(try await mount.fs.list(TestMount.root).count == 2)
        #expect(try await mount.fs.lookup(TestMount.root, "a")?.size == 3)
        #expect(try await mount.object("a") == [3, 3, 3])
        let other = try #require(try await mount.keys().first { $0.contains("conflict") })
        #expect(try await mount.object(other) == [2, 2])
    }

    @Test("on_conflict: overwrite replaces theirs, without asking")
    func overwrite() async throws {
        let mount = try mount { $0.onConflict = .overwrite }
        mount.traffic.reset()
        #expect(try await collide(mount) == nil)
        #expect(try await mount.object("a") == [2, 2])
        #expect(try await mount.keys() == ["a"])
    }

    @Test("on_conflict: fail says ESTALE, keeps the bytes, and another rule lets them go")
    func conflictFails() async throws {
        let mount = try mount { $0.onConflict = .fail }
        #expect(try await collide(mount) == .stale)
        #expect(try await mount.object("a") == [3, 3, 3])
        let failed = try #require(mount.fs.statistics().failedCommits.first)
        #expect(failed.path == "a")
        #expect(failed.bytes == 2)
        // Seen from here it is still the file that was written.
        #expect(try await mount.read("a") == [2, 2])
        change(mount) { $0.onConflict = .overwrite }
        await settled { mount.fs.statistics().dirtyFiles == 0 }
        #expect(try await mount.object("a") == [2, 2])
        #expect(mount.fs.statistics().failedCommits.isEmpty)
        mount.staging.finishRemovals(seconds: 60)
        #expect(mount.staging.used == 0)
    }

    @Test("two mounts of one bucket keep their policies apart")
    func apart() async throws {
        let first = try mount()
        let second = try mount { $0.freshness = .always }
        for mount in [first, second] { try await mount.put("a", [1]) }
        for mount in [first, second] { try await lookUp(mount) }
        change(first) { $0.prefetch = 0 }
        #expect(try await requests(first) { try await lookUp(first) } == 0)
        #expect(try await requests(second) { try await lookUp(second) } > 0)
        #expect(second.fs.settings().policy.prefetch == CachePolicy().prefetch)
    }
}

/// What the kernel was told.
private final class Notices: KernelNotifier {
    private let told = Mutex<(expired: [String], attributes: [InodeID])>(([], []))

    var expired: [String] { told.withLock { $0.expired } }
    var attributes: [InodeID] { told.withLock { $0.attributes } }

    func invalidateEntry(parent: InodeID, name: FileName) {}
    func invalidateInode(_ inode: InodeID, extent: Extent?) {}
    func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool) {
        told.withLock { $0.expired.append(name.string) }
    }
    func expireAttributes(_ inode: InodeID) { told.withLock { $0.attributes.append(inode) } }
}
