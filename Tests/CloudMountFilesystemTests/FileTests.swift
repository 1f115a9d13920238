import CloudMountFilesystem
import CloudMountLayers
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

@Suite("Files")
struct FileTests {
    @Test("A file that was written, closed and remounted has its bytes")
    func roundTrip() async throws {
        let mount = try TestMount()
        let bytes = pattern(300_000)
        try await mount.write("a", bytes)
        #expect(try await mount.object("a") == bytes)
        mount.remount()
        #expect(try await mount.read("a") == bytes)
        #expect(mount.memoryUsed == 0)
        mount.staging.finishRemovals(seconds: 60)
        #expect(mount.staging.used == 0)
    }

    @Test("A file of too many pieces takes no more before they are stored, but what is in place of them")
    func crowded() async throws {
        let mount = try TestMount { $0.mostPieces = 100 }
        let (inode, handle) = try await mount.fs.create(TestMount.root, "a", flags: 0o1001)
        for index in 0..<100 { try await mount.fs.write(inode, handle, 2 * index, [1]) }
        for offset in [1, 500] {
            #expect(
                await failure { () async throws(VFSError) in
                    try await mount.fs.write(inode, handle, offset, [2])
                } == .noSpace)
        }
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.fallocate(inode, handle, mode: 3, 2, 1)
            } == .noSpace)
        try await mount.fs.write(inode, handle, 4, [3])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("a") == (0..<199).map { $0 == 4 ? 3 : $0 % 2 == 0 ? 1 : 0 })
        let again = try await mount.fs.open(inode, flags: 1)
        try await mount.fs.write(inode, again, 1, [2])
        try await mount.fs.close(inode, again)
        #expect(try await mount.object("a")?[1] == 2)
    }

    @Test("A file opened with O_TRUNC and closed is empty")
    func truncateOnOpen() async throws {
        let mount = try TestMount()
        try await mount.write("a", pattern(10))
        let inode = try await mount.inode("a")
        let handle = try await mount.fs.open(inode, flags: 0o1001)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("a") == [])
        mount.remount()
        #expect(try await mount.read("a") == [])
    }

    @Test("A new file that replaced another by its name, and is renamed again before it is stored, takes no copy")
    func renamedTwiceBeforeStored() async throws {
        let mount = try TestMount()
        let root = TestMount.root
        try await mount.write("b", pattern(10))
        let (inode, handle) = try await mount.fs.create(root, "a")
        _ = try await mount.fs.write(inode, handle, 0, pattern(20, seed: 2))
        try await mount.fs.rename(root, "a", root, "b")
        try await mount.fs.rename(root, "b", root, "c")
        #expect(mount.traffic[.copy] == 0)
        #expect(try await mount.keys() == [])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.keys() == ["c"])
        #expect(try await mount.object("c") == pattern(20, seed: 2))
    }

    @Test("Directories are made, moved and removed where the store keeps none")
    func directoriesWithoutFolderObjects() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.emptyFolders = false
        let mount = try TestMount(capabilities: capabilities) {
            $0.policy.metadataTTL = .zero; $0.policy.negativeTTL = .zero
        }
        let (root, fs) = (TestMount.root, mount.fs)
        let top = try await fs.mkdir(root, "d")
        let inner = try await fs.mkdir(top, "inner")
        #expect(await failure { () async throws(VFSError) in try await fs.mkdir(root, "d") } == .alreadyExists)
        #expect(await failure { () async throws(VFSError) in try await fs.rmdir(root, "d") } == .notEmpty)
        let (inode, handle) = try await fs.create(inner, "f")
        try await fs.close(inode, handle)
        try await fs.setattr(inner) { $0.permissions = 0o700 }
        try await fs.rename(root, "d", root, "e")
        #expect(try await mount.keys() == ["e/inner/f"])
        try await fs.unlink(inner, "f")
        #expect(try await mount.keys() == [])
        #expect(try await fs.list(root).map(\.name) == ["e"])
        #expect(try await fs.list(top).map(\.name) == ["inner"])
        #expect(try await fs.lookup(top, "inner")?.permissions == 0o700)
        try await fs.rmdir(top, "inner")
        try await fs.rmdir(root, "e")
        #expect(try await fs.list(root).isEmpty)
        #expect(try await fs.lookup(root, "e") == nil)
    }

    @Test("Where the store keeps no folders, a limited number of empty ones is kept here")
    func mostFoldersHere() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.emptyFolders = false
        let mount = try TestMount(capabilities: capabilities) { $0.mostFoldersHere = 10 }
        let (root, fs) = (TestMount.root, mount.fs)
        var folders: [InodeID] = []
        for number in 0..<10 { folders.append(try await fs.mkdir(root, "d\(number)")) }
        #expect(await failure { () async throws(VFSError) in try await fs.mkdir(root, "more") } == .noSpace)
        try await fs.rmdir(root, "d9")
        _ = try await fs.mkdir(root, "d9")
        for folder in folders.prefix(5) {
            let (inode, handle) = try await fs.create(folder, "f")
            try await fs.close(inode, handle)
        }
        // Counted anew after a while.
        mount.time.advance(.seconds(2))
        for number in 0..<5 { _ = try await fs.mkdir(root, "e\(number)") }
        #expect(await failure { () async throws(VFSError) in try await fs.mkdir(root, "more") } == .noSpace)
        #expect(try await fs.list(root).count == 15)
    }

    @Test("Folders that are only here are not moved to where their paths would be longer than any key")
    func deepFoldersHere() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.emptyFolders = false
        let mount = try TestMount(capabilities: capabilities)
        let (root, fs) = (TestMount.root, mount.fs)
        let depth = capabilities.maxKeyBytes / 4 + 10
        var ends: [InodeID] = []
        for chain in ["x", "y"] {
            var folder = try await fs.mkdir(root, chain)
            for _ in 0..<depth { folder = try await fs.mkdir(folder, "a") }
            ends.append(folder)
        }
        let code = await failure { () async throws(VFSError) in try await fs.rename(root, "y", ends[0], "y") }
        #expect(code == .nameTooLong)
        // So is a file that the store does not have yet.
        let top = try await fs.mkdir(try await fs.mkdir(root, "z"), String(repeating: "m", count: 250))
        let (inode, handle) = try await fs.create(top, String(repeating: "n", count: 250))
        try await fs.write(inode, handle, 0, [1])
        let second = await failure { () async throws(VFSError) in try await fs.rename(root, "z", ends[0], "z") }
        #expect(second == .nameTooLong)
        try await fs.close(inode, handle)
        try await fs.rename(root, "x", root, "w")
        #expect(try await fs.lookup(root, "w") != nil)
    }

    @Test("Extended attributes have a namespace that an object can hold")
    func namespaces() async throws {
        let mount = try TestMount()
        try await mount.write("a", [])
        let inode = try await mount.inode("a")
        for name in ["plain", "user.", "system.x", "users.x", "trusted."] {
            let code = await failure { () async throws(VFSError) in try await mount.fs.setxattr(inode, name, [1]) }
            #expect(code == (name.hasSuffix(".") ? .invalidArgument : .notSupported), "\(name)")
        }
        for name in ["user.x", "trusted.x", "security.x"] { try await mount.fs.setxattr(inode, name, [1]) }
        #expect(try await mount.fs.listxattr(inode) == ["security.x", "trusted.x", "user.x"])
    }

    @Test("A commit of many small changes reads what lies between them in a few requests")
    func scatteredChanges() async throws {
        let mount = try TestMount()
        var bytes = pattern(1 << 20)
        try await mount.write("a", bytes)
        let inode = try await mount.inode("a")
        let handle = try await mount.fs.open(inode, flags: 2)
        for offset in stride(from: 5_000, to: 1_000_000, by: 5_000) {
            try await mount.fs.write(inode, handle, offset, [1, 2, 3])
            bytes.replaceSubrange(offset..<offset + 3, with: [1, 2, 3])
        }
        mount.traffic.reset()
        try await mount.fs.fsync(inode, handle)
        #expect(mount.traffic[.read] <= 2)
        #expect(mount.traffic.bytesWanted <= 1 << 20)
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("a") == bytes)
        #expect(mount.memoryUsed == 0)
    }

    @Test("A small file that was just stored is read and appended to without a request")
    func recent() async throws {
        let mount = try TestMount()
        let bytes = pattern(1000)
        try await mount.write("f", bytes)
        #expect(try await mount.read("f") == bytes)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: 0o2001)
        try await mount.fs.write(inode, handle, 1000, [1, 2, 3])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == bytes + [1, 2, 3])
        try await mount.fs.setattr(inode) { $0.permissions = 0o600 }
        try await mount.fs.rename(TestMount.root, "f", TestMount.root, "g")
        #expect(try await mount.read("g") == bytes + [1, 2, 3])
        #expect(mount.traffic[.read] == 0)
        // A cut, and zeros, from the same bytes.
        let writer = try await mount.fs.open(inode, flags: 2)
        try await mount.fs.setattr(inode) { $0.size = 500 }
        try await mount.fs.write(inode, writer, 600, [9])
        try await mount.fs.close(inode, writer)
        let cut = bytes[..<500] + [UInt8](repeating: 0, count: 100) + [9]
        #expect(try await mount.object("g") == Array(cut))
        #expect(try await mount.read("g") == Array(cut))
    }

    @Test("A small file that was read is appended to without another request")
    func recentlyRead() async throws {
        let mount = try TestMount()
        try await mount.put("f", pattern(1000))
        #expect(try await mount.read("f") == pattern(1000))
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: 0o2001)
        try await mount.fs.write(inode, handle, 1000, [1, 2, 3])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == pattern(1000) + [1, 2, 3])
        #expect(mount.traffic[.read] == 1)
    }

    @Test("What was just stored and is replaced elsewhere is read as it is there")
    func recentReplaced() async throws {
        let mount = try TestMount { $0.policy.metadataTTL = .zero }
        try await mount.write("f", pattern(1000))
        try await mount.put("f", pattern(1000, seed: 2))
        #expect(try await mount.read("f") == pattern(1000, seed: 2))
        try await mount.write("f", pattern(1000, seed: 3))
        #expect(try await mount.read("f") == pattern(1000, seed: 3))
    }

    @Test("Memory that others want is not kept for what was just stored")
    func recentPressure() async throws {
        let mount = try TestMount(memory: 4 << 20)
        for index in 0..<100 { try await mount.write("f\(index)", pattern(4000, seed: UInt64(index))) }
        #expect(mount.memory.used <= 128 << 10)
        let share = mount.memory.share()
        withExtendedLifetime((0..<64).compactMap { _ in share.take(64 << 10) }) {}
        for index in 0..<100 { #expect(try await mount.read("f\(index)") == pattern(4000, seed: UInt64(index))) }
    }
}
