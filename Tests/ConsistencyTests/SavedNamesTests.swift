import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import Glibc
import MemoryProvider
import MountHarness
import TestSeeds
import Testing

/// What a mount knows of names and attributes at its clean end, and the next one takes up.
@Suite("Saved names")
struct SavedNamesTests {
    /// One entry as a walk shows it.
    struct Shown: Equatable, Comparable, CustomStringConvertible {
        var path: String
        var kind: FileKind
        var mode: UInt32
        var owner: UInt32
        var size: Int
        var modified: Timestamp

        static func < (a: Shown, b: Shown) -> Bool { a.path < b.path }
        var description: String { "\(path) \(kind) \(String(mode, radix: 8)) \(owner) \(size) \(modified)" }
    }

    private let time = HeldClock()

    /// A store whose listings tell no attributes, as S3's.
    private func make(
        pages: Int = 1000, bareListings: Bool = true, _ adjust: (inout MountSettings) -> Void = { _ in }
    ) throws -> Mount {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.listingCarriesMetadata = !bareListings
        capabilities.maxListKeys = pages
        return try Mount(capabilities, tagsBytes: true, journals: true, keepsNames: true, clock: time.clock) {
            $0.policy.data = .disk
            adjust(&$0)
        }
    }

    /// As find(1): all entries below a directory, each looked at.
    private func walk(_ mount: Mount, _ inode: InodeID = Mount.root, _ path: String = "") async throws -> [Shown] {
        var all: [Shown] = []
        for entry in try await mount.fs.list(inode, plus: false, capacity: 1000) {
            guard let found = try await mount.fs.lookup(inode, entry.name) else { continue }
            let shown = Shown(
                path: path + entry.name, kind: found.kind, mode: found.permissions, owner: found.uid, size: found.size,
                // A folder that no object keeps has the time at which it was first seen.
                modified: found.kind == .directory && entry.name != "marked" ? Timestamp(seconds: 0) : found.modified)
            all.append(shown)
            if found.kind == .directory { all += try await walk(mount, found.inode, path + entry.name + "/") }
        }
        return all.sorted()
    }

    /// All but changes.
    private func requests(_ mount: Mount) -> [String] {
        let lists = mount.traffic[.list]
        return [Verb.head, .read].flatMap { verb in mount.traffic.keys(verb).map { "\(verb) \($0)" } }
            + mount.traffic.keys(.list).map { "list \($0)" } + (lists > 0 ? ["\(lists) listings"] : [])
    }

    /// Files with attributes of their own, files of other tools, links, folders with and without an object.
    private func fill(_ mount: Mount) async throws {
        for folder in ["a", "a/deep/deeper", "b"] {
            for index in 0..<5 {
                let own = ObjectMetadata(
                    contentType: "text/x\(index)", modified: Timestamp(seconds: 1_600_000_000 + index, nanoseconds: 5),
                    user: ["mode": "0100\(600 + index)", "uid": "\(1200 + index)", "colour": "red"])
                try await mount.put("\(folder)/own\(index)", pattern(10 + index), own)
            }
        }
        for index in 0..<7 { try await mount.put("plain/file\(index)", pattern(index)) }
        try await mount.put("b/link", Array("own1".utf8), ObjectMetadata(user: ["mode": "0120777"]))
        try await mount.put("marked/", [], ObjectMetadata(modified: Timestamp(seconds: 77), user: ["mode": "040711"]))
        try await mount.put("marked/inside", [1])
        // Beside a folder of its name: hidden.
        try await mount.put("plain", [1, 2])
    }

    private func expect(_ mount: Mount, _ before: [Shown], at place: SourceLocation = #_sourceLocation) async throws {
        let after = try await walk(mount)
        let differences = after.filter { !before.contains($0) } + before.filter { !after.contains($0) }
        #expect(differences.prefix(5) == [], sourceLocation: place)
        #expect(after.count == before.count, sourceLocation: place)
    }

    /// A mount that has seen all that there is: what the second walk sees costs nothing any more.
    private func known(_ mount: Mount) async throws -> [Shown] {
        try await fill(mount)
        let first = try await walk(mount)
        #expect(try await walk(mount) == first)
        mount.traffic.reset()
        #expect(try await walk(mount) == first && requests(mount) == [])
        return first
    }

    private func restart(_ mount: Mount, _ adjust: (inout MountSettings) -> Void = { _ in }) async throws {
        await mount.end()
        try mount.remount(adjust)
        mount.traffic.reset()
    }

    @Test("Within its time all is there after a restart without a request, again and again", arguments: [true, false])
    func within(bareListings: Bool) async throws {
        let mount = try make(pages: 3, bareListings: bareListings)
        let before = try await known(mount)
        #expect(before.count == 30 && before.contains { $0.mode == 0o601 && $0.owner == 1201 && $0.size == 11 })
        let link = try await mount.fs.readlink(mount.inode("b/link"))
        for _ in 0..<3 {
            try await restart(mount)
            try await expect(mount, before)
            #expect(try await mount.fs.readlink(mount.inode("b/link")) == link)
            let foreign = try await mount.inode("a/own1")
            #expect(try await mount.fs.listxattr(foreign) == mount.fs.listxattr(foreign))
            #expect(try await mount.attributes("a/nothing") == nil)
            #expect(requests(mount) == [])
            #expect(mount.fs.statistics().hiddenKeys == 1)
        }
        // What is opened is the version that was seen, and needs no HEAD where it needed none.
        #expect(try await mount.read("a/own2") == pattern(12))
        #expect(mount.traffic[.head] == 0 && mount.traffic[.read] == 1)
    }

    @Test("What nobody looks at in a life is there in the next one all the same")
    func carried() async throws {
        let mount = try make()
        let before = try await known(mount)
        for round in 0..<4 {
            try await restart(mount)
            if round == 1 { _ = try await mount.attributes("a") }
            if round == 2 { _ = try await mount.fs.list(mount.inode("a/deep")) }
            #expect(requests(mount) == [])
        }
        try await restart(mount)
        try await expect(mount, before)
        #expect(requests(mount) == [])
    }

    @Test("Past its time a folder costs one listing, and no object is looked at again whose version is the same")
    func expired() async throws {
        let mount = try make()
        let before = try await known(mount)
        for pass in [Duration.seconds(61), .seconds(3600), .seconds(86_400 * 20)] {
            await mount.end()
            time.advance(pass)
            try mount.remount()
            mount.traffic.reset()
            try await expect(mount, before)
            #expect(mount.traffic[.head] == 0 && mount.traffic[.list] > 0)
        }
        // One that has changed is looked at, and no other.
        await mount.end()
        time.advance(.seconds(61))
        let other = ObjectMetadata(user: ["mode": "0100640", "uid": "4"])
        try await mount.put("a/own3", pattern(99), other)
        try await mount.delete("a/own4")
        try await mount.put("a/own5", pattern(1), other)
        try mount.remount()
        mount.traffic.reset()
        let after = try await walk(mount)
        #expect(after.first { $0.path == "a/own3" }?.mode == 0o640)
        #expect(after.first { $0.path == "a/own5" }?.owner == 4)
        #expect(after.map(\.path).filter { $0.hasPrefix("a/own") } == ["0", "1", "2", "3", "5"].map { "a/own" + $0 })
        #expect(Set(mount.traffic.keys(.head)) == ["a/own3", "a/own5"])
    }

    @Test("What was changed here is what is shown after a restart: made, written, renamed, removed")
    func changed() async throws {
        let mount = try make()
        _ = try await known(mount)
        try await restart(mount)
        // Into folders that have not been looked at in this life.
        try await mount.fs.unlink(mount.inode("a"), "own0")
        try await mount.fs.rename(mount.inode("a"), "own1", mount.inode("b"), "moved")
        try await mount.write("new", pattern(30), in: mount.inode("plain"))
        try await mount.write("file3", pattern(40), in: mount.inode("plain"))
        let folder = try await mount.fs.mkdir(mount.inode("b"), "folder")
        try await mount.write("in", pattern(3), in: folder)
        try await mount.fs.setattr(mount.inode("b/own2")) { $0.permissions = 0o611 }
        let before = try await walk(mount)
        try await restart(mount)
        try await expect(mount, before)
        // Times of folders are stored behind: one that has not been by then is asked for.
        #expect(requests(mount).allSatisfy { $0 == "head b/folder/" })
        #expect(before.first { $0.path == "plain/file3" }?.size == 40)
        #expect(before.first { $0.path == "b/own2" }?.mode == 0o611)
        #expect(!before.contains { $0.path == "a/own0" || $0.path == "a/own1" })
        #expect(try await Set(mount.keys()).isSuperset(of: ["b/moved", "plain/new", "b/folder/in"]))
    }

    @Test("A folder that was renamed or replaced shows nothing of what another had under its name")
    func renamed() async throws {
        let mount = try make()
        _ = try await known(mount)
        try await restart(mount)
        try await mount.fs.rename(Mount.root, "a", Mount.root, "z")
        let made = try await mount.fs.mkdir(Mount.root, "a")
        #expect(try await mount.fs.list(made).isEmpty)
        let below = try await mount.fs.mkdir(made, "deep")
        #expect(try await mount.fs.list(below).isEmpty)
        let before = try await walk(mount)
        #expect(before.contains { $0.path == "z/deep/deeper/own4" && $0.mode == 0o604 })
        #expect(!before.contains { $0.path.hasPrefix("a/own") })
        try await restart(mount)
        try await expect(mount, before)
    }

    @Test("After a kill nothing old is believed, and nothing of what was saved before lies there any more")
    func killed() async throws {
        let mount = try make()
        _ = try await known(mount)
        try await restart(mount)
        try await mount.fs.unlink(mount.inode("a"), "own0")
        #expect(files(in: mount.namesFolder).isEmpty)
        try mount.remount(crash: true)
        mount.traffic.reset()
        let after = try await walk(mount)
        #expect(!after.contains { $0.path == "a/own0" } && mount.traffic[.list] > 0)
    }

    @Test("A clock that was set back, or forward beyond the time, makes what was saved be asked for again")
    func clocks() async throws {
        for step in [Duration.seconds(-5), .seconds(600)] {
            let mount = try make()
            let before = try await known(mount)
            await mount.end()
            time.set(wallBy: step)
            try mount.remount()
            mount.traffic.reset()
            try await expect(mount, before)
            #expect(mount.traffic[.list] > 0 && mount.traffic[.head] == 0)
            time.set(wallBy: .zero)
        }
    }

    @Test("A shorter time in the file holds from the start on, and what keeps nothing on the disk keeps no names")
    func policies() async throws {
        let mount = try make()
        _ = try await known(mount)
        await mount.end()
        time.advance(.seconds(10))
        try mount.remount { $0.policy.metadataTTL = .seconds(5) }
        mount.traffic.reset()
        _ = try await walk(mount)
        #expect(requests(mount) == [])
        time.advance(.seconds(6))
        _ = try await walk(mount)
        #expect(mount.traffic[.list] > 0 && mount.traffic[.head] == 0)
        for policy in [CachePolicy.Freshness.always, .ttl] {
            try await restart(mount) {
                $0.policy.freshness = policy
                if policy == .ttl { $0.policy.data = .memory }
            }
            _ = try await walk(mount)
            #expect(mount.traffic[.list] > 0)
            await mount.end()
            #expect(files(in: mount.namesFolder).isEmpty)
        }
        try await restart(mount) {
            $0.policy.data = .memory
            $0.policy.write = .back
        }
        _ = try await walk(mount)
        let before = try await walk(mount)
        try await restart(mount) {
            $0.policy.data = .memory
            $0.policy.write = .back
        }
        try await expect(mount, before)
        #expect(requests(mount) == [])
    }

    @Test("Another bucket under the mount's name, or a store that can do other things, begins without")
    func identity() async throws {
        let mount = try make { $0.store = "s3 here one/" }
        let before = try await known(mount)
        try await restart(mount) { $0.store = "s3 here other/" }
        try await expect(mount, before)
        #expect(mount.traffic[.list] > 0)
    }

    @Test("While the store cannot be reached, what was saved and has passed its time is shown as seen before")
    func offline() async throws {
        let mount = try make { $0.policy.offline = .serve }
        let before = try await known(mount)
        await mount.end()
        time.advance(.seconds(7200))
        for verb in [Verb.list, .head] {
            mount.faults.add(verb, calls: 1...(.max), .fail(VFSError(.connectionFailed, "nobody listens")))
        }
        try mount.remount()
        try await expect(mount, before)
        #expect(mount.fs.statistics().staleNodes > 0)
        #expect(try await mount.attributes("a/other") == nil)
    }

    @Test("What is not stored at the end goes on, beside what was saved, and nothing contradicts it")
    func unstored() async throws {
        let mount = try make { $0.policy.write = .back }
        _ = try await known(mount)
        mount.faults.add(.put, calls: 1...(.max), .fail(VFSError(.unavailable, "later")))
        try await mount.write("own1", pattern(500), in: mount.inode("a"))
        try await mount.write("new", pattern(600), in: mount.inode("a/deep"))
        let before = try await walk(mount)
        for round in 0..<2 {
            await mount.end()
            if round == 1 { mount.faults.clear() }
            try mount.remount()
            let after = try await walk(mount)
            #expect(after.map(\.path) == before.map(\.path))
            #expect(after.first { $0.path == "a/own1" }?.size == 500)
            #expect(after.first { $0.path == "a/deep/new" }?.size == 600)
        }
        await settled { mount.fs.statistics().dirtyFiles == 0 }
        #expect(try await mount.object("a/deep/new") == pattern(600))
        #expect(try await walk(mount).first { $0.path == "a/own1" }?.size == 500)
    }

    @Test("A later life of the mount that has begun is not overwritten by what an earlier one knew")
    func lives() async throws {
        let mount = try make()
        _ = try await known(mount)
        let old = mount.fs
        let again = try mount.second()
        #expect(try await again.list(Mount.root).count == 4)
        old.upkeep.saveNames()
        #expect(files(in: mount.namesFolder).isEmpty)
        again.upkeep.saveNames()
        #expect(files(in: mount.namesFolder).count == 1)
    }

    @Test(
        "Whatever is done between restarts, clean ones and kills, each life shows what the store has", arguments: 1...6,
        [true, false])
    func random(seed: UInt64, bareListings: Bool) async throws {
        let mount = try make(pages: 4, bareListings: bareListings) {
            $0.policy.write = seed % 2 == 0 ? .back : .through
        }
        var random = SeededGenerator(seed: seed)
        for _ in 0..<12 {
            for _ in 0..<Int.random(in: 0...12, using: &random) { await step(mount, &random) }
            switch Int.random(in: 0..<8, using: &random) {
            case 0:
                // All is stored: what a kill leaves unstored is for others to test.
                await mount.fs.drain()
                try mount.remount(crash: true)
            case 1:
                await mount.end()
                time.advance(.seconds(61))
                try mount.remount()
            default: try await restart(mount)
            }
            guard Int.random(in: 0..<3, using: &random) == 0 else { continue }
            let shown = try await walk(mount)
            #expect(try await Set(shown.filter { $0.kind != .directory }.map(\.path)) == Set(mount.files()))
        }
        _ = try await walk(mount)
        let known = try await walk(mount)
        try await restart(mount)
        try await expect(mount, known)
        // One that knows nothing sees the same.
        await mount.fs.drain()
        try mount.remount(crash: true)
        _ = try await walk(mount)
        try await expect(mount, known)
    }

    /// Something is done somewhere; what is not possible there is not done.
    private func step(_ mount: Mount, _ random: inout SeededGenerator) async {
        let fs = mount.fs
        var (folder, depth) = (Mount.root, 0)
        while depth < 3, Int.random(in: 0..<3, using: &random) > 0 {
            let name = "d\(Int.random(in: 0..<3, using: &random))"
            guard let next = try? await fs.lookup(folder, name), next.kind == .directory else { break }
            (folder, depth) = (next.inode, depth + 1)
        }
        let file = "f\(Int.random(in: 0..<5, using: &random))"
        let directory = "d\(Int.random(in: 0..<3, using: &random))"
        let size = Int.random(in: 0..<50, using: &random)
        let what = Int.random(in: 0..<9, using: &random)
        // As the kernel does before each call.
        let there = (try? await fs.lookup(folder, what == 3 || what > 5 ? directory : file)) ?? nil
        _ = await outcome { () async throws(VFSError) in
            switch what {
            case 0, 1: try await mount.write(file, pattern(size), in: folder)
            case 2: try await fs.unlink(folder, file)
            case 3: _ = try await fs.mkdir(folder, directory)
            case 4:
                guard let there else { return }
                try await fs.setattr(there.inode) { $0.permissions = 0o600 + UInt32(size % 8) }
            case 5:
                _ = try await fs.lookup(Mount.root, "f0")
                try await fs.rename(folder, file, Mount.root, "f0")
            case 6: try await fs.rmdir(folder, directory)
            case 7:
                _ = try await fs.lookup(Mount.root, "d9")
                try await fs.rename(folder, directory, Mount.root, "d9")
            default:
                guard let there else { return }
                _ = try await fs.list(there.inode)
            }
        }
    }

    @Test("Whatever becomes of the file, what is shown is what the store has", arguments: 1...3)
    func damage(seed: UInt64) async throws {
        let mount = try make(pages: 100)
        for index in 0..<1100 { try await mount.put("many/f\(index)", [1]) }
        let before = try await known(mount)
        var random = SeededGenerator(seed: seed)
        for round in 0..<6 {
            await mount.end()
            let name = try #require(files(in: mount.namesFolder).first)
            var bytes = contents(of: "\(mount.namesFolder)/\(name)")
            for _ in 0..<Int.random(in: 1...40, using: &random) {
                switch Int.random(in: 0..<12, using: &random) {
                case 0: bytes.removeLast(min(bytes.count, Int.random(in: 0..<200, using: &random)))
                case 1: bytes.removeFirst(min(bytes.count, Int.random(in: 0..<2000, using: &random)))
                default:
                    guard !bytes.isEmpty else { break }
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
                        1 << UInt8.random(in: 0...7, using: &random)
                }
            }
            write(bytes, to: "\(mount.namesFolder)/\(name)")
            if round % 3 == 2 { time.advance(.seconds(100)) }
            try mount.remount()
            try await expect(mount, before)
        }
    }
}

extension Mount {
    /// The keys of all objects that are no folders.
    fileprivate func files() async throws -> [String] { try await keys().filter { !$0.hasSuffix("/") } }
}

private func files(in folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        if !name.hasPrefix(".") { names.append(name) }
    }
    return names
}

private func contents(of path: String) -> [UInt8] {
    let raw = open(path, O_RDONLY | O_CLOEXEC)
    guard raw >= 0 else { return [] }
    defer { close(raw) }
    var status = stat()
    guard fstat(raw, &status) == 0 else { return [] }
    var bytes = [UInt8](repeating: 0, count: status.st_size)
    let count = pread(raw, &bytes, bytes.count, 0)
    return Array(bytes.prefix(max(0, count)))
}

private func write(_ bytes: [UInt8], to path: String) {
    let raw = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard raw >= 0 else { return }
    _ = bytes.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) }
    close(raw)
}
