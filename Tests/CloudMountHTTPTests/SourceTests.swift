import CloudMountHTTP
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization
import Testing

/// Bytes on a disk that hangs until it is let go; some of them may be in memory.
private final class SlowSource: ByteSource {
    let bytes: [UInt8]
    /// Which of them are there at once; nil: none.
    private let ready: (@Sendable (Int) -> Int?)?
    private let gate = CloudMountPlatform.Semaphore()
    private let isOpen: Bool
    private let threads = Mutex<Set<String>>([])
    private let calls = Mutex(0)

    init(_ bytes: [UInt8], isOpen: Bool, ready: (@Sendable (Int) -> Int?)? = nil) {
        self.bytes = bytes
        self.isOpen = isOpen
        self.ready = ready
    }

    var count: Int { bytes.count }
    var readers: Set<String> { threads.withLock { $0 } }
    var reads: Int { calls.withLock { $0 } }
    func letGo() { gate.signal() }

    private func note() {
        let fd = open("/proc/thread-self/comm", O_RDONLY | O_CLOEXEC)
        defer { close(fd) }
        var name = [UInt8](repeating: 0, count: 16)
        let count = max(0, Glibc.read(fd, &name, name.count))
        let text = String(decoding: name[..<count].prefix { $0 != 10 }, as: UTF8.self)
        threads.withLock { _ = $0.insert(text) }
    }

    private func copy(_ offset: Int, _ buffer: UnsafeMutableRawBufferPointer) -> Int {
        let length = max(0, min(buffer.count, bytes.count - offset))
        buffer.copyBytes(from: bytes[offset..<offset + length])
        return length
    }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        calls.withLock { $0 += 1 }
        note()
        if !isOpen {
            gate.wait()
            gate.signal()
        }
        return copy(offset, buffer)
    }

    func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        guard let count = ready?(offset) else { return nil }
        return copy(offset, UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(count, buffer.count)]))
    }
}

/// Notes the most that it is asked for at once.
private final class AskedSource: ByteSource {
    let count: Int
    private let largest = Mutex(0)
    var most: Int { largest.withLock { $0 } }

    init(_ count: Int) { self.count = count }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        largest.withLock { $0 = max($0, buffer.count) }
        let room = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(buffer.count, count - offset)])
        room.initializeMemory(as: UInt8.self, repeating: 0x61)
        return room.count
    }

    func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        try? read(at: offset, into: buffer)
    }
}

@Suite("Sources that may block")
struct SourceTests {
    @Test(
        "No transfer has a large buffer of its own for what it sends: there may be very many, and nothing counts them")
    func uploadBuffer() async throws {
        let received = Bodies()
        try await withServer { connection, _ in
            received.collect(connection)
        } _: { server in
            let source = AskedSource(3_000_000)
            try await expect(HTTPRequest(.put, server.url, body: source)) { $0.status == 200 }
            #expect(received.all.last?.count == source.count)
            #expect(1...(128 << 10) ~= source.most)
        }
    }

    private static let sizes = [1, 40_000, 49_153, 3_000_000]

    @Test("A body is read on other threads than the one of the transfers, and arrives whole", arguments: sizes)
    func threads(size: Int) async throws {
        let received = Bodies()
        try await withServer { connection, _ in
            received.collect(connection)
        } _: { server in
            let source = SlowSource(pattern(size), isOpen: true)
            try await expect(HTTPRequest(.put, server.url, body: source)) { $0.status == 200 }
            #expect(same(received.all.last ?? [], source.bytes))
            #expect(source.readers.allSatisfy { $0 == "cm-disk" } && source.reads > 0)
        }
    }

    @Test(
        "Bytes that are there at once go out without another thread; the others follow in their place", arguments: sizes
    )
    func mixed(size: Int) async throws {
        let received = Bodies()
        try await withServer { connection, _ in
            received.collect(connection)
        } _: { server in
            let whole = SlowSource(pattern(size), isOpen: false) { _ in size }
            try await expect(HTTPRequest(.put, server.url, body: whole)) { $0.status == 200 }
            #expect(same(received.all.last ?? [], whole.bytes) && whole.reads == 0)
            let holes = SlowSource(pattern(size, seed: 2), isOpen: true) { offset in
                offset / 100_000 % 2 == 0 ? 100_000 - offset % 100_000 : nil
            }
            try await expect(HTTPRequest(.put, server.url, body: holes)) { $0.status == 200 }
            #expect(same(received.all.last ?? [], holes.bytes))
        }
    }

    @Test("A disk that hangs holds up no other transfer, and its own one only until it answers", arguments: sizes)
    func hanging(size: Int) async throws {
        let received = Bodies()
        try await withServer { connection, _ in
            received.collect(connection)
        } _: { server in
            let url = server.url
            let hung = SlowSource(pattern(size), isOpen: false)
            let upload = Task { await failure(HTTPRequest(.put, url, body: hung)) }
            try await until { hung.reads > 0 }
            for count in [0, 10_000, 500_000] {
                try await expect(HTTPRequest(.put, url, body: BytesSource(pattern(count)))) { $0.status == 200 }
            }
            let other = SlowSource(pattern(size), isOpen: true)
            try await expect(HTTPRequest(.put, url, body: other)) { $0.status == 200 }
            hung.letGo()
            #expect(await upload.value == nil)
            #expect(same(received.all.last ?? [], hung.bytes))
        }
    }

    @Test("A transfer whose disk hangs ends at once when it is cancelled", arguments: sizes)
    func cancelling(size: Int) async throws {
        let received = Bodies()
        try await withServer { connection, _ in
            received.collect(connection)
        } _: { server in
            let url = server.url
            let hung = SlowSource(pattern(size), isOpen: false)
            let upload = Task { await failure(HTTPRequest(.put, url, body: hung)) }
            try await until { hung.reads > 0 }
            upload.cancel()
            #expect(await upload.value?.kind == .cancelled)
            hung.letGo()
            try await expect(HTTPRequest(.put, url, body: BytesSource("x"))) { $0.status == 200 }
        }
    }

    @Test("Many transfers read by bits and cancelled at random leave the transport whole")
    func storm() async {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("Sources: seed \(seed)")
        let received = Bodies()
        await withServer { connection, _ in
            received.collect(connection)
        } _: { server in
            let url = server.url
            var random = seed
            for _ in 0..<6 {
                await withTaskGroup(of: Bool.self) { group in
                    for _ in 0..<20 {
                        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                        let (delay, size) = (random >> 51, Int(random >> 43) % 2_000_000 + 1)
                        let source = SlowSource(pattern(size, seed: random), isOpen: true) { offset in
                            offset % 7 == 3 ? 70_000 : nil
                        }
                        group.addTask {
                            let task = Task { await failure(HTTPRequest(.put, url, body: source)) }
                            if delay % 2 == 0 {
                                try? await Task.sleep(for: .microseconds(delay))
                                task.cancel()
                            }
                            let error = await task.value
                            return error == nil || delay % 2 == 0 && error?.kind == .cancelled
                        }
                    }
                    for await isRight in group { #expect(isRight, "seed \(seed)") }
                }
            }
        }
    }
}

/// The bodies that a server got.
private final class Bodies: Sendable {
    private let received = Mutex<[[UInt8]]>([])
    var all: [[UInt8]] { received.withLock { $0 } }

    func collect(_ connection: ScriptedConnection) {
        while let request = connection.request() {
            received.withLock { $0.append(request.body) }
            connection.answer()
        }
    }
}
