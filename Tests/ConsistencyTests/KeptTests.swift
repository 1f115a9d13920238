import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import TestSeeds
import Testing

/// What the local disk keeps of stored versions (`data: disk`).
@Suite("Kept versions")
struct KeptTests {
    private static let sizes = [5000, 300_000, (3 << 20) + 77]
    private let down = VFSError(.connectionFailed, "nobody listens")

    private func make(
        _ adjust: (inout MountSettings) -> Void = { _ in }
    ) throws -> Mount {
        // Tags of bytes, as S3 has: the same bytes are the same version wherever they are from.
        try Mount(tagsBytes: true, journals: true, keepsVersions: true) { settings in
            settings.policy.data = .disk
            adjust(&settings)
        }
    }

    private func write(_ mount: Mount, _ name: String, _ bytes: [UInt8]) async throws {
        let (inode, handle) = try await mount.fs.create(Mount.root, name, flags: Flags.write)
        try await mount.fill(inode, handle, bytes)
        try await mount.fs.close(inode, handle)
    }

    @Test("What was read once costs no read again, after a restart neither", arguments: sizes)
    func readAgain(size: Int) async throws {
        let mount = try make()
        let bytes = pattern(size, seed: 3)
        try await mount.put("a", bytes)
        #expect(try await mount.read("a") == bytes)
        await mount.finishKeeping()
        for crashes in [false, true] {
            mount.traffic.reset()
            #expect(try await mount.read("a") == bytes)
            #expect(mount.traffic[.read] == 0)
            try mount.remount(crash: crashes)
            await mount.finishKeeping()
            mount.traffic.reset()
            #expect(try await mount.read("a") == bytes)
            #expect(mount.traffic[.read] == 0)
        }
        #expect(mount.fs.statistics().keptBytes >= size)
    }

    @Test(
        "What was added to a version that is gone from the store goes beside the other one, with all of it that local disk has"
    )
    func baseOnlyHere() async throws {
        let mount = try make()
        let (bytes, theirs) = (pattern(300_000, seed: 5), pattern(10, seed: 6))
        try await mount.put("a", bytes)
        #expect(try await mount.read("a") == bytes)
        await mount.finishKeeping()
        let (inode, handle) = try await mount.open("a")
        try await mount.fs.release(inode, handle)
        let writing = try await mount.fs.open(inode, flags: Flags.write)
        try await mount.fs.write(inode, writing, bytes.count, [1, 2, 3])
        try await mount.put("a", theirs)
        try await mount.fs.close(inode, writing)
        #expect(try await mount.object("a") == theirs)
        let others = try await mount.contents().filter { $0.key != "a" }
        #expect(others.count == 1 && others.first?.value == bytes + [1, 2, 3])
    }

    @Test("What was written is not read from the store, after a restart neither", arguments: sizes, [true, false])
    func writtenIsKept(size: Int, isBack: Bool) async throws {
        let mount = try make {
            $0.policy.write = isBack ? .back : .through
            $0.policy.writeDelay = .zero
        }
        let bytes = pattern(size, seed: 4)
        try await write(mount, "a", bytes)
        await settled { mount.fs.statistics().dirtyFiles == 0 && mount.stagingUsed == 0 }
        await mount.finishKeeping()
        try mount.remount()
        await mount.finishKeeping()
        mount.traffic.reset()
        #expect(try await mount.read("a") == bytes)
        #expect(mount.traffic[.read] == 0)
        // Adding to it reads nothing of it either.
        let (inode, handle) = try await mount.open("a")
        let writer = try await mount.fs.open(inode, flags: Flags.write)
        try await mount.fs.write(inode, writer, size, [1, 2, 3])
        try await mount.fs.close(inode, writer)
        try await mount.fs.close(inode, handle)
        await settled { mount.fs.statistics().dirtyFiles == 0 }
        #expect(mount.traffic[.read] == 0)
        #expect(try await mount.object("a") == bytes + [1, 2, 3])
        #expect(try await mount.read("a") == bytes + [1, 2, 3])
    }

    @Test("A version of somebody else is never shown from what was kept of another")
    func foreign() async throws {
        let mount = try make { $0.policy.freshness = .open }
        for round in 0..<6 {
            let bytes = pattern(400_000 + round % 2, seed: UInt64(round))
            try await mount.put("a", bytes)
            #expect(try await mount.read("a") == bytes)
            await mount.finishKeeping()
            if round == 3 { try mount.remount() }
        }
    }

    @Test("A renamed file is read from what was kept of it, in a renamed folder too")
    func renamed() async throws {
        let mount = try make()
        let bytes = pattern(300_000, seed: 5)
        try await mount.put("dir/a", bytes)
        try await mount.put("b", bytes.reversed())
        #expect(try await mount.read("dir/a") == bytes)
        #expect(try await mount.read("b") == bytes.reversed())
        await mount.finishKeeping()
        try await mount.fs.rename(Mount.root, "dir", Mount.root, "other")
        try await mount.fs.rename(Mount.root, "b", Mount.root, "c")
        await mount.finishKeeping()
        try mount.remount()
        await mount.finishKeeping()
        mount.traffic.reset()
        #expect(try await mount.read("other/a") == bytes)
        #expect(try await mount.read("c") == bytes.reversed())
        #expect(mount.traffic[.read] == 0)
    }

    @Test("Many reads here and there bring the rest of the file, and less than twice of it is fetched")
    func random() async throws {
        let mount = try make()
        let size = 24 << 20
        let bytes = pattern(size, seed: 11)
        try await mount.put("a", bytes)
        let (inode, handle) = try await mount.open("a")
        mount.traffic.reset()
        var random = SeededGenerator(seed: 5)
        for _ in 0..<400 {
            let low = Int.random(in: 0..<size / 4096, using: &random) * 4096
            #expect(try await mount.fs.read(inode, handle, low, 4096) == Array(bytes[low..<low + 4096]))
            await mount.finishKeeping()
        }
        #expect(mount.traffic.bytesWanted < 2 * size)
        let reads = mount.traffic[.read]
        for low in stride(from: 0, to: size, by: 4096 * 37) {
            #expect(try await mount.fs.read(inode, handle, low, 4096) == Array(bytes[low..<low + 4096]))
        }
        #expect(mount.traffic[.read] == reads)
        try await mount.fs.close(inode, handle)
    }

    @Test("What is kept is read while the store is away")
    func away() async throws {
        let mount = try make { $0.policy.offline = .serve }
        let bytes = pattern(2 << 20, seed: 6)
        try await mount.put("a", bytes)
        #expect(try await mount.read("a") == bytes)
        await mount.finishKeeping()
        for verb in [Verb.read, .head, .list] { mount.faults.add(verb, calls: 1...9999, .fail(down)) }
        #expect(try await mount.read("a") == bytes)
    }

    @Test("A policy that keeps nothing on the disk keeps nothing, and finds nothing there")
    func memoryOnly() async throws {
        let mount = try make { $0.policy.data = .memory }
        try await mount.put("a", pattern(300_000, seed: 7))
        _ = try await mount.read("a")
        try await write(mount, "b", pattern(300_000, seed: 8))
        await mount.finishKeeping()
        #expect(mount.fs.statistics().keptBytes == 0)
        var settings = mount.fs.settings()
        settings.policy.data = .disk
        mount.fs.update(settings)
        _ = try await mount.read("a")
        await mount.finishKeeping()
        #expect(mount.fs.statistics().keptBytes > 0)
    }

    @Test("Bytes whose tags do not tell versions apart are not kept")
    func untold() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.distinctTags = false
        let mount = try Mount(capabilities, keepsVersions: true) { $0.policy.data = .disk }
        try await mount.put("a", pattern(300_000, seed: 9))
        _ = try await mount.read("a")
        await mount.finishKeeping()
        #expect(mount.fs.statistics().keptBytes == 0)
    }
}
