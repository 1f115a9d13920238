import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import Synchronization
import TestSeeds
import TestServers
import Testing

@testable import CloudMountCache

@Suite("The store of versions on the local disk")
struct VersionStoreTests {
    private static let sizes = [1, 4096, 100_000, 1 << 20, (1 << 20) + 1, (5 << 20) + 12_345]

    @Test("What was kept is read again, also by the next process", arguments: sizes)
    func keeps(size: Int) throws {
        let disk = try Disk()
        let info = info("a/b", size)
        disk.mount().keep(info)
        disk.settle()
        #expect(disk.mount().read(info) == bytes(info))
        #expect(disk.store.used == disk.blocks())
        try disk.start()
        #expect(disk.mount().read(info) == bytes(info))
        #expect(disk.store.used == disk.blocks() && disk.area.clean == disk.blocks())
    }

    @Test("Another tag, size, key, mount or bucket is another version")
    func others() throws {
        let disk = try Disk()
        disk.mount().keep(info("a", 5000))
        disk.settle()
        #expect(disk.mount().read(info("a", 5000, tag: "2")) == nil)
        #expect(disk.mount().read(info("a", 4999)) == nil)
        #expect(disk.mount().read(info("b", 5000)) == nil)
        #expect(disk.mount("music").read(info("a", 5000)) == nil)
        #expect(MountVersions(disk.store, mount: "photos", bucket: "other", limit: 0).read(info("a", 5000)) == nil)
    }

    @Test("Parts are read by this process, and whole chunks by the next")
    func parts() throws {
        let disk = try Disk()
        let info = info("big", 3 << 20)
        for extent in [Extent(100, 5000), Extent(1 << 20, (1 << 20) + 700_000), Extent((1 << 20) + 700_000, 2 << 20)] {
            disk.mount().keep(info, extent)
        }
        disk.settle()
        let all = bytes(info)
        #expect(disk.mount().read(info, Extent(200, 4000)) == Array(all[200..<4000]))
        #expect(disk.mount().read(info, Extent(0, 4000)) == nil)
        #expect(
            disk.mount().file(info).missing(in: Extent(0, 3 << 20)) == [
                Extent(0, 100), Extent(5000, 1 << 20), Extent(2 << 20, 3 << 20),
            ])
        try disk.start()
        #expect(disk.mount().read(info, Extent(200, 4000)) == nil)
        #expect(disk.mount().read(info, Extent(1 << 20, 2 << 20)) == Array(all[(1 << 20)..<(2 << 20)]))
    }

    @Test("Damage on the disk is a miss, and nothing else", arguments: [5000, (2 << 20) + 5000])
    func damage(size: Int) throws {
        let disk = try Disk()
        let info = info("a", size)
        disk.mount().keep(info)
        disk.settle()
        let files = disk.files()
        let before = files.map { ($0, readBytes($0) ?? []) }
        let all = bytes(info)
        var random = SeededGenerator(seed: UInt64(size))
        for _ in 0..<200 {
            for (path, bytes) in before { try writeFile(path, bytes) }
            guard let (path, good) = before.randomElement(using: &random) else { continue }
            var bad = good
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                bad[Int.random(in: 0..<bad.count, using: &random)] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
            case 1: bad.removeLast(Int.random(in: 1...bad.count, using: &random))
            case 2: bad += [1, 2, 3]
            default: bad = bad.map { _ in 0 }
            }
            try writeFile(path, bad)
            try disk.start()
            let mount = disk.mount()
            for start in stride(from: 0, to: size, by: 300_000) {
                let extent = Extent(start, min(size, start + 300_000))
                if let found = mount.read(info, extent) {
                    #expect(found == Array(all[extent.lowerBound..<extent.upperBound]))
                }
            }
            // What was lost comes again.
            mount.keep(info, of: all)
            disk.settle()
            #expect(mount.read(info) == all)
        }
    }

    @Test("A lost bit of the bytes costs its chunk alone, and is counted")
    func oneChunk() throws {
        let disk = try Disk()
        let info = info("a", 3 << 20)
        disk.mount().keep(info)
        disk.settle()
        guard let path = disk.files().first(where: { !$0.hasSuffix(".map") }), var bad = readBytes(path) else {
            Issue.record("no file")
            return
        }
        bad[(1 << 20) + 7] ^= 1
        try writeFile(path, bad)
        try disk.start()
        #expect(disk.mount().read(info) == nil)
        #expect(disk.store.damaged == 1)
        #expect(disk.mount().file(info).missing(in: Extent(0, 3 << 20)) == [Extent(1 << 20, 2 << 20)])
    }

    @Test("The limit holds, and who writes has the room of what is clean")
    func limit() throws {
        let disk = try Disk(limit: 8 << 20)
        let mount = disk.mount()
        for index in 0..<40 {
            mount.keep(info("f\(index)", 500_000))
            disk.settle()
            #expect(disk.area.clean <= 8 << 20)
        }
        #expect(disk.area.clean > 4 << 20)
        #expect(disk.area.clean == disk.blocks())
        let staged = try disk.area.makeFile(label: "photos")
        let piece = [UInt8](repeating: 1, count: 1 << 20)
        for index in 0..<7 { try piece.withUnsafeBytes { bytes throws in try staged.write(bytes, at: index << 20) } }
        #expect(disk.area.used + disk.area.clean <= 8 << 20)
        #expect(throws: VFSError.self) {
            for index in 7..<9 {
                try piece.withUnsafeBytes { bytes throws in try staged.write(bytes, at: index << 20) }
            }
        }
    }

    @Test("A policy's size bounds one mount, and leaves the others theirs")
    func size() throws {
        let disk = try Disk()
        let (small, large) = (disk.mount("small", limit: 2 << 20), disk.mount("large"))
        for index in 0..<20 {
            small.keep(info("f\(index)", 300_000))
            large.keep(info("f\(index)", 300_000))
            disk.settle()
        }
        #expect(small.used <= 2 << 20 && small.used > 1 << 20)
        for index in 0..<20 { #expect(large.read(info("f\(index)", 300_000)) != nil) }
    }

    @Test("Going through a large tree once does not throw out what is read again and again")
    func scan() throws {
        let disk = try Disk(limit: 16 << 20)
        let wanted = (0..<10).map { info("wanted/\($0)", 200_000) }
        for one in wanted { disk.mount().keep(one) }
        disk.settle()
        disk.later(3600)
        for one in wanted {
            #expect(disk.mount().read(one) != nil)
            disk.mount().file(one).noteUse()
        }
        try disk.start(limit: 16 << 20)
        for index in 0..<200 {
            disk.later(1)
            disk.mount().keep(info("tree/\(index)", 200_000))
            disk.settle()
        }
        for one in wanted { #expect(disk.mount().read(one) == bytes(one)) }
    }

    @Test("Of a version larger than all room, what was read last stays")
    func huge() throws {
        let disk = try Disk(limit: 100 << 20)
        let mount = disk.mount()
        let huge = info("huge", 200 << 20)
        let chunk = [UInt8](repeating: 7, count: 1 << 20)
        for index in 0..<200 {
            let address = UInt(bitPattern: UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 16))
            UnsafeMutableRawPointer(bitPattern: address)?.copyMemory(from: chunk, byteCount: 1 << 20)
            mount.fill(mount.file(huge), VersionMap.extent(index, of: huge.size), most: .max) {
                UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: 1 << 20)
            } end: {
                UnsafeMutableRawPointer(bitPattern: address)?.deallocate()
            }
            disk.settle()
        }
        #expect(disk.area.clean <= 100 << 20 && disk.area.clean > 50 << 20)
        #expect(disk.area.clean == disk.blocks())
        #expect(mount.file(huge).place(of: Extent(199 << 20, 200 << 20)) == .here)
        #expect(mount.file(huge).place(of: Extent(0, 1 << 20)) == .absent)
    }

    @Test("What mounts that are no more have left goes first")
    func unclaimed() throws {
        let disk = try Disk(limit: 8 << 20)
        disk.mount("old").keep(info("a", 2 << 20))
        disk.settle()
        let mount = disk.mount("new")
        for index in 0..<24 {
            mount.keep(info("f\(index)", 400_000))
            disk.settle()
        }
        #expect(disk.mount("old").used == 0)
        #expect(mount.used > 4 << 20)
    }

    @Test("The same bytes under another key are found there, and not under the old one", arguments: [5000, 3 << 20])
    func relocate(size: Int) throws {
        let disk = try Disk()
        let (old, new) = (info("old", size), info("new", size, tag: "2"))
        disk.mount().keep(old)
        disk.settle()
        disk.mount().relocate([(old, new)])
        disk.settle()
        #expect(disk.mount().read(old) == nil)
        #expect(disk.mount().read(new) == bytes(old))
        #expect(disk.store.used == disk.blocks())
        try disk.start()
        #expect(disk.mount().read(new) == bytes(old))
        disk.mount().discard(new)
        disk.settle()
        #expect(disk.files().isEmpty && disk.store.used == 0 && disk.area.clean == 0)
    }

    @Test("A staged file becomes the version that was made of it", arguments: [5000, 100_000, 3 << 20])
    func adopt(size: Int) throws {
        let disk = try Disk()
        let memory = BufferPool(limit: 64 << 20)
        for (key, changes) in [("kept", false), ("changed", true)] {
            let info = info(key, size)
            let share = memory.share()
            var staged: StagedFile? = try disk.area.makeFile(label: "photos", memory: share)
            try bytes(info).withUnsafeBytes { bytes throws in try staged?.write(bytes, at: 0) }
            let version = try #require(staged?.version)
            // By a writer that came late: these bytes are of no version.
            if changes { try [UInt8(1), 2, 3].withUnsafeBytes { bytes throws in try staged?.write(bytes, at: 100) } }
            if let staged { disk.mount().adopt(staged, version, as: info) }
            staged = nil
            disk.settle()
            #expect(disk.mount().read(info) == (changes ? nil : bytes(info)))
        }
        #expect(disk.area.used == 0 && disk.area.leftovers.isEmpty)
        #expect(disk.store.used == disk.blocks())
        try disk.start()
        #expect(disk.mount().read(info("kept", size)) == bytes(info("kept", size)))
    }

    @Test("What a record names is not taken")
    func recorded() throws {
        let disk = try Disk()
        let mount = disk.mount()
        let info = info("a", 100_000)
        var staged: StagedFile? = try disk.area.makeFile(label: "photos")
        try bytes(info).withUnsafeBytes { bytes throws in try staged?.write(bytes, at: 0) }
        staged?.setRecorded(true)
        if let staged, let version = staged.version { mount.adopt(staged, version, as: info) }
        staged = nil
        disk.settle()
        #expect(disk.area.leftovers.count == 1)
        #expect(mount.read(info) == nil)
    }

    @Test("Nothing comes from a link or a folder that somebody has put there")
    func planted() throws {
        let disk = try Disk()
        let info = info("a", 5000)
        disk.mount().keep(info)
        disk.settle()
        let path = try #require(disk.files().first)
        try writeFile(disk.directory + "/planted", readBytes(path) ?? [])
        unlink(path)
        symlink(disk.directory + "/planted", path)
        try disk.start()
        #expect(disk.mount().read(info) == nil)
        disk.mount().keep(info)
        disk.settle()
        #expect(readBytes(disk.directory + "/planted")?.count == 5000 + VersionMap.headerCount)
        #expect(disk.mount().read(info) == bytes(info))
    }

    @Test("A staged file of an earlier process is of no version: what that has sent of it is not known")
    func reopened() throws {
        let disk = try Disk()
        var staged: StagedFile? = try disk.area.makeFile(label: "photos")
        let info = info("a", 300_000)
        try bytes(info).withUnsafeBytes { bytes throws in try staged?.write(bytes, at: 0) }
        staged?.keep()
        let name = try #require(staged?.name)
        staged = nil
        try disk.start()
        let again = try #require(try disk.area.reopen(name, for: "photos"))
        #expect(again.version == nil)
        again.setRecorded(false)
    }

    @Test("Writers get what is clean, also when nobody has counted it or it has no entry")
    func room() throws {
        let disk = try Disk(limit: 200 << 20)
        // Bytes of a version that was being adopted when the process ended: no entry tells of them.
        let info = info("cut", 100 << 20)
        disk.mount().keep(info, Extent(0, 1 << 20), of: [UInt8](repeating: 3, count: 1 << 20))
        disk.settle()
        let path = try #require(disk.files().first { !$0.hasSuffix(".map") })
        try writeFile(path, [UInt8](repeating: 1, count: 100 << 20))
        try writeFile(path + ".map", VersionMap.header(100 << 20))
        try disk.start(limit: 200 << 20)
        #expect(disk.area.clean >= 100 << 20)
        let staged = try disk.area.makeFile(label: "photos")
        let piece = [UInt8](repeating: 1, count: 1 << 20)
        for index in 0..<190 { try piece.withUnsafeBytes { bytes throws in try staged.write(bytes, at: index << 20) } }
        #expect(disk.area.clean <= 10 << 20)
    }

    @Test("A fifo for a map, times at the end of time and folders for files neither hang nor trap the store")
    func odd() throws {
        let disk = try Disk(limit: 8 << 20)
        disk.mount().keep(info("a", 5000))
        disk.mount().keep(info("b", 2 << 20))
        disk.settle()
        for path in disk.files() {
            if path.hasSuffix(".map") {
                unlink(path)
                mkfifo(path, 0o600)
            }
            let times = [timespec(tv_sec: .min, tv_nsec: 0), timespec(tv_sec: .min, tv_nsec: 0)]
            utimensat(AT_FDCWD, path, times, 0)
        }
        let folder = String(
            try #require(disk.files().first).prefix { $0 != " " }.split(separator: "/").dropLast().joined(
                separator: "/"))
        mkdir("/\(folder)/" + String(repeating: "0", count: 32), 0o700)
        try disk.start(limit: 8 << 20)
        for index in 0..<30 {
            disk.mount().keep(info("f\(index)", 500_000))
            disk.settle()
        }
        #expect(disk.area.clean <= 8 << 20)
        #expect(disk.mount().read(info("f29", 500_000)) == bytes(info("f29", 500_000)))
    }

    @Test("What is removed by hand while it is used is counted as gone, and comes again")
    func removedByHand() throws {
        let disk = try Disk()
        let mount = disk.mount()
        let info = info("a", 4 << 20)
        mount.keep(info, Extent(0, 2 << 20), of: bytes(info))
        disk.settle()
        for path in disk.files() { unlink(path) }
        mount.keep(info, of: bytes(info))
        disk.settle()
        mount.keep(info, of: bytes(info))
        disk.settle()
        #expect(mount.read(info) == bytes(info))
        #expect(disk.store.used == disk.blocks() && disk.area.clean == disk.blocks())
    }

    @Test("A life that ends takes nothing from the next one of its mount")
    func lives() throws {
        let disk = try Disk(limit: 8 << 20)
        var old: MountVersions? = disk.mount("m")
        let new = disk.mount("m", limit: 1 << 20)
        withExtendedLifetime(old) {}
        old = nil
        for index in 0..<8 {
            new.keep(info("f\(index)", 300_000))
            disk.settle()
            #expect(new.used <= 1 << 20)
        }
    }

    @Test("Threads that keep, read, evict, move and forget see the version's bytes or none", arguments: [1, 2, 3])
    func threads(seed: UInt64) async throws {
        let disk = try Disk(limit: 24 << 20, openLimit: 3)
        let mount = disk.mount()
        let infos = [info("a", 3000), info("b", 700_000), info("c", 3 << 20), info("d", (6 << 20) + 5)]
        let all = infos.map { bytes($0) }
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<4 {
                group.addTask {
                    await BlockingPool.shared.run("worker\(worker)") {
                        var random = SeededGenerator(seed: seed * 100 + UInt64(worker))
                        for _ in 0..<300 {
                            let index = Int.random(in: 0..<infos.count, using: &random)
                            let info = infos[index]
                            let low = Int.random(in: 0..<info.size, using: &random)
                            let extent = Extent(low, Int.random(in: low + 1...info.size, using: &random))
                            switch Int.random(in: 0..<12, using: &random) {
                            case 0..<4: mount.keep(info, extent, of: all[index])
                            case 4: mount.keep(info, of: all[index])
                            case 5: _ = mount.file(info).evict(Int.random(in: 1...4 << 20, using: &random))
                            case 6: mount.discard(info)
                            case 7:
                                var other = info
                                other.etag = ETag("moved")
                                mount.relocate([(info, other), (other, info)])
                            default:
                                if let found = mount.read(info, extent) {
                                    #expect(found == Array(all[index][extent.lowerBound..<extent.upperBound]))
                                }
                            }
                        }
                    }
                }
            }
        }
        disk.settle()
        #expect(disk.store.used == disk.blocks() && disk.area.clean == disk.blocks())
    }
}

@Suite("What goes first")
struct EvictionTests {
    @Test("What was used once goes sixteen times as early as what was used again")
    func order() {
        var eviction = Eviction()
        func add(_ name: Int, age: Int, isSettled: Bool) {
            let id = VersionID(info("\(name)", name), in: "m")
            eviction.add(Eviction.Candidate(id: id, size: name, age: age, isSettled: isSettled, bytes: 1))
        }
        add(1, age: 100, isSettled: false)
        add(2, age: 1500, isSettled: true)
        add(3, age: 1700, isSettled: true)
        add(4, age: 90, isSettled: false)
        #expect(eviction.order.map(\.size) == [3, 1, 2, 4])
        #expect(!eviction.isEnough(for: 1))
    }

    @Test("A checksum is that of RFC 3720, whole and in pieces")
    func checksum() {
        var sum = CRC32C()
        [UInt8](repeating: 0, count: 32).withUnsafeBytes { sum.update($0) }
        #expect(sum.value == 0x8A91_36AA)
        sum = CRC32C()
        Array("123456789".utf8).withUnsafeBytes { sum.update($0) }
        #expect(sum.value == 0xE306_9283)
        var pieces = CRC32C()
        for piece in ["1", "2345", "6789"] { Array(piece.utf8).withUnsafeBytes { pieces.update($0) } }
        #expect(pieces.value == sum.value)
    }
}
