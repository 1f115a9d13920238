import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import WebDAVProvider

@Suite("WebDAV: nothing that was not seen is lost")
struct LossTests {
    private static func entry(_ href: String) -> String {
        "<D:response><D:href>\(href)</D:href><D:propstat><D:prop><D:resourcetype/><D:getcontentlength>3</D:getcontentlength>"
            + "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    }

    private func rmdir(_ provider: WebDAVProvider, _ key: ObjectKey) async -> VFSError? {
        do throws(VFSError) {
            return try await provider.delete([DeleteRequest(key)]).first?.error
        } catch {
            return error
        }
    }

    private func aside(_ fake: FakeDAV) -> [String] { fake.paths.filter { $0.contains("/gone-") } }

    @Test(
        "A folder that holds names that no key can say, or that went, is not removed",
        arguments: [
            entry("/dav/d/%FF"), entry("/dav/d/a%2Fb"),
            "<D:response><D:href>/dav/d/x</D:href><D:status>HTTP/1.1 404 X</D:status></D:response>",
        ])
    func unseen(more: String) async throws {
        let fake = FakeDAV()
        let (provider, server) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        fake.odd.withLock { $0["/dav/d"] = more }
        let before = server.seen.count
        #expect(await rmdir(provider, "d/")?.code == .notEmpty)
        #expect(!server.seen.dropFirst(before).contains { ["MOVE", "DELETE"].contains($0.method) })
    }

    @Test("A listing of everything below says that there are names that no key can say", arguments: ["%FF", "a%2Fb"])
    func movedNames(name: String) async throws {
        let fake = FakeDAV()
        let (provider, _) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        fake.makeFolder("/dav/d/e")
        fake.odd.withLock { $0["/dav/d/e"] = Self.entry("/dav/d/e/" + name) }
        let error = await failure { () async throws(VFSError) in
            try await provider.list(ListRequest(prefix: "d/", delimited: false))
        }
        #expect(error?.code == .malformedResponse && error?.retry == .never)
        #expect(try await provider.list(ListRequest(prefix: "d/e/", delimited: true)).objects.map(\.key) == ["d/e/"])
    }

    @Test("An answer that names nothing is no empty folder")
    func nothingNamed() async throws {
        let fake = FakeDAV()
        let (provider, server) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        fake.put("/dav/d/x", "x")
        fake.before.withLock {
            $0 = { _, request in request.method == "PROPFIND" ? FakeDAV.multistatus("") : nil }
        }
        let before = server.seen.count
        #expect(await rmdir(provider, "d/")?.code == .malformedResponse)
        let error = await failure { () async throws(VFSError) in
            try await provider.list(ListRequest(prefix: "d/", delimited: true))
        }
        #expect(error?.code == .malformedResponse)
        #expect(!server.seen.dropFirst(before).contains { ["MOVE", "DELETE"].contains($0.method) })
        #expect(fake.node("/dav/d/x") != nil)
    }

    // MARK: What comes into a folder that is being removed

    @Test("An answer that is lost on the way hides nothing: a repeat goes on with what is aside", arguments: 1...3)
    func lostAnswers(lost: Int) async throws {
        let fake = FakeDAV()
        let (provider, _) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        let count = Atomic(0)
        let isDown = Atomic(false)
        fake.before.withLock {
            $0 = { fake, request in
                if isDown.load(ordering: .relaxed) { return ScriptedAnswer(status: 504) }
                if request.method == "MOVE", request.path == "/dav/d/" { fake.put("/dav/d/late", "late") }
                let isOurs = request.method == "MOVE" || request.path.contains("gone-")
                guard isOurs, count.add(1, ordering: .relaxed).newValue == lost else { return nil }
                // Carried out, and then nothing is heard for a while.
                isDown.store(true, ordering: .relaxed)
                _ = fake.carryOutAlone(request)
                return ScriptedAnswer(status: 504)
            }
        }
        #expect(await rmdir(provider, "d/")?.code == .unavailable)
        fake.before.withLock { $0 = nil }
        #expect(await rmdir(provider, "d/")?.code == .notEmpty)
        #expect(fake.node("/dav/d/late") != nil && aside(fake).isEmpty)
    }

    @Test("A folder whose removal fails half way is back at once", arguments: ["PROPFIND", "DELETE"])
    func halfWay(method: String) async throws {
        let fake = FakeDAV()
        let (provider, _) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        fake.before.withLock {
            $0 = { _, request in
                request.method == method && request.path.contains("gone-") ? ScriptedAnswer(status: 500) : nil
            }
        }
        #expect(await rmdir(provider, "d/")?.code == .unavailable)
        #expect(fake.node("/dav/d") != nil && aside(fake).isEmpty)
    }

    @Test("Where the name has been taken meanwhile, the error tells where the folder is")
    func taken() async throws {
        let fake = FakeDAV()
        let (provider, _) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        fake.before.withLock {
            $0 = { fake, request in
                guard request.method == "MOVE" else { return nil }
                if request.path == "/dav/d/" { fake.put("/dav/d/late", "late") } else { fake.makeFolder("/dav/d") }
                return nil
            }
        }
        let error = await rmdir(provider, "d/")
        let left = try #require(aside(fake).first)
        #expect(error?.code == .busy && error?.message.contains(left.dropFirst("/dav/".count)) == true)
        #expect(fake.node(left + "/late") != nil)
        // The next removal brings it back.
        fake.before.withLock { $0 = nil }
        #expect(await rmdir(provider, "d/") == nil)
        #expect(await rmdir(provider, "d/")?.code == .notEmpty)
        #expect(fake.node("/dav/d/late") != nil && aside(fake).isEmpty)
    }

    @Test("What a process left aside has its place again at the next start, and empty folders go")
    func start() async throws {
        let fake = FakeDAV()
        fake.makeFolder("/dav/.cloudmount")
        let area: ObjectKey = ".cloudmount/"
        for key in ["ä b/d/", "e/"] as [ObjectKey] {
            let name = WebDAVAside.Name(key)
            let aside = name.fresh(in: area)
            #expect(WebDAVAside.Name(ObjectKey(String(aside.string.dropLast())), in: area) == name && name.key == key)
            fake.makeFolder("/dav/" + aside.string.dropLast())
            if key != "e/" { fake.put("/dav/\(aside.string)x", "x") }
        }
        let (provider, _) = try await prepared(fake)
        await provider.swept()
        #expect(fake.node("/dav/ä b/d/x") != nil && aside(fake).isEmpty && fake.node("/dav/e") == nil)
    }

    @Test(
        "A folder whose name says that it belongs where no mount has taken it from stays where it is",
        arguments: [
            "../x/", "Team/../../x/", "Team/./x/", "Team//x/", "other/x/", "Team/.cloudmount/x/", "Team/", "Teams/x/",
        ])
    func foreign(key: ObjectKey) async throws {
        let fake = FakeDAV()
        for folder in ["Team", "Team/.cloudmount", "other", "Team/ours"] { fake.makeFolder("/dav/" + folder) }
        func aside(_ key: ObjectKey) -> String {
            "/dav/" + WebDAVAside.Name(key).fresh(in: "Team/.cloudmount/").string.dropLast()
        }
        let (theirs, ours) = (aside(key), aside("Team/ours/d/"))
        for folder in [theirs, ours] {
            fake.makeFolder(folder)
            fake.put(folder + "/f", "f")
        }
        let (provider, server) = try await prepared(fake, prefix: "Team/")
        await provider.swept()
        #expect(fake.node(theirs + "/f") != nil && fake.node("/dav/Team/ours/d/f") != nil)
        let moved = server.seen.filter { $0.method == "MOVE" && $0.path.contains("gone-") }
        #expect(moved.map { $0.headers["destination"]?.hasSuffix("/dav/Team/ours/d/") } == [true])
    }

    @Test("The name aside of a long key stays a name, and is the key's alone")
    func longNames() {
        let long = String(repeating: "ä/", count: 300)
        let names = [WebDAVAside.Name(ObjectKey(long)), WebDAVAside.Name(ObjectKey("b/" + long))]
        #expect(names[0] != names[1] && names[0].key == nil)
        for name in names { #expect(name.fresh(in: "").byteCount <= WebDAVRoot.maxNameBytes) }
    }

    @Test("A folder is not removed where it could not be moved back over nothing alone")
    func noExclusiveMove() async throws {
        var traits = FakeDAV.Traits()
        traits.exclusiveMove = false
        let fake = FakeDAV(traits)
        let (provider, _) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        #expect(await rmdir(provider, "d/")?.code == .notSupported)
        #expect(fake.node("/dav/d") != nil)
        #expect(await rmdir(provider, "none/") == nil)
    }

    // MARK: What is staged

    @Test("What a server may still be moving is not taken away from it", arguments: [504, 502, 0])
    func unclearMove(status: Int) async throws {
        let fake = FakeDAV()
        let (provider, server) = try await prepared(fake)
        fake.before.withLock {
            $0 = { _, request in
                guard request.method == "MOVE" else { return nil }
                return status == 0 ? ScriptedAnswer(status: 207) : ScriptedAnswer(status: status)
            }
        }
        let before = server.seen.count
        let error = await failure { () async throws(VFSError) in
            try await provider.put(PutRequest(key: "a"), from: BytesSource("x"))
        }
        #expect(error?.leavesOpen == true)
        #expect(!server.seen.dropFirst(before).contains { $0.method == "DELETE" })
        #expect(fake.paths.contains { $0.contains("/put-") })
        // A refusal is clear.
        fake.before.withLock { $0 = { _, request in request.method == "MOVE" ? ScriptedAnswer(status: 507) : nil } }
        fake.remove("/dav/.cloudmount")
        _ = await failure { () async throws(VFSError) in
            try await provider.put(PutRequest(key: "a"), from: BytesSource("x"))
        }
        #expect(!fake.paths.contains { $0.contains("/put-") })
    }

    @Test("The sweep goes by when an upload was begun, whatever time its writer gave it")
    func sweep() async throws {
        let fake = FakeDAV()
        fake.makeFolder("/dav/.cloudmount")
        for name in ["put-1699000000-a", "put-1699999000-b", "put-0-c", "put-d", "other"] {
            fake.put("/dav/.cloudmount/" + name, "x")
        }
        let (provider, _) = try await prepared(fake)
        await provider.swept()
        #expect(
            fake.paths.compactMap { $0.hasPrefix("/dav/.cloudmount/") ? $0.dropFirst(17) : nil }
                == ["other", "put-0-c", "put-1699999000-b", "put-d"])
        #expect(provider.dav.begun(provider.dav.staging()) == 1_700_000_000)
    }

    @Test("A folder whose maker heard nothing is not told to be somebody else's")
    func lostFolder() async throws {
        let fake = FakeDAV()
        let (provider, _) = try await prepared(fake)
        fake.before.withLock {
            $0 = { fake, request in
                guard request.method == "MKCOL" else { return nil }
                _ = fake.carryOutAlone(request)
                return ScriptedAnswer(status: 504)
            }
        }
        let codes: [VFSError.Code] = [.unavailable, .unavailable, .preconditionFailed]
        for (number, code) in codes.enumerated() {
            let error = await failure { () async throws(VFSError) in
                try await provider.put(PutRequest(key: "d/", precondition: .absent), from: BytesSource([]))
            }
            fake.before.withLock { $0 = nil }
            #expect(error?.code == code)
            if number == 1 { #expect(error?.retry == .never) }
        }
    }

    @Test("A COPY that passes over its condition copies no other version")
    func unheldCopy() async throws {
        let fake = FakeDAV()
        let (provider, _) = try await prepared(fake)
        let old = try await provider.put(PutRequest(key: "a"), from: BytesSource("old"))
        fake.before.withLock {
            $0 = { fake, request in
                guard request.method == "COPY", let target = request.headers["destination"]?.split(separator: "/").last
                else { return nil }
                fake.put("/dav/a", "new")
                fake.put("/dav/.cloudmount/\(target)", "new")
                return ScriptedAnswer(status: 201)
            }
        }
        let error = await failure { () async throws(VFSError) in
            try await provider.copy(CopyRequest(source: old, destination: "b"))
        }
        #expect(error?.code == .stale && fake.node("/dav/b") == nil)
    }

    // MARK: The breaker's question

    @Test("Whether anything answers is asked without a listing, and nobody takes the answer for emptiness")
    func smallQuestion() async throws {
        let fake = FakeDAV()
        let (provider, server) = try await prepared(fake)
        fake.put("/dav/a", "x")
        var request = ListRequest(prefix: "", delimited: false, limit: 1, takesUnreadable: true)
        let page = try await provider.list(request)
        #expect(page.isEmpty && page.continuation != nil)
        #expect(server.seen.last?.headers["depth"] == "0")
        request.continuation = page.continuation
        let next = try await provider.list(request)
        #expect(next.objects.map(\.key) == ["a"] && next.continuation == nil)
    }
}
