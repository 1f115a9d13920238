import CloudMountStaging
import CloudMountVFS
import Glibc
import TestSeeds
import TestServers
import Testing

@testable import CloudMountCache

@Suite("The file of names")
struct NamesFileTests {
    private func withFolder(
        limit: Int = 1 << 30, _ body: (NamesFolder, String) throws -> Void
    ) throws {
        let owner = try TemporaryFolder("names")
        let area = try StagingArea(directory: owner.path, limit: limit, keepFree: 0)
        try body(NamesFolder(area), owner.path + "/names")
    }

    /// Written under a name, as one life does it.
    private func save(_ names: MountNames, _ blocks: [[UInt8]], tail: [UInt8]) throws -> [NamesFile.Place] {
        var writer = try names.begin()
        var places: [NamesFile.Place] = []
        for block in blocks { places.append(try writer.append(block)) }
        try names.finish(&writer, tail: tail)
        return places
    }

    private let blocks: [[UInt8]] = [[], [1, 2, 3], [UInt8](repeating: 9, count: 3 << 20), [7]]

    @Test("What was written is read, once: then it has no name any more")
    func once() throws {
        try withFolder { folder, path in
            let names = MountNames(folder, mount: "a b/c", bucket: "x")
            #expect(names.take() == nil)
            let places = try save(names, blocks, tail: [4, 5])
            #expect(Folder.names(path)?.count == 1)
            #expect(MountNames(folder, mount: "a b/c", bucket: "y").take() == nil)
            let file = try #require(MountNames(folder, mount: "a b/c", bucket: "x").take())
            #expect(Folder.names(path) == [])
            #expect(file.tail == [4, 5])
            #expect(places.map { file.block($0) } == blocks)
            #expect(file.block(NamesFile.Place(offset: places[1].offset + 1, count: places[1].count)) == nil)
            for (offset, count) in [(-1, 8), (0, 3), (0, .max), (.max, 8), (file.count - 4, 8), (.max - 7, 7)] {
                #expect(file.block(NamesFile.Place(offset: offset, count: count)) == nil)
            }
            #expect(names.take() == nil)
        }
    }

    @Test("Of two lives of a mount only the later one leaves anything")
    func lives() throws {
        try withFolder { folder, path in
            let old = MountNames(folder, mount: "a", bucket: "x")
            let other = MountNames(folder, mount: "b", bucket: "x")
            let new = MountNames(folder, mount: "a", bucket: "x")
            #expect(throws: VFSError.self) { try save(old, blocks, tail: [1]) }
            #expect(Folder.names(path) == [])
            _ = try save(new, blocks, tail: [2])
            #expect(throws: VFSError.self) { try save(old, blocks, tail: [1]) }
            _ = try save(other, blocks, tail: [3])
            #expect(new.take()?.tail == [2])
            #expect(other.take()?.tail == [3])
        }
    }

    @Test("It is no longer than a sixteenth of the cache, and what was begun and not ended is taken away")
    func bounds() throws {
        let owner = try TemporaryFolder("names")
        let area = try StagingArea(directory: owner.path, limit: 16 << 20, keepFree: 0)
        let folder = try NamesFolder(area)
        let names = MountNames(folder, mount: "a", bucket: "x")
        #expect(throws: VFSError.self) { try save(names, blocks, tail: []) }
        _ = try save(names, [[UInt8](repeating: 1, count: 900_000)], tail: [])
        let (left, link) = ("\(owner.path)/names/a-1.new", "\(owner.path)/names/old")
        for path in [left, link] { close(open(path, O_WRONLY | O_CREAT, 0o600)) }
        let times = [timespec(tv_sec: 1000, tv_nsec: 0), timespec(tv_sec: 1000, tv_nsec: 0)]
        utimensat(AT_FDCWD, link, times, 0)
        _ = try NamesFolder(area)
        #expect(Folder.names(owner.path + "/names")?.count == 1)
    }

    @Test("A file that is cut, flipped, a link or none at all is none", arguments: 1...3)
    func damage(seed: UInt64) throws {
        try withFolder { folder, path in
            let names = MountNames(folder, mount: "a", bucket: "x")
            let small = [[1, 2, 3], [UInt8](repeating: 9, count: 300)] as [[UInt8]]
            let places = try save(names, small, tail: [5, 6])
            let name = "\(path)/\(try #require(Folder.names(path)?.first))"
            let whole = bytes(of: name)
            for bytes in Damage(bytes: [whole], count: 300, seed: seed) {
                write(bytes, to: name)
                guard let file = names.take() else { continue }
                #expect(file.tail == [5, 6])
                for (place, block) in zip(places, small) { #expect(file.block(place).map { $0 == block } ?? true) }
            }
            write(whole, to: "\(path)/elsewhere")
            symlink("\(path)/elsewhere", name)
            #expect(names.take() == nil)
            mkfifo(name, 0o600)
            #expect(names.take() == nil)
            #expect(Folder.names(path) == ["elsewhere"])
        }
    }

    private func bytes(of path: String) -> [UInt8] {
        let raw = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(raw) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = pread(raw, &bytes, bytes.count, 0)
        return Array(bytes.prefix(max(0, count)))
    }

    private func write(_ bytes: [UInt8], to path: String) {
        let raw = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        _ = bytes.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) }
        close(raw)
    }
}
