import CloudMountFilesystem
import CloudMountLayers
import CloudMountStaging
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

/// Close and fsync return when local disk has the bytes and a record of them.
@Suite("Write-back")
struct WriteBackTests {
    private let ours = pattern(3000, seed: 1)
    private let down = VFSError(.connectionFailed, "nobody listens")

    private func make(
        delay: Duration = .zero, _ adjust: (inout MountSettings) -> Void = { _ in }
    ) throws -> Mount {
        try Mount(journals: true) { settings in
            settings.policy.write = .back
            settings.policy.writeDelay = delay
            adjust(&settings)
        }
    }

    private func write(_ mount: Mount, _ name: String, _ bytes: [UInt8], in parent: InodeID = Mount.root) async throws {
        if let found = try await mount.fs.lookup(parent, name) {
            let handle = try await mount.fs.open(found.inode, flags: Flags.write)
            try await mount.fs.setattr(found.inode) { $0.size = 0 }
            try await mount.fill(found.inode, handle, bytes)
            return try await mount.fs.close(found.inode, handle)
        }
        let (inode, handle) = try await mount.fs.create(parent, name, flags: Flags.write)
        try await mount.fill(inode, handle, bytes)
        try await mount.fs.close(inode, handle)
    }

    private func stored(_ mount: Mount, _ path: String, _ bytes: [UInt8]) async throws {
        await settled { mount.fs.statistics().dirtyFiles == 0 }
        #expect(try await mount.object(path) == bytes)
        #expect(mount.fs.statistics().failedCommits.isEmpty)
    }

    @Test(
        "Close returns while the store is away, and the bytes get there, also by the next process",
        arguments: [true, false])
    func close(crashes: Bool) async throws {
        let mount = try make { $0.policy.offline = .serve }
        mount.faults.add(.put, calls: 1...9999, .fail(down))
        for number in 0..<20 { try await write(mount, "f\(number)", ours + [UInt8(number)]) }
        #expect(try await mount.keys().isEmpty)
        if crashes { try mount.remount(crash: true) }
        for number in 0..<20 { #expect(try await mount.read("f\(number)") == ours + [UInt8(number)]) }
        mount.faults.clear()
        if !crashes { await mount.fs.drain() }
        for number in 0..<20 { try await stored(mount, "f\(number)", ours + [UInt8(number)]) }
        await settled { mount.stagingUsed == 0 }
        try mount.remount(crash: true)
        #expect(mount.fs.statistics().dirtyFiles == 0 && mount.staging.leftovers.isEmpty)
    }

    @Test(
        "What is written after a close is not in what the next process finds, and what was closed is whole",
        arguments: ["over", "cut", "empty", "zeros"])
    func afterClose(how: String) async throws {
        let mount = try make(delay: .seconds(3600))
        try await write(mount, "f", ours)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        switch how {
        case "over": try await mount.fs.write(inode, handle, 100, [UInt8](repeating: 9, count: 5000))
        case "cut": try await mount.fs.setattr(inode) { $0.size = 100 }
        case "zeros": try await mount.fs.fallocate(inode, handle, mode: 3, 10, 100)
        default: _ = try await mount.fs.open(inode, flags: Flags.readWrite | 0o1000)
        }
        try mount.remount(crash: true)
        #expect(try await mount.read("f") == ours)
        await mount.fs.drain()
        try await stored(mount, "f", ours)
    }

    @Test("What changes before it goes up goes up once, under its last name; what is removed never does")
    func once() async throws {
        let mount = try make(delay: .seconds(3600))
        for turn in 1...5 { try await write(mount, "temporary", ours + [UInt8(turn)]) }
        try await mount.put("final", [1, 2, 3])
        try await mount.fs.rename(Mount.root, "temporary", Mount.root, "final")
        try await write(mount, "removed", ours)
        try await mount.fs.unlink(Mount.root, "removed")
        #expect(mount.traffic.keys(.put).isEmpty && mount.traffic.keys(.copy).isEmpty)
        await mount.fs.drain()
        #expect(mount.traffic.keys(.put) == ["final"])
        #expect(try await mount.keys() == ["final"])
        try await stored(mount, "final", ours + [5])
    }

    @Test("What the next process finds has the names and attributes of the last call", arguments: [true, false])
    func names(isStored: Bool) async throws {
        let mount = try make(delay: .seconds(3600))
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        try await write(mount, "f", ours, in: folder)
        if isStored { await mount.fs.drain() }
        let inode = try await mount.inode("d/f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, [1, 1, 1])
        try await mount.fs.close(inode, handle)
        try await mount.fs.setattr(inode) { $0.permissions = 0o604 }
        try await mount.fs.rename(folder, "f", folder, "g")
        try await mount.fs.rename(Mount.root, "d", Mount.root, "e")
        try mount.remount(crash: true)
        #expect(try await mount.read("e/g") == ours.patched([1, 1, 1], at: 0))
        await mount.fs.drain()
        try await stored(mount, "e/g", ours.patched([1, 1, 1], at: 0))
        #expect(try await mount.fs.getattr(mount.inode("e/g")).permissions == 0o604)
        #expect(try await mount.keys().filter { !$0.hasSuffix("/") } == ["e/g"])
        #expect(mount.fs.statistics().failedCommits.isEmpty && mount.namedFiles.isEmpty)
    }

    @Test(
        "A write that reached the store before the process died is known again, also one of an earlier state",
        arguments: [true, false])
    func known(changes: Bool) async throws {
        let mount = try make { $0.policy.offline = .serve }
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        mount.faults.add(.put, calls: 1...9999, .dropReply(down))
        mount.faults.add(.head, calls: 1...9999, .fail(down))
        try await mount.fs.flush(inode, handle)
        while try await mount.store.headIfThere("f") == nil { await pause(.milliseconds(5)) }
        var last = ours
        if changes {
            mount.faults.clear()
            mount.faults.add(.put, calls: 1...9999, .fail(down))
            mount.faults.add(.head, calls: 1...9999, .fail(down))
            last = ours + ours
            try await mount.fs.write(inode, handle, 3000, ours)
            try await mount.fs.flush(inode, handle)
        }
        try mount.remount(crash: true)
        mount.faults.clear()
        #expect(try await mount.read("f") == last)
        await mount.fs.drain()
        try await stored(mount, "f", last)
        #expect(try await mount.keys() == ["f"])
    }

    @Test("What the store refuses is told at the next write, fsync and close, until it has succeeded")
    func refused() async throws {
        let mount = try make()
        let full = VFSError(.quotaExceeded, "no more")
        mount.faults.add(.put, calls: 1...9999, .fail(full))
        try await write(mount, "f", ours)
        await settled { !mount.fs.statistics().failedCommits.isEmpty }
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.write(inode, handle, 0, [1]) }
                == .quotaExceeded)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .quotaExceeded)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.flush(inode, handle) } == .quotaExceeded)
        mount.faults.clear()
        await mount.fs.drain()
        try await mount.fs.write(inode, handle, 0, [1])
        try await mount.fs.close(inode, handle)
        await mount.fs.drain()
        try await stored(mount, "f", ours.patched([1], at: 0))
    }

    @Test("Bytes that the process before wrote and nobody has acknowledged are no part of what the next one stores")
    func excess() async throws {
        let mount = try make(delay: .seconds(3600))
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        let first = pattern(300 << 10, seed: 5)
        try await mount.fill(inode, handle, first)
        try await mount.fs.fsync(inode, handle)
        try await mount.fs.write(inode, handle, first.count, pattern(300 << 10, seed: 6))
        try mount.remount(crash: true)
        #expect(mount.stagingUsed <= first.count)
        let again = try await mount.inode("f")
        let writer = try await mount.fs.open(again, flags: Flags.readWrite)
        try await mount.fs.write(again, writer, 500 << 10, [1])
        try await mount.fs.close(again, writer)
        await mount.fs.drain()
        try await stored(mount, "f", first + [UInt8](repeating: 0, count: 200 << 10) + [1])
    }

    @Test("A store that forbids it for a while costs nothing that was acknowledged")
    func forbidden() async throws {
        let mount = try make()
        mount.faults.add(.put, calls: 1...9999, .fail(VFSError(.permissionDenied, "no")))
        try await write(mount, "f", ours)
        await settled { !mount.fs.statistics().failedCommits.isEmpty }
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode)
        try await mount.fs.release(inode, handle)
        #expect(try await mount.read("f") == ours)
        try mount.remount(crash: true)
        mount.faults.clear()
        #expect(try await mount.read("f") == ours)
        await mount.fs.drain()
        try await stored(mount, "f", ours)
    }

    @Test(
        "A rename over a file that has not gone up leaves one of the two, whatever happens", arguments: [true, false])
    func renameOver(isStored: Bool) async throws {
        let mount = try make(delay: .seconds(3600))
        try await write(mount, "new", ours + ours)
        if isStored { await mount.fs.drain() }
        try await write(mount, "f", ours)
        try await mount.fs.rename(Mount.root, "new", Mount.root, "f")
        try mount.remount(crash: true)
        #expect(try await mount.read("f") == ours + ours)
        await mount.fs.drain()
        try await stored(mount, "f", ours + ours)
        #expect(try await mount.keys() == ["f"])
        #expect(mount.fs.statistics().failedCommits.isEmpty && mount.namedFiles.isEmpty)
    }

    @Test("What is closed while it goes up is on record until it is stored")
    func meanwhile() async throws {
        let mount = try make()
        mount.faults.add(.put, calls: 1...1, .delay(.milliseconds(300)))
        mount.faults.add(.put, calls: 2...9999, .fail(down))
        try await write(mount, "f", ours)
        await pause(.milliseconds(100))
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 3000, ours)
        try await mount.fs.close(inode, handle)
        while try await mount.store.headIfThere("f") == nil { await pause(.milliseconds(5)) }
        await pause(.milliseconds(100))
        try mount.remount(crash: true)
        #expect(try await mount.read("f") == ours + ours)
        mount.faults.clear()
        await mount.fs.drain()
        try await stored(mount, "f", ours + ours)
        #expect(try await mount.keys() == ["f"])
    }

    @Test("With sync: store an fsync waits for the store, and a crowded disk for what was written before")
    func store() async throws {
        let mount = try make(delay: .seconds(3600)) { $0.policy.sync = .store }
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        try await mount.fs.fsync(inode, handle)
        #expect(try await mount.object("f") == ours)
        try await mount.fs.close(inode, handle)
        mount.staging.limit(to: 1 << 20, keepFree: 0)
        let large = pattern(600_000, seed: 4)
        try await write(mount, "g", large)
        #expect(try await mount.object("g") == large)
    }
}
