import CloudMountHTTP
import CloudMountKit
import CloudMountLayers
import CloudMountVFS
import Glibc
import Synchronization
import TestServers
import Testing

@testable import WebDAVProvider

private func threadName() -> String {
    let file = open("/proc/thread-self/comm", O_RDONLY | O_CLOEXEC)
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 32)
    let count = read(file, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count - 1)), as: UTF8.self)
}

@Suite("WebDAV: what is moved, and how much room there is")
struct MoveTests {
    private static let folder = ObjectInfo(key: "d/", size: 0, etag: ETag("folder"), stored: Timestamp(seconds: 0))
    private let move = MoveRequest(source: MoveTests.folder, destination: "e/")

    private func put(_ dav: any ObjectProvider, _ key: ObjectKey, _ text: String) async throws -> ObjectInfo {
        try await dav.put(
            PutRequest(key: key, metadata: ObjectMetadata(user: ["a": "b"], nonce: "mine")), from: BytesSource(text))
    }

    @Test("A folder is moved whole, by a look and one MOVE")
    func whole() async throws {
        let fake = FakeDAV()
        let (dav, server) = try await prepared(fake)
        for index in 0..<50 { fake.put("/dav/d/\(index)", "x") }
        fake.makeFolder("/dav/d")
        fake.makeFolder("/dav/d/sub")
        let before = server.seen.count
        let moved = try await dav.move(move)
        #expect(moved?.key == "e/")
        #expect(server.seen.dropFirst(before).map(\.method) == ["PROPFIND", "MOVE"])
        #expect(server.seen.last?.headers["overwrite"] == "F")
        #expect(fake.paths.count { $0.hasPrefix("/dav/e/") } == 51 && fake.node("/dav/d") == nil)
    }

    @Test("A file is moved by a look, a MOVE and a look, and keeps its version and metadata", arguments: [true, false])
    func file(conditions: Bool) async throws {
        var traits = FakeDAV.Traits()
        traits.conditions = conditions
        let fake = FakeDAV(traits)
        let (dav, server) = try await prepared(fake)
        let source = try await put(dav, "f", "x")
        let before = server.seen.count
        let moved = try #require(try await dav.move(MoveRequest(source: source, destination: "g")))
        #expect(moved.etag == source.etag && moved.metadata?.user == ["a": "b"])
        #expect(server.seen.dropFirst(before).map(\.method) == ["PROPFIND", "MOVE", "PROPFIND"])
        #expect(fake.node("/dav/f") == nil)
    }

    @Test("What comes in the source's place at the last moment is moved and not destroyed, and the caller is told")
    func replaced() async throws {
        let fake = FakeDAV()
        let (dav, _) = try await prepared(fake)
        let source = try await put(dav, "f", "ours")
        fake.before.withLock {
            $0 = { fake, request in
                if request.method == "MOVE" { fake.put("/dav/f", "theirs") }
                return nil
            }
        }
        let error = await failure { () async throws(VFSError) in
            try await dav.move(MoveRequest(source: source, destination: "g"))
        }
        #expect(error?.code == .stale)
        #expect(fake.node("/dav/g")?.bytes == Array("theirs".utf8))
    }

    @Test("Moves are claimed only where the server was seen to keep versions, of folders whole, and onto nothing")
    func proved() async throws {
        var traits = FakeDAV.Traits()
        let good = try await prepared(FakeDAV(traits)).provider.capabilities
        #expect(good.moves && good.movesFolders)
        traits.moveKeepsTag = false
        let tags = try await prepared(FakeDAV(traits)).provider.capabilities
        #expect(!tags.moves && !tags.movesFolders)
        traits.exclusiveMove = false
        let over = try await prepared(FakeDAV(traits)).provider.capabilities
        #expect(!over.moves && !over.movesFolders)
        // Files it leaves, folders it does not.
        let fake = FakeDAV()
        fake.before.withLock {
            $0 = { fake, request in
                guard request.method == "MOVE", request.path.hasSuffix("/") else { return nil }
                return ScriptedAnswer(status: 204)
            }
        }
        let (dav, _) = try await prepared(fake)
        #expect(dav.capabilities.moves && !dav.capabilities.movesFolders)
        #expect(fake.paths == ["/dav", "/dav/.cloudmount"])
        fake.makeFolder("/dav/d")
        let error = await failure { () async throws(VFSError) in try await dav.move(move) }
        #expect(error?.code == .notSupported)
    }

    @Test("A MOVE whose answer is lost is asked about, and sent once", arguments: [504, 502, 207])
    func lost(status: Int) async throws {
        let fake = FakeDAV()
        let (dav, server) = try await prepared(fake)
        let source = try await put(dav, "f", "x")
        fake.makeFolder("/dav/d")
        fake.put("/dav/d/x", "y")
        fake.before.withLock {
            $0 = { fake, request in
                guard request.method == "MOVE" else { return nil }
                _ = fake.carryOutAlone(request)
                return status == 207 ? FakeDAV.multistatus("") : ScriptedAnswer(status: status)
            }
        }
        let before = server.seen.count
        let provider = RetryLayer(dav)
        #expect(try await provider.move(move)?.key == "e/")
        #expect(
            try await provider.move(MoveRequest(source: source, destination: "g", nonce: "mine"))?.etag == source.etag)
        #expect(server.seen.dropFirst(before).count { $0.method == "MOVE" } == 2)
        #expect(!server.seen.dropFirst(before).contains { $0.method == "DELETE" })
        #expect(fake.node("/dav/e/x") != nil && fake.node("/dav/g") != nil)
    }

    @Test("What is in the way stays, and so does what was to be moved", arguments: ["file", "folder", "missing"])
    func inTheWay(what: String) async throws {
        let fake = FakeDAV()
        let (dav, _) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        fake.put("/dav/d/x", "y")
        if what == "file" { fake.put("/dav/e", "theirs") }
        if what == "folder" { fake.makeFolder("/dav/e") }
        let request = what == "missing" ? MoveRequest(source: Self.folder, destination: "new/deep/e/") : move
        let error = await failure { () async throws(VFSError) in try await dav.move(request) }
        if what == "missing" {
            #expect(error == nil && fake.node("/dav/new/deep/e/x") != nil)
        } else {
            #expect(error?.code == .preconditionFailed && fake.node("/dav/d/x") != nil)
            #expect(fake.node("/dav/e")?.bytes == (what == "file" ? Array("theirs".utf8) : nil))
        }
    }

    // MARK: Listings of everything below

    @Test("A folder with more files than a page has is fetched once, and so is each below it")
    func fetchedOnce() async throws {
        let fake = FakeDAV()
        let (dav, server) = try await prepared(fake)
        for folder in ["d", "d/sub"] {
            fake.makeFolder("/dav/\(folder)")
            for index in 0..<2500 { fake.put("/dav/\(folder)/\(index)", "") }
        }
        let before = server.seen.count
        var (keys, continuation): ([ObjectKey], String?) = ([], nil)
        repeat {
            let page = try await dav.list(ListRequest(prefix: "d/", delimited: false, continuation: continuation))
            keys += page.objects.map(\.key)
            continuation = page.continuation
        } while continuation != nil
        #expect(keys.count == 5002 && Set(keys).count == 5002 && keys == keys.sorted())
        #expect(server.seen.count - before <= 3)
        // Who asks for few gets few.
        let few = try await dav.list(ListRequest(prefix: "d/", delimited: false, limit: 7))
        #expect(few.objects.count == 7 && few.continuation != nil)
    }

    @Test("Folders that are more than memory holds are an error, and no part of a listing")
    func budget() async throws {
        let fake = FakeDAV()
        let (dav, _) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        for index in 0..<100 { fake.put("/dav/d/\(index)", "") }
        let lister = WebDAVLister(dav: dav.dav, mostHeld: 20_000)
        let request = ListRequest(prefix: "", delimited: false)
        let error = await failure { () async throws(VFSError) in try await lister.list(request) }
        #expect(error?.code == .tooLarge)
        #expect(try await WebDAVLister(dav: dav.dav).list(request).objects.count == 101)
    }

    @Test("Long answers are read away from the thread of all transfers, short ones at once")
    func apart() async {
        let names = await Task(executorPreference: HTTPEngine.shared) {
            var names: [String] = []
            for size in [1000, 300 << 10] { names.append(await LongAnswer.read(size) { threadName() }) }
            return names
        }.value
        #expect(names[0] == "cm-transfer" && names[1] != "cm-transfer")
    }

    // MARK: Room

    @Test("The quota of the root is told where there is one")
    func quota() async throws {
        for (available, used, expected) in [
            ("1000000", "24000", StoreSpace(used: 24_000, available: 1_000_000)),
            ("0", "5", StoreSpace(used: 5, available: 0)),
            ("-3", "5", nil), ("many", "5", nil),
        ] as [(String, String, StoreSpace?)] {
            var traits = FakeDAV.Traits()
            traits.quota = (available, used)
            let (dav, _) = try await prepared(FakeDAV(traits))
            #expect(dav.capabilities.tellsSpace == (expected != nil))
            #expect(try await dav.space() == expected)
        }
        let (dav, _) = try await prepared(FakeDAV())
        #expect(!dav.capabilities.tellsSpace)
        #expect(try await dav.space() == nil)
    }
}
