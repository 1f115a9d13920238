import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

/// A commit that failed goes on with what the store holds of it.
@Suite("Uploads taken up again")
struct ResumedUploadTests {
    private static let gone = VFSError(.connectionFailed, "the cable", retry: .backoff)
    private static let mebibyte = 1 << 20

    private func fill(_ mount: TestMount, _ inode: InodeID, _ handle: HandleID, _ bytes: [UInt8]) async throws {
        for offset in stride(from: 0, to: bytes.count, by: Self.mebibyte) {
            let end = min(bytes.count, offset + Self.mebibyte)
            try await mount.fs.write(inode, handle, offset, Array(bytes[offset..<end]))
        }
    }

    @Test(
        "A file sent while it was written: only what did not arrive is sent again",
        arguments: [
            Verb.completeUpload, .uploadPart,
        ])
    func streamed(verb: Verb) async throws {
        let mount = try TestMount()
        let bytes = pattern(37 * Self.mebibyte + 5)
        let (inode, handle) = try await mount.fs.create(TestMount.root, "f", flags: 0o1001)
        // The last of five parts goes out at the end.
        let calls = verb == .uploadPart ? 5...5 : 1...1
        mount.faults.add(verb, calls: calls, verb == .uploadPart ? .dropReply(Self.gone) : .fail(Self.gone))
        try await fill(mount, inode, handle, bytes)
        await settled { mount.traffic[.uploadPart] == 4 }
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .connectionFailed)
        #expect(mount.traffic[.abortUpload] == 0)
        mount.traffic.reset()
        try await mount.fs.fsync(inode, handle)
        #expect(mount.traffic[.uploadPart] == 0 && mount.traffic[.put] == 0)
        #expect(mount.traffic[.listParts] == 1)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == bytes)
    }

    @Test(
        "Where a store takes metadata at the end, a file sent while it was written has its time and mode without a copy"
    )
    func describedAtTheEnd() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        for isTaken in [true, false] {
            capabilities.completeSetsMetadata = isTaken
            let mount = try TestMount(capabilities: capabilities)
            let bytes = pattern(20 * Self.mebibyte)
            let (inode, handle) = try await mount.fs.create(TestMount.root, "f", flags: 0o1001)
            try await fill(mount, inode, handle, bytes)
            await settled { mount.traffic[.uploadPart] > 0 }
            let time = Timestamp(seconds: 1_600_000_000, nanoseconds: 5)
            _ = try await mount.fs.setattr(inode) { $0.modified = .at(time) }
            _ = try await mount.fs.setattr(inode) { $0.permissions = 0o640 }
            try await mount.fs.close(inode, handle)
            #expect(mount.traffic[.beginUpload] == 1 && mount.traffic[.put] == 0)
            #expect(mount.traffic[.copy] == (isTaken ? 0 : 1))
            let stored = try await mount.store.head("f")
            #expect(stored.metadata?.modified == time)
            #expect(stored.metadata?.user["mode"].flatMap { Int($0, radix: 8) }.map { $0 & 0o777 } == 0o640)
            #expect(try await mount.object("f") == bytes)
        }
    }

    @Test("Where an earlier end counted, the times of a later one are stored all the same", arguments: [true, false])
    func describedByTheFirst(isTakenAtTheEnd: Bool) async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.completeSetsMetadata = isTakenAtTheEnd
        let mount = try TestMount(capabilities: capabilities)
        let bytes = pattern(20 * Self.mebibyte)
        let (inode, handle) = try await mount.fs.create(TestMount.root, "f", flags: 0o1001)
        try await fill(mount, inode, handle, bytes)
        // It was carried out, and nobody heard of it.
        mount.faults.add(.completeUpload, calls: 1...1, .dropReply(Self.gone))
        mount.faults.add(.head, calls: 1...9, .fail(Self.gone))
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .connectionFailed)
        mount.faults.clear()
        let time = Timestamp(seconds: 1_600_000_000)
        _ = try await mount.fs.setattr(inode) { $0.modified = .at(time) }
        try await mount.fs.close(inode, handle)
        #expect(try await mount.store.head("f").metadata?.modified == time)
        #expect(try await mount.object("f") == bytes)
    }

    @Test("What was written after the failure is what is stored")
    func changedMeanwhile() async throws {
        let mount = try TestMount()
        var bytes = pattern(37 * Self.mebibyte)
        let (inode, handle) = try await mount.fs.create(TestMount.root, "f", flags: 0o1001)
        mount.faults.add(.completeUpload, calls: 1...2, .fail(Self.gone))
        try await fill(mount, inode, handle, bytes)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .connectionFailed)
        for offset in [3, 20 * Self.mebibyte, bytes.count - 1] {
            bytes[offset] ^= 0xFF
            try await mount.fs.write(inode, handle, offset, [bytes[offset]])
        }
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .connectionFailed)
        bytes += [1, 2, 3]
        try await mount.fs.write(inode, handle, bytes.count - 3, [1, 2, 3])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == bytes)
    }

    @Test("A planned upload goes on with its parts and copies")
    func planned() async throws {
        let mount = try TestMount()
        var bytes = pattern(60 * Self.mebibyte)
        try await mount.put("f", bytes)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: 2)
        mount.faults.add(.completeUpload, calls: 1...1, .fail(Self.gone))
        bytes[30 * Self.mebibyte] ^= 0xFF
        try await mount.fs.write(inode, handle, 30 * Self.mebibyte, [bytes[30 * Self.mebibyte]])
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .connectionFailed)
        mount.traffic.reset()
        try await mount.fs.fsync(inode, handle)
        #expect(mount.traffic[.listParts] == 1)
        #expect(mount.traffic[.copyPart] + mount.traffic[.uploadPart] + mount.traffic[.beginUpload] == 0)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == bytes)
    }

    @Test("One that the store has given up meanwhile begins anew", arguments: [true, false])
    func lost(isStreamed: Bool) async throws {
        let mount = try TestMount()
        var bytes = pattern(40 * Self.mebibyte)
        if !isStreamed { try await mount.put("f", bytes) }
        mount.faults.add(.completeUpload, calls: 1...1, .fail(Self.gone))
        mount.faults.add(.listParts, calls: 1...1, .fail(VFSError(.uploadNotFound, "expired")))
        let inode: InodeID
        let handle: HandleID
        if isStreamed {
            (inode, handle) = try await mount.fs.create(TestMount.root, "f", flags: 0o1001)
            try await fill(mount, inode, handle, bytes)
        } else {
            inode = try await mount.inode("f")
            handle = try await mount.fs.open(inode, flags: 2)
            bytes[20 * Self.mebibyte] ^= 0xFF
            try await mount.fs.write(inode, handle, 20 * Self.mebibyte, [bytes[20 * Self.mebibyte]])
        }
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .connectionFailed)
        try await mount.fs.fsync(inode, handle)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == bytes)
    }

    @Test("A file that is unlinked leaves nothing in the store")
    func unlinked() async throws {
        let mount = try TestMount()
        try await mount.put("f", pattern(40 * Self.mebibyte))
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: 2)
        mount.faults.add(.completeUpload, calls: 1...9, .fail(Self.gone))
        try await mount.fs.write(inode, handle, 20 * Self.mebibyte, [1])
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .connectionFailed)
        try await mount.fs.unlink(TestMount.root, "f")
        await settled { mount.traffic[.abortUpload] == 1 }
        #expect(mount.traffic[.abortUpload] == 1)
        try await mount.fs.close(inode, handle)
    }
}
