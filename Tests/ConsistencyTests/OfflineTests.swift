import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

/// `offline: serve` while the store cannot be reached, and after it.
@Suite("Without a store")
struct OfflineTests {
    private let time = HeldClock()

    private func make(_ adjust: (inout CachePolicy) -> Void = { _ in }) throws -> Mount {
        try Mount(journals: true, keepsVersions: true, keepsNames: true, clock: time.clock) {
            $0.policy.offline = .serve
            $0.policy.data = .disk
            $0.policy.write = .back
            $0.policy.writeDelay = .zero
            $0.policy.metadataTTL = .seconds(60)
            adjust(&$0.policy)
        }
    }

    private func fill(_ mount: Mount, _ folder: String) async throws {
        for index in 0..<4 { try await mount.put("\(folder)/f\(index)", pattern(10)) }
    }

    /// Of `a` all names are known and one file was read, of `b` one name was looked at.
    private func looked() async throws -> Mount {
        let mount = try make()
        try await fill(mount, "a")
        try await fill(mount, "b")
        _ = try await mount.fs.list(mount.inode("a"))
        _ = try await mount.inode("b/f1")
        #expect(try await mount.read("a/f1") == pattern(10))
        return mount
    }

    private func code(_ mount: Mount, _ path: String) async -> VFSError.Code? {
        do { return try await mount.attributes(path) == nil ? .notFound : nil } catch { return error.code }
    }

    private let gone = VFSError(.unavailable, "gone")

    /// Every question fails, and none is asked where `cut` says so.
    private func unplug(_ mount: Mount, _ effect: Faults.Effect? = nil) {
        for verb in Verb.allCases { mount.faults.add(verb, calls: 1...100_000, effect ?? .fail(gone)) }
    }

    private func stored(_ mount: Mount, _ key: String, _ bytes: [UInt8]) async throws {
        for _ in 0..<6000 {
            if try await mount.object(key) == bytes { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("\(key) is not stored")
    }

    @Test("What is known is shown past its time, and what a whole listing lacked is absent, without a request")
    func cutOff() async throws {
        let mount = try await looked()
        time.advance(.seconds(3600))
        mount.cut.isOn = true
        unplug(mount)
        let before = mount.faults.calls(.head) + mount.faults.calls(.list)
        for path in ["a", "a/f1", "b/f1"] { #expect(await code(mount, path) == nil) }
        #expect(await code(mount, "a/none") == .notFound)
        #expect(try await mount.fs.list(mount.inode("a")).map(\.name).sorted() == ["f0", "f1", "f2", "f3"])
        #expect(try await mount.read("a/f1") == pattern(10))
        #expect(mount.faults.calls(.head) + mount.faults.calls(.list) == before)
        // Of b only one name was ever looked at.
        #expect(await code(mount, "b/none") == .unavailable)
        await #expect(throws: VFSError.self) { try await mount.fs.list(mount.inode("b")) }
        await #expect(throws: VFSError.self) { try await mount.read("a/f2") }
        mount.faults.clear()
        mount.cut.isOn = false
        try await mount.put("a/late", pattern(5))
        time.advance(.seconds(2))
        #expect(await code(mount, "a/late") == nil)
    }

    @Test(
        "What went elsewhere while a slow listing was on its way is not brought back by the names that were shown meanwhile"
    )
    func goneDuringSlowListing() async throws {
        let mount = try make()
        try await fill(mount, "a")
        let folder = try await mount.inode("a")
        _ = try await mount.fs.list(folder)
        time.advance(.seconds(3600))
        try await mount.delete("a/f1")
        let (isAsked, goOn) = (Gate(), Gate())
        mount.hooks.at(.before, .list, "a/") {
            isAsked.open()
            await goOn.wait()
        }
        let listing = Task { try await mount.fs.list(folder).map(\.name).sorted() }
        await isAsked.wait()
        // The clock of the mount goes on by hand: until somebody has been shown what was known.
        let clock = time
        let ticking = Task {
            while !Task.isCancelled { clock.advance(.milliseconds(300)); await pause(.milliseconds(5)) }
        }
        #expect(try await listing.value == ["f0", "f1", "f2", "f3"])
        ticking.cancel()
        goOn.open()
        for _ in 0..<500 where try await mount.fs.list(folder).count != 3 { await pause(.milliseconds(10)) }
        #expect(try await mount.fs.list(folder).map(\.name).sorted() == ["f0", "f2", "f3"])
    }

    @Test("A name is not taken for absent when something has spoken against the listing since")
    func doubted() async throws {
        let mount = try make()
        try await fill(mount, "a")
        _ = try await mount.fs.list(mount.inode("a"))
        await mount.fs.upkeep.invalidator.invalidate("a/none")
        mount.cut.isOn = true
        unplug(mount)
        time.advance(.seconds(3600))
        #expect(await code(mount, "a/none") == .unavailable)
        #expect(await code(mount, "a/f1") == nil)
    }

    @Test("A store that says nothing is waited for once, for a second; its answer is heard all the same")
    func silent() async throws {
        let mount = try make()
        try await fill(mount, "a")
        let folder = try await mount.inode("a")
        _ = try await mount.fs.list(folder)
        time.advance(.seconds(3600))
        unplug(mount, .hang)
        for path in ["a", "a/f1"] { #expect(await code(mount, path) == nil) }
        // From the second question on the clock has to move before the store is asked again: it stands still.
        let before = mount.faults.calls(.head) + mount.faults.calls(.list)
        for index in 0..<4 { #expect(await code(mount, "a/f\(index)") == nil) }
        #expect(try await mount.fs.list(folder).count == 4)
        #expect(mount.faults.calls(.head) + mount.faults.calls(.list) <= before + 4)
        mount.faults.clear()
        try await mount.put("a/f2", pattern(20))
        for _ in 0..<1000 {
            time.advance(.seconds(2))
            if try await mount.fs.lookup(folder, "f2")?.size == 20 { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("the store is not asked again")
    }

    @Test("Files are made and replaced in known directories, and stored when the store is back, each as it was meant")
    func writes() async throws {
        let mount = try make()
        try await fill(mount, "a")
        let folder = try await mount.inode("a")
        _ = try await mount.fs.list(folder)
        time.advance(.seconds(3600))
        mount.cut.isOn = true
        unplug(mount)
        try await mount.write("new", pattern(30), in: folder)
        try await mount.write("f1", pattern(31), in: folder)
        #expect(try await mount.read("a/new") == pattern(30))
        // Somebody else is there meanwhile.
        try await mount.put("a/new", pattern(3))
        #expect(try await mount.object("a/f1") == pattern(10))
        mount.faults.clear()
        mount.cut.isOn = false
        try await stored(mount, "a/f1", pattern(31))
        #expect(try await mount.object("a/new") == pattern(3))
        for _ in 0..<6000 {
            let conflict = try await mount.keys("a/").filter { $0.hasPrefix("a/new (conflict") }
            if let name = conflict.first { return #expect(try await mount.object(name) == pattern(30)) }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("the file of the outage is not there")
    }

    @Test("What a listing lacked is absent after a restart too, while the store cannot be reached")
    func restart() async throws {
        let mount = try await looked()
        await mount.end()
        time.advance(.seconds(3600))
        mount.cut.isOn = true
        unplug(mount)
        try mount.remount()
        #expect(await code(mount, "a/f1") == nil)
        #expect(await code(mount, "a/none") == .notFound)
        #expect(await code(mount, "b/none") == .unavailable)
        #expect(try await mount.read("a/f1") == pattern(10))
        #expect(try await mount.fs.list(mount.inode("a")).count == 4)
    }
}
