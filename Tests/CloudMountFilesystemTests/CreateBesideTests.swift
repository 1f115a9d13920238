import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import Testing

/// New files where the store keeps what is overwritten: the look goes out together with the write.
@Suite("New files without conditional writes")
struct CreateBesideTests {
    private func mount(_ onConflict: CachePolicy.OnConflict = .keepBoth) throws -> TestMount {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.versions = true
        capabilities.readsOldVersions = true
        capabilities.conditionalCreate = false
        capabilities.conditionalReplace = false
        return try TestMount(capabilities: capabilities) { $0.policy.onConflict = onConflict }
    }

    @Test("A new file is one look and one write, at the same time")
    func sideBySide() async throws {
        let mount = try mount()
        let (inode, handle) = try await mount.fs.create(TestMount.root, "f", flags: 0o1001)
        try await mount.fs.write(inode, handle, 0, [1, 2])
        mount.traffic.reset()
        mount.faults.add(.head, calls: 1...1, .delay(.milliseconds(200)))
        mount.faults.add(.put, calls: 1...1, .delay(.milliseconds(200)))
        let start = ContinuousClock.now
        try await mount.fs.close(inode, handle)
        #expect(ContinuousClock.now - start >= .milliseconds(200))
        #expect(mount.traffic[.head] == 1 && mount.traffic[.put] == 1)
        #expect(try await mount.object("f") == [1, 2])
    }

    /// - Parameter lookIsLate: the look sees our own version already.
    private func clash(_ mount: TestMount, lookIsLate: Bool) async throws -> VFSError.Code? {
        let (inode, handle) = try await mount.fs.create(TestMount.root, "f", flags: 0o1001)
        try await mount.fs.write(inode, handle, 0, [1, 2, 3])
        try await mount.put("f", [9])
        if lookIsLate { mount.faults.add(.head, calls: 1...1, .delay(.milliseconds(300))) }
        if !lookIsLate { mount.faults.add(.put, calls: 1...1, .delay(.milliseconds(300))) }
        return await failure { () async throws(VFSError) in try await mount.fs.close(inode, handle) }
    }

    @Test("A file that somebody else made meanwhile stays, and ours is kept beside", arguments: [false, true])
    func bothAreKept(lookIsLate: Bool) async throws {
        let mount = try mount()
        #expect(try await clash(mount, lookIsLate: lookIsLate) == nil)
        #expect(try await mount.object("f") == [9])
        let other = try await mount.keys().first { $0.contains("conflict") }
        #expect(try await mount.object(other ?? "") == [1, 2, 3])
    }

    @Test("on_conflict: fail leaves theirs, and says so", arguments: [false, true])
    func refused(lookIsLate: Bool) async throws {
        let mount = try mount(.fail)
        #expect(try await clash(mount, lookIsLate: lookIsLate) == .stale)
        #expect(try await mount.object("f") == [9])
        #expect(try await mount.keys() == ["f"])
    }

    @Test("A look that fails is made up for by the versions", arguments: [false, true])
    func failedLook(isThere: Bool) async throws {
        let mount = try mount()
        let (inode, handle) = try await mount.fs.create(TestMount.root, "f", flags: 0o1001)
        try await mount.fs.write(inode, handle, 0, [1])
        if isThere { try await mount.put("f", [9]) }
        mount.faults.add(.head, calls: 1...1, .fail(VFSError(.connectionFailed, "the cable", retry: .backoff)))
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == (isThere ? [9] : [1]))
        #expect(try await mount.keys().count == (isThere ? 2 : 1))
    }
}
