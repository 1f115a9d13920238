import CloudMountStaging
import CloudMountVFS
import Glibc
import Testing

/// A directory that goes with the value.
final class TemporaryDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/cloudmount-staging-XXXXXX\0".utf8CString.dropLast())
        path = try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    deinit {
        func remove(_ path: String) {
            if let stream = opendir(path) {
                while let entry = readdir(stream) {
                    let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                    }
                    if name != ".", name != ".." { remove(path + "/" + name) }
                }
                closedir(stream)
                rmdir(path)
            } else {
                unlink(path)
            }
        }
        remove(path)
    }
}

extension StagedFile {
    func write(_ bytes: [UInt8], at offset: Int) throws {
        try bytes.withUnsafeBytes { bytes in try write(bytes, at: offset) }
    }

    func bytes(_ extent: Extent) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 255, count: extent.count)
        let count = try bytes.withUnsafeMutableBytes { buffer in
            try read(at: extent.lowerBound, into: buffer)
        }
        return Array(bytes[..<count])
    }
}

@Suite("Staging")
struct StagingTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func area(limit: Int = 1 << 30, keepFree: Int = 0, descriptors: Int? = nil) throws -> StagingArea {
        try StagingArea(
            directory: directory.path + "/a/b", limit: limit, keepFree: keepFree, descriptorLimit: descriptors)
    }

    @Test(
        "A cache that its group or everybody may write is refused, and a file that somebody has put there is not taken")
    func strangers() throws {
        let folder = directory.path + "/a/b"
        _ = try area()
        for (mode, message) in [
            (mode_t(0o770), "its group may write into the directory \(folder); chmod g-w it"),
            (0o777, "everybody may write into the directory \(folder); chmod go-w it"),
        ] {
            chmod(folder, mode)
            #expect(throws: VFSError(.permissionDenied, message)) { try area() }
        }
        chmod(folder, 0o1777)
        let file = try area().makeFile(label: "m")
        #expect(symlink("/tmp", file.path) == 0)
        #expect(throws: VFSError.self) { try file.write([1], at: 0) }
        unlink(file.path)
        close(open(file.path, O_WRONLY | O_CREAT, 0o666))
        let error = #expect(throws: VFSError.self) { try file.write([1], at: 0) }
        #expect(error?.message.hasSuffix("File exists") == true)
        unlink(file.path)
        try file.write([1, 2], at: 0)
        #expect(try file.bytes(Extent(0, 2)) == [1, 2])
    }

    private func mode(_ path: String) -> mode_t? {
        var status = stat()
        return lstat(path, &status) == 0 ? status.st_mode : nil
    }

    @Test("A directory into which others may write, or a link in the place of ours, is refused and left as it is")
    func notOurs() throws {
        let path = directory.path + "/a/b"
        _ = try area()
        for mode: mode_t in [0o777, 0o775] {
            chmod(path, mode)
            #expect(throws: VFSError.self) { try area() }
        }
        for mode: mode_t in [0o755, 0o1777] {
            chmod(path, mode)
            _ = try area()
        }
        let other = directory.path + "/other"
        #expect(mkdir(other, 0o755) == 0 && rmdir(path + "/staged") == 0 && symlink(other, path + "/staged") == 0)
        #expect(throws: VFSError.self) { try area() }
        #expect(mode(other).map { $0 & 0o777 } == 0o755)
        // A place that the user has chosen may be a link to another disk.
        let link = directory.path + "/link"
        #expect(symlink(other, link) == 0)
        _ = try StagingArea(directory: link, limit: 1 << 30, keepFree: 0)
    }

    @Test("Written bytes come back; what was not written is zeros")
    func roundTrip() throws {
        let file = try area().makeFile(label: "photos")
        try file.write([1, 2, 3], at: 10)
        try file.write([9], at: 11)
        #expect(try file.bytes(Extent(8, 20)) == [0, 0, 1, 9, 3])
    }

    @Test("A file exists from its first write to its last reference, and only its owner may read it")
    func lifetime() throws {
        let area = try area()
        var file: StagedFile? = try area.makeFile(label: "a/../b c")
        let path = try #require(file?.path)
        #expect(path.utf8.dropFirst((directory.path + "/a/b/staged/").utf8.count).starts(with: "a_.._b_c-".utf8))
        #expect(mode(path) == nil)
        #expect(try file?.bytes(Extent(0, 10)) == [])
        try file?.write([1], at: 0)
        #expect(mode(path) == S_IFREG | 0o600)
        #expect(mode(directory.path + "/a/b/staged") == S_IFDIR | 0o700)
        #expect(area.used == 4096)
        file = nil
        area.finishRemovals(seconds: 60)
        #expect(mode(path) == nil)
        #expect(area.used == 0)
        #expect(area.leftovers == [])
    }

    @Test("Kept bytes stay on disk and in the limit until somebody removes them")
    func keeping() throws {
        let area = try area(limit: 8192)
        var file: StagedFile? = try area.makeFile(label: "m")
        try file?.write([1, 2, 3], at: 0)
        file?.keep()
        let path = try #require(file?.path)
        file = nil
        #expect(area.leftovers.map(\.path) == [path])
        #expect(area.used == 4096)
        unlink(path)
        let other = try area.makeFile(label: "m")
        try other.write([UInt8](repeating: 1, count: 8192), at: 0)
        #expect(area.used == 8192)
        #expect(area.leftovers == [])
    }

    @Test("The leftovers of an earlier run are listed, never deleted, and no new file takes their name")
    func leftovers() throws {
        var first: StagingArea? = try area()
        var file: StagedFile? = try first?.makeFile(label: "m")
        try file?.write([1, 2, 3], at: 0)
        file?.keep()
        let path = try #require(file?.path)
        file = nil
        first = nil
        let second = try area()
        #expect(second.leftovers.map(\.path) == [path])
        #expect(second.used >= 3)
        #expect(second.leftovers[0].modified.seconds > 1_600_000_000)
        #expect(try second.makeFile(label: "m").path != path)
    }

    @Test("A directory serves one area at a time, and the refusal names the holder")
    func locking() throws {
        let first = try area()
        let error = #expect(throws: VFSError.self) { _ = try area() }
        #expect(error?.code == .busy)
        #expect(error?.message.contains("process \(getpid())") == true)
        withExtendedLifetime(first) {}
    }

    @Test("Nothing is written beyond the limit, and overwriting needs no room")
    func limit() throws {
        let area = try area(limit: 16384)
        let file = try area.makeFile(label: "m")
        try file.write([UInt8](repeating: 1, count: 16384), at: 4096)
        let error = #expect(throws: VFSError.self) { try file.write([1], at: 0) }
        #expect(error?.code == .noSpace)
        try file.write([UInt8](repeating: 2, count: 16384), at: 4096)
        #expect(try file.bytes(Extent(4096, 4100)) == [2, 2, 2, 2])
        #expect(area.used == 16384)
    }

    @Test("The room of a large file that is being removed is waited for, not missed")
    func removal() throws {
        let area = try area(limit: 32 << 20)
        for _ in 0..<20 {
            var file: StagedFile? = try area.makeFile(label: "m")
            for offset in stride(from: 0, to: 32 << 20, by: 1 << 20) {
                try file?.write([UInt8](repeating: 1, count: 1 << 20), at: offset)
            }
            file = nil
        }
    }

    @Test("Another limit holds at once, and what is staged already stays")
    func otherLimit() throws {
        let area = try area(limit: 16384)
        let file = try area.makeFile(label: "m")
        try file.write([UInt8](repeating: 1, count: 16384), at: 0)
        #expect(throws: VFSError.self) { try file.write([1], at: 16384) }
        area.limit(to: 32768, keepFree: 0)
        try file.write([2], at: 16384)
        area.limit(to: 4096, keepFree: 0)
        #expect(throws: VFSError.self) { try file.write([3], at: 32768) }
        #expect(try file.bytes(Extent(16383, 16385)) == [1, 2])
        area.limit(to: 1 << 30, keepFree: 1 << 60)
        #expect(throws: VFSError.self) { try file.write([3], at: 32768) }
    }

    @Test("A mount that stages all it can leaves each other one its part, until that one is over")
    func fairness() throws {
        let area = try area(limit: 4096 * 160)
        for mount in ["a", "b", "c", "d"] { area.enrol(mount) }
        func fill(_ file: StagedFile) -> Int {
            var count = 0
            while (try? file.write([1], at: count * 4096)) != nil { count += 1 }
            return count
        }
        let greedy = try area.makeFile(label: "a")
        #expect(fill(greedy) == 130, "a quarter of 160 in four parts, three of them promised")
        let (b, c) = (try area.makeFile(label: "b"), try area.makeFile(label: "c"))
        #expect(fill(b) == 10)
        #expect(fill(c) == 10)
        area.withdraw("d")
        // Three are left with 13 each, of which c has not used three yet.
        #expect(fill(b) == 16)
        try greedy.truncate(to: 0)
        #expect(area.used == 4096 * 26)
        withExtendedLifetime((b, c)) {}
    }

    @Test("Cut and punched space comes back to the limit")
    func givingBack() throws {
        let area = try area()
        let file = try area.makeFile(label: "m")
        try file.write([UInt8](repeating: 7, count: 40960), at: 0)
        try file.punch(Extent(100, 20480))
        #expect(area.used == 40960 - 4 * 4096)
        #expect(try file.bytes(Extent(98, 102)) == [7, 7, 0, 0])
        try file.truncate(to: 30000)
        #expect(area.used == 32768 - 4 * 4096)
        #expect(try file.bytes(Extent(29998, 40000)) == [7, 7])
        try file.truncate(to: 100_000)
        try file.truncate(to: 0)
        #expect(area.used == 0)
        try file.write([5], at: 3)
        #expect(try file.bytes(Extent(0, 10)) == [0, 0, 0, 5])
    }

    @Test("The disk's free space that others need is left alone")
    func keepingFree() throws {
        let area = try area(keepFree: 1 << 60)
        let error = #expect(throws: VFSError.self) { try area.makeFile(label: "m").write([1], at: 0) }
        #expect(error?.code == .noSpace)
        #expect(area.used == 0)
    }

    @Test("More files than descriptors: the oldest are closed and opened again as needed")
    func descriptors() throws {
        let area = try area(descriptors: 8)
        let files = try (0..<300).map { _ in try area.makeFile(label: "m") }
        for (index, file) in files.enumerated() { try file.write([UInt8(index % 251)], at: index) }
        #expect(openDescriptors(below: directory.path) <= 8 + 1)
        for (index, file) in files.enumerated() {
            try file.write([1], at: index + 1)
            #expect(try file.bytes(Extent(index, index + 5)) == [UInt8(index % 251), 1])
        }
        #expect(openDescriptors(below: directory.path) <= 8 + 1)
        #expect(area.used >= 300 * 4096)
    }

    @Test("Writers of one file at once get each block counted once")
    func concurrency() async throws {
        let area = try area()
        let file = try area.makeFile(label: "m")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<8 {
                group.addTask {
                    for index in 0..<200 {
                        try file.write(
                            [UInt8](repeating: UInt8(writer + 1), count: 512), at: (index * 8 + writer) * 512)
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(area.used == 200 * 4096)
        for index in 0..<200 {
            for writer in 0..<8 {
                #expect(try file.bytes(Extent(offset: (index * 8 + writer) * 512, count: 1)) == [UInt8(writer + 1)])
            }
        }
    }

    @Test("A source hands out its extent, and fails when bytes are missing")
    func source() throws {
        let file = try area().makeFile(label: "m")
        try file.write([1, 2, 3, 4, 5], at: 0)
        let source = StagedSource(file: file, extent: Extent(1, 4))
        var bytes = [UInt8](repeating: 0, count: 10)
        #expect(source.count == 3)
        #expect(
            try bytes.withUnsafeMutableBytes { buffer in try source.read(at: 1, into: buffer) } == 2)
        #expect(bytes[..<3] == [3, 4, 0])
        let error = #expect(throws: VFSError.self) {
            let short = StagedSource(file: file, extent: Extent(3, 9))
            _ = try bytes.withUnsafeMutableBytes { buffer in try short.read(at: 0, into: buffer) }
        }
        #expect(error?.code == .io)
    }

    private func openDescriptors(below path: String) -> Int {
        (0..<1024).count { number in
            var buffer = [UInt8](repeating: 0, count: 512)
            let count = readlink("/proc/self/fd/\(number)", &buffer, buffer.count)
            return count > 0 && buffer[..<count].starts(with: path.utf8)
        }
    }
}
