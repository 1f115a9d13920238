import CloudMountVFS
import DirectoryProvider
import Glibc
import Synchronization
import TestServers
import Testing

/// What a bucket does not have: other programs that work in the same folder.
@Suite("The directory provider beside other programs") struct DirectoryFolderTests {
    private let folder: TemporaryFolder
    private let provider: DirectoryProvider

    init() async throws {
        folder = try TemporaryFolder("directory")
        provider = DirectoryProvider(path: folder.path, isDurable: false)
        try await provider.prepare(writable: true)
    }

    private func path(_ name: String) -> String { folder.path + "/" + name }

    private func write(_ name: String, _ text: String, flags: Int32 = O_CREAT | O_TRUNC) {
        let file = open(path(name), O_WRONLY | flags, 0o640)
        #expect(file >= 0)
        #expect(Glibc.write(file, text, text.utf8.count) == text.utf8.count)
        close(file)
    }

    private func text(_ name: String) -> String? {
        let file = open(path(name), O_RDONLY)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(file, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    private func names(_ directory: String) -> [String]? {
        guard let stream = opendir(path(directory)) else { return nil }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(
                withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
        }
        return names.filter { $0 != "." && $0 != ".." }
    }

    private func exists(_ name: String) -> Bool {
        var status = stat()
        return lstat(path(name), &status) == 0
    }

    private func put(_ key: ObjectKey, _ text: String, _ metadata: ObjectMetadata = ObjectMetadata()) async throws
        -> ObjectInfo
    {
        try await provider.put(PutRequest(key: key, metadata: metadata), from: BytesSource(text))
    }

    private func body(_ key: ObjectKey, version: ETag? = nil) async throws(VFSError) -> String {
        let sink = TextSink()
        _ = try await provider.read(ReadRequest(key: key, version: version), into: sink)
        return sink.text
    }

    private func keys(_ prefix: ObjectKey = "") async throws -> [String] {
        try await provider.list(ListRequest(prefix: prefix, delimited: false)).objects.map(\.key.string)
    }

    @Test("what others put into the hidden folder neither ends the process nor hides the rest")
    func plantedThings() async throws {
        _ = try await put("f", "body")
        var status = stat()
        write("other", "x")
        #expect(stat(path("other"), &status) == 0)
        write(".cloudmount/records/\(status.st_ino)", "")
        #expect(truncate(path(".cloudmount/records/\(status.st_ino)"), 15 << 40) == 0)
        write(".cloudmount/keys/x+", "")
        var deep = ".cloudmount/keys"
        for _ in 0..<200 {
            deep += "/+"
            #expect(mkdir(path(deep), 0o700) == 0)
        }
        #expect(try await keys() == ["f", "other"])
        #expect(try await provider.head("other").size == 1)
    }

    @Test("zeros are holes, put at once, in parts or copied, and the bytes between them are there")
    func holes() async throws {
        let size = 64 << 20
        let source = SparseSource(count: size, bytes: [0: 1, 5_000_000: 2, 40_000_001: 3])
        let whole = try await provider.put(PutRequest(key: "whole"), from: source)
        let upload = try await provider.beginUpload("parts", metadata: ObjectMetadata())
        var parts: [UploadedPart] = []
        for number in 1...2 { parts.append(try await provider.uploadPart(upload, number: number, from: source)) }
        _ = try await provider.completeUpload(upload, parts: parts, precondition: .none)
        _ = try await provider.copy(CopyRequest(source: whole, destination: "copy"))
        for (name, count) in [("whole", 1), ("parts", 2), ("copy", 1)] {
            var status = stat()
            #expect(stat(path(name), &status) == 0)
            #expect(status.st_size == size * count)
            #expect(status.st_blocks * 512 < 4 << 20, "\(name)")
            let file = open(path(name), O_RDONLY)
            defer { close(file) }
            var bytes = [UInt8](repeating: 9, count: size * count)
            #expect(bytes.withUnsafeMutableBytes { pread(file, $0.baseAddress, $0.count, 0) } == size * count)
            for part in 0..<count {
                let found = bytes[part * size..<(part + 1) * size].enumerated().filter { $0.element != 0 }
                #expect(found.map(\.offset) == [0, 5_000_000, 40_000_001] && found.map(\.element) == [1, 2, 3])
            }
        }
    }

    @Test("a full disk keeps no parts of an upload that has found it full")
    func fullDisk() async throws {
        let upload = try await provider.beginUpload("f", metadata: ObjectMetadata())
        _ = try await provider.uploadPart(upload, number: 1, from: BytesSource("body"))
        let full = SparseSource(count: 10, bytes: [:], failure: VFSError(.quotaExceeded, "no space left on device"))
        let error = await #expect(throws: VFSError.self) {
            try await provider.uploadPart(upload, number: 2, from: full)
        }
        #expect(error?.code == .quotaExceeded)
        #expect(names(".cloudmount/staging") == [])
        let gone = await #expect(throws: VFSError.self) { try await provider.listParts(upload) }
        #expect(gone?.code == .uploadNotFound)
    }

    @Test("a lock that somebody holds for ever is an error, and ends with its holder")
    func heldLock() async throws {
        let lock = open(path(".cloudmount/lock"), O_RDONLY | O_CLOEXEC)
        #expect(flock(lock, LOCK_EX) == 0)
        let error = await #expect(throws: VFSError.self) { try await put("f", "body") }
        #expect(error?.code == .unavailable)
        close(lock)
        _ = try await put("f", "body")
    }

    @Test("what is private in the mount is private in the folder")
    func privateFile() async throws {
        var metadata = ObjectMetadata()
        metadata.user["mode"] = "0100600"
        _ = try await put("secret", "body", metadata)
        var status = stat()
        #expect(stat(path("secret"), &status) == 0 && status.st_mode & 0o077 == 0)
        // Its owner reads and describes it whatever it says in the mount, also where the owner is not root.
        for mode in ["0100444", "0100200", "0100000"] {
            metadata.user["mode"] = mode
            _ = try await put("secret", "body", metadata)
            #expect(stat(path("secret"), &status) == 0 && status.st_mode & 0o600 == 0o600)
        }
        metadata.user["mode"] = "0100644"
        _ = try await put("secret", "body", metadata)
        #expect(stat(path("secret"), &status) == 0 && status.st_mode & 0o444 == 0o444)
    }

    @Test("a link in the place of the hidden folder is not followed")
    func plantedLink() async throws {
        let (mine, other) = (try TemporaryFolder("planted"), try TemporaryFolder("other"))
        #expect(symlink(other.path, mine.path + "/.cloudmount") == 0)
        await #expect(throws: VFSError.self) {
            try await DirectoryProvider(path: mine.path, isDurable: false).prepare(writable: true)
        }
        #expect(access(other.path + "/staging", F_OK) != 0)
    }

    @Test("a plain key is a plain file, with the writer's time")
    func plainFile() async throws {
        let time = Timestamp(seconds: 1_500_000_000, nanoseconds: 42)
        _ = try await put("a/b.txt", "hello", ObjectMetadata(modified: time))
        #expect(text("a/b.txt") == "hello")
        var status = stat()
        #expect(stat(path("a/b.txt"), &status) == 0)
        #expect(status.st_mtim.tv_sec == 1_500_000_000)
        #expect(status.st_mtim.tv_nsec == 42)
    }

    @Test("files and empty directories of other programs are objects, with their own mode and time")
    func foreignFiles() async throws {
        mkdir(path("made"), 0o750)
        mkdir(path("empty"), 0o700)
        write("made/file", "theirs")
        #expect(try await keys() == ["empty/", "made/", "made/file"])
        let info = try await provider.head("made/file")
        #expect(info.size == 6)
        #expect(info.metadata?.user["mode"] == "\(S_IFREG | 0o640)")
        #expect(info.metadata?.modified.map { abs($0.seconds - time(nil)) < 60 } == true)
        #expect(try await body("made/file") == "theirs")
        #expect(try await provider.head("empty/").metadata?.user["mode"] == "\(S_IFDIR | 0o700)")
    }

    @Test("directories made for keys are no objects and go with the last of them")
    func implicitDirectories() async throws {
        _ = try await put("one/two/three", "x")
        _ = try await put("one/other", "y")
        #expect(try await keys() == ["one/other", "one/two/three"])
        _ = try await provider.delete([DeleteRequest("one/two/three")])
        #expect(!exists("one/two"))
        #expect(exists("one"))
        _ = try await provider.delete([DeleteRequest("one/other")])
        #expect(!exists("one"))
        mkdir(path("theirs"), 0o755)
        _ = try await put("theirs/x", "x")
        _ = try await provider.delete([DeleteRequest("theirs/x")])
        #expect(exists("theirs"), "not ours to remove")
    }

    @Test("a write by another program makes another version, and a pinned read says so")
    func foreignWrite() async throws {
        let given = ObjectMetadata(modified: Timestamp(seconds: 5), user: ["a": "b"], nonce: "n1")
        let stored = try await put("o", "ours", given)
        #expect(try await provider.head("o").metadata == given)
        write("o", "them", flags: 0)
        let changed = try await provider.head("o")
        #expect(changed.etag != stored.etag)
        #expect(changed.metadata?.user == ["a": "b"])
        #expect(changed.metadata?.modified != Timestamp(seconds: 5))
        #expect(changed.metadata?.nonce == nil, "not the bytes of our write any more")
        let refused = try await provider.delete([DeleteRequest("o", version: stored.etag)])
        #expect(refused.map(\.error.code) == [.preconditionFailed])
        for destination in ["o", "copy"] as [ObjectKey] {
            await #expect(throws: VFSError.self) {
                try await provider.copy(CopyRequest(source: stored, destination: destination))
            }
        }
        await #expect(throws: VFSError.self) { try await body("o", version: stored.etag) }
        #expect(try await body("o", version: changed.etag) == "them")
    }

    @Test("an inode used again does not bring back an old version")
    func reusedInode() async throws {
        var seen: Set<ETag> = []
        let metadata = ObjectMetadata(modified: Timestamp(seconds: 7))
        for round in 0..<200 {
            let stored = try await put("o", "\(1000 + round)", metadata)
            #expect(seen.insert(stored.etag).inserted)
            _ = try await provider.delete([DeleteRequest("o")])
        }
    }

    @Test("symbolic links are shown as links and never followed")
    func links() async throws {
        let outside = try TemporaryFolder("outside")
        let secret = open(outside.path + "/secret", O_WRONLY | O_CREAT, 0o600)
        _ = Glibc.write(secret, "secret", 6)
        close(secret)
        symlink(outside.path, path("door"))
        symlink(outside.path + "/secret", path("window"))
        let link = try await provider.head("window")
        #expect(link.metadata?.user["mode"] == "\(S_IFLNK | 0o777)")
        #expect(try await body("window") == outside.path + "/secret")
        await #expect(throws: VFSError.self) { try await provider.head("door/secret") }
        #expect(try await keys() == ["door", "window"])
        #expect(try await keys("door/").isEmpty)
        // A key below the link is an object of its own, in the hidden area.
        _ = try await put("door/new", "inside")
        #expect(try await body("door/new") == "inside")
        #expect(access(outside.path + "/new", F_OK) != 0)
        _ = try await put("window", "replaced")
        #expect(text("window") == "replaced")
        #expect(
            try await provider.delete([DeleteRequest("door"), DeleteRequest("door/secret"), DeleteRequest("door/new")])
                .isEmpty)
        #expect(access(outside.path + "/secret", F_OK) == 0)
        #expect(!exists("door"))
    }

    @Test("a fifo stays what it is, also when its name is stored")
    func fifo() async throws {
        #expect(mkfifo(path("pipe"), 0o600) == 0)
        let info = try await provider.put(
            PutRequest(key: "pipe", metadata: ObjectMetadata(), precondition: .absent), from: BytesSource("bytes"))
        var status = stat()
        #expect(lstat(path("pipe"), &status) == 0)
        #expect(status.st_mode & S_IFMT == S_IFIFO)
        #expect(try await body("pipe", version: info.etag) == "bytes")
        #expect(try await keys() == ["pipe"])
        _ = try await provider.delete([DeleteRequest("pipe", version: info.etag)])
        #expect(try await keys() == [])
        #expect(exists("pipe"))
    }

    @Test("no key leads out of the folder or into what is ours")
    func escapes() async throws {
        for key in ["../out", "a/../../out", "/etc/out", "..", ".", "./x", ".cloudmount/lock", ".cloudmount/keys/x"] {
            let key = ObjectKey(key)
            _ = try await put(key, "body")
            #expect(try await body(key) == "body")
            #expect(try await keys() == [key.string])
            #expect(try await provider.delete([DeleteRequest(key)]).isEmpty)
        }
        #expect(access(path("../out"), F_OK) != 0)
        #expect(exists(".cloudmount/lock"))
        _ = try await put("a\u{0}b", "zero")
        #expect(try await body("a\u{0}b") == "zero")
    }

    @Test("metadata too large for the file system's attributes is kept beside")
    func sidecars() async throws {
        let big = ObjectMetadata(user: ["big": String(repeating: "x", count: 20_000)])
        _ = try await put("o", "one", big)
        #expect(try await provider.head("o").metadata == big)
        let listed = try await provider.list(ListRequest(prefix: "", delimited: false))
        #expect(listed.objects.first?.metadata == big)
        _ = try await put("folder/", "", big)
        #expect(try await provider.head("folder/").metadata == big)
        _ = try await put("folder/", "", ObjectMetadata(user: ["a": "b"]))
        #expect(try await provider.head("folder/").metadata?.user == ["a": "b"])
        _ = try await put("o", "two", ObjectMetadata(user: ["a": "b"]))
        #expect(try await provider.head("o").metadata?.user == ["a": "b"])
    }

    @Test("two mounts of one folder agree on who creates a key")
    func twoMounts() async throws {
        let other = DirectoryProvider(path: folder.path, isDurable: false)
        try await other.prepare(writable: true)
        for round in 0..<30 {
            let request = PutRequest(key: ObjectKey("o\(round)"), precondition: .absent)
            async let first = try? provider.put(request, from: BytesSource("first"))
            async let second = try? other.put(request, from: BytesSource("second"))
            let winners = await [first, second].compactMap { $0 }
            #expect(winners.count == 1)
        }
    }

    @Test("an upload outlives the process")
    func resumedUpload() async throws {
        let upload = try await provider.beginUpload("big", metadata: ObjectMetadata(user: ["a": "b"]))
        let first = try await provider.uploadPart(upload, number: 1, from: BytesSource("one"))
        let next = DirectoryProvider(path: folder.path, isDurable: false)
        try await next.prepare(writable: true)
        #expect(try await next.listParts(upload) == [first])
        let second = try await next.uploadPart(upload, number: 2, from: BytesSource("two"))
        _ = try await next.completeUpload(upload, parts: [first, second], precondition: .none)
        #expect(text("big") == "onetwo")
        #expect(try await provider.head("big").metadata?.user == ["a": "b"])
    }

    @Test("a folder opened for reading only is not touched")
    func readOnly() async throws {
        let plain = try TemporaryFolder("directory")
        let reader = DirectoryProvider(path: plain.path)
        try await reader.prepare(writable: false)
        #expect(try await reader.list(ListRequest(prefix: "", delimited: true)).objects.isEmpty)
        await #expect(throws: VFSError.self) { try await reader.put(PutRequest(key: "o"), from: BytesSource("x")) }
        await #expect(throws: VFSError.self) { try await reader.delete([DeleteRequest("o")]) }
        #expect(rmdir(plain.path) == 0, "still empty")
    }

    @Test("a folder that is gone has not said that its objects are")
    func removedFolder() async throws {
        let gone = try TemporaryFolder("directory")
        let provider = DirectoryProvider(path: gone.path)
        try await provider.prepare(writable: false)
        #expect(rmdir(gone.path) == 0)
        do {
            _ = try await provider.head("o")
            Issue.record("there is nothing to find")
        } catch {
            #expect(error.code == .bucketNotFound)
        }
    }

    @Test("nothing is left in the staging folder")
    func staging() async throws {
        _ = try await put("o", "x")
        _ = try? await provider.put(PutRequest(key: "o", precondition: .absent), from: BytesSource("y"))
        let upload = try await provider.beginUpload("u", metadata: ObjectMetadata())
        _ = try await provider.uploadPart(upload, number: 1, from: BytesSource("x"))
        try await provider.abortUpload(upload)
        _ = try await put("a//b", "x")
        _ = try await provider.delete([DeleteRequest("a//b"), DeleteRequest("o")])
        for area in ["staging", "keys", "records"] {
            #expect(rmdir(path(".cloudmount/" + area)) == 0, "\(area) is empty")
        }
    }
}

private final class TextSink: ByteSink {
    private let bytes = Mutex<[UInt8]>([])
    var text: String { bytes.withLock { String(decoding: $0, as: UTF8.self) } }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        self.bytes.withLock { $0.append(contentsOf: bytes) }
        return .proceed
    }
}

/// Zeros, but for these bytes.
private struct SparseSource: ByteSource {
    let count: Int
    let bytes: [Int: UInt8]
    var failure: VFSError?

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        if let failure { throw failure }
        let length = min(buffer.count, count - offset)
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        for (position, byte) in bytes where offset..<offset + length ~= position { buffer[position - offset] = byte }
        return length
    }
}
