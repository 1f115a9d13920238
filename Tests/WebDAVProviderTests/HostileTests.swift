import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import WebDAVProvider

@Suite("WebDAV: odd and hostile answers")
struct HostileTests {
    private static func entry(_ href: String, _ properties: String) -> String {
        "<D:response><D:href>\(href)</D:href><D:propstat><D:prop>\(properties)</D:prop>"
            + "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    }
    private static let folder = "<D:resourcetype><D:collection/></D:resourcetype>"
    private static let file =
        "<D:resourcetype/><D:getcontentlength>3</D:getcontentlength><D:getetag>\"1\"</D:getetag>"

    /// Of a server that says this to PROPFIND of everything but the root by itself.
    private func listing(_ more: String) async throws -> Result<ListPage, VFSError> {
        let server = try ScriptedServer { request, _ in
            FakeDAV.multistatus(
                Self.entry("/dav/", Self.folder) + (request.headers["depth"] == "1" ? more : ""))
        }
        let provider = try provider(server)
        do throws(VFSError) {
            return .success(try await provider.list(ListRequest(prefix: "", delimited: true)))
        } catch {
            return .failure(error)
        }
    }

    @Test(
        "An entry elsewhere, too deep, unreadable or without a size costs the listing: left out it would be taken for absent",
        arguments: [
            entry("/other/x", file), entry("/dav/../x", file), entry("/dav/a/b", file), entry("", file),
            entry("/dav/x", "<D:resourcetype/>"),
            "<D:response><D:href>/dav/x</D:href><D:status>HTTP/1.1 403 X</D:status></D:response>",
        ])
    func refused(more: String) async throws {
        guard case .failure(let error) = try await listing(more) else {
            Issue.record("the listing is taken")
            return
        }
        #expect(error.code == .malformedResponse && error.retry == .backoff)
    }

    @Test("What went meanwhile, names that no key can say and the same name twice cost nothing")
    func passedOver() async throws {
        let more =
            Self.entry("/dav/x", Self.file) + Self.entry("/dav/x", Self.file) + Self.entry("/dav/%FF", Self.file)
            + Self.entry("/dav/d/", Self.folder)
            + "<D:response><D:href>/dav/gone</D:href><D:status>HTTP/1.1 404 X</D:status></D:response>"
        let page = try await listing(more).get()
        #expect(page.objects.map(\.key) == ["x"] && page.commonPrefixes == ["d/"] && page.continuation == nil)
    }

    @Test("A server whose folders hold each other without end is given up")
    func endless() async throws {
        let server = try ScriptedServer { request, _ in
            let path = request.path.hasSuffix("/") ? String(request.path.dropLast()) : request.path
            return FakeDAV.multistatus(Self.entry(path + "/", Self.folder) + Self.entry(path + "/again/", Self.folder))
        }
        let provider = try provider(server)
        var request = ListRequest(prefix: "", delimited: false)
        var pages = 0
        let error = await failure { () async throws(VFSError) in
            repeat {
                request.continuation = try await provider.list(request).continuation
                pages += 1
            } while request.continuation != nil && pages < 1000
        }
        #expect(error?.code == .malformedResponse)
    }

    @Test("A page of a portal is the answer to nothing", arguments: [200, 404])
    func portal(status: Int) async throws {
        let page = ScriptedAnswer(
            status: status, headers: [("Content-Type", "text/html")], body: Array("<html>Log in</html>".utf8))
        let fake = FakeDAV()
        let isAway = Atomic(false)
        let server = try ScriptedServer { request, _ in
            isAway.load(ordering: .relaxed) ? page : fake.answer(request)
        }
        let provider = try provider(server)
        try await provider.prepare(writable: true)
        let stored = try await provider.put(PutRequest(key: "a"), from: BytesSource("x"))
        // An answer of the server is believed for two seconds.
        try await Task.sleep(for: .milliseconds(2100))
        isAway.store(true, ordering: .relaxed)
        let errors: [VFSError?] = [
            await failure { () async throws(VFSError) in try await provider.head("a") },
            await failure { () async throws(VFSError) in
                try await provider.list(ListRequest(prefix: "d/", delimited: true))
            },
            await failure { () async throws(VFSError) in
                try await provider.delete([DeleteRequest("a", version: stored.etag)])
            },
            await failure { () async throws(VFSError) in
                try await provider.put(PutRequest(key: "b"), from: BytesSource("x"))
            },
            await failure { () async throws(VFSError) in
                try await provider.read(ReadRequest(key: "a", version: stored.etag), into: CollectingSink())
            },
        ]
        for error in errors {
            #expect([.malformedResponse, .bucketNotFound].contains(error?.code), "\(String(describing: error))")
        }
        #expect(fake.node("/dav/a") != nil)
    }

    @Test("Statuses mean what the core knows", arguments: [401, 403, 423, 429, 500, 503, 507])
    func statuses(status: Int) async throws {
        let server = try ScriptedServer { _, _ in ScriptedAnswer(status: status, headers: [("Retry-After", "7")]) }
        let provider = try provider(server)
        let error = await failure { () async throws(VFSError) in try await provider.head("a") }
        let expected: [Int: (VFSError.Code, VFSError.RetryAdvice)] = [
            401: (.credentialsInvalid, .never), 403: (.permissionDenied, .never), 423: (.conflict, .backoff),
            429: (.throttled, .throttle(after: .seconds(7))), 500: (.unavailable, .backoff),
            503: (.unavailable, .throttle(after: .seconds(7))), 507: (.quotaExceeded, .never),
        ]
        #expect(error?.code == expected[status]?.0 && error?.retry == expected[status]?.1)
    }

    @Test("What looks follows a redirect below the root of the same server alone, with the password")
    func redirects() async throws {
        let fake = FakeDAV()
        fake.put("/dav/new", "x")
        let elsewhere = try ScriptedServer { request, _ in fake.answer(request) }
        let target = Mutex("")
        let server = try ScriptedServer { request, _ in
            guard request.path.hasPrefix("/dav/old") else { return fake.answer(request) }
            return ScriptedAnswer(status: 308, headers: [("Location", target.withLock { $0 })])
        }
        let provider = try provider(server, credentials: ["username": .string("u"), "password": .string("p")])
        target.withLock { $0 = "/dav/new" }
        // An answer that names another thing than was asked for shows nothing of it.
        let error = await failure { () async throws(VFSError) in try await provider.head("old") }
        #expect(error?.code == .malformedResponse)
        #expect(server.seen.last?.path == "/dav/new")
        #expect(server.seen.last?.headers["authorization"] == "Basic dTpw")
        for url in [
            "http://127.0.0.1:\(elsewhere.port)/dav/new", "https://127.0.0.1:\(server.port)/dav/new",
            "//127.0.0.1:\(elsewhere.port)/dav/new", "/other/new", "/dav/../new",
        ] {
            target.withLock { $0 = url }
            let error = await failure { () async throws(VFSError) in try await provider.head("old") }
            #expect(error?.code == .invalidArgument, "\(url)")
            #expect(server.seen.last?.path == "/dav/old")
        }
        #expect(elsewhere.seen.isEmpty)
    }

    @Test(
        "What changes something follows no redirect to anything else", arguments: ["PUT", "MOVE", "DELETE", "MKCOL"],
        ["/dav/victim/", "/dav/victim", "/dav", "ADD SLASH"])
    func changingRedirects(method: String, target: String) async throws {
        let fake = FakeDAV()
        fake.makeFolder("/dav/victim")
        fake.put("/dav/victim/x", "x")
        fake.put("/dav/a", "a")
        let (provider, server) = try await prepared(fake)
        let before = server.seen.count
        fake.before.withLock {
            $0 = { _, request in
                guard request.method == method, request.path != target, !request.path.hasSuffix("//"),
                    target != "ADD SLASH" || !request.path.hasSuffix("/")
                else { return nil }
                return ScriptedAnswer(
                    status: 307, headers: [("Location", target == "ADD SLASH" ? request.path + "/" : target)])
            }
        }
        if target == "ADD SLASH", method == "MKCOL" { return }
        let failed = await failure { () async throws(VFSError) in
            switch method {
            case "DELETE": _ = try await provider.delete([DeleteRequest("a")])
            case "MKCOL": _ = try await provider.put(PutRequest(key: "new/"), from: BytesSource([]))
            default: _ = try await provider.put(PutRequest(key: "b"), from: BytesSource("b"))
            }
        }
        #expect(failed?.code == .invalidArgument)
        let sent = server.seen.dropFirst(before)
        #expect(!sent.contains { $0.method == method && ($0.path == target || $0.path.hasSuffix("a/")) })
        #expect(fake.node("/dav/victim/x") != nil && fake.node("/dav/a") != nil)
    }

    @Test("What a mount may say is checked before anything is sent")
    func options() throws {
        func problems(
            _ bucket: String, _ options: [String: OptionValue] = [:], _ credentials: [String: OptionValue] = [:]
        ) -> [String] {
            WebDAVProvider.descriptor.check(
                ProviderContext(
                    mountName: "m", bucket: bucket, options: OptionValues(options),
                    credentials: OptionValues(credentials))
            ).map(\.option)
        }
        #expect(problems("https://cloud.example/remote.php/dav/files/me/") == [])
        #expect(problems("https://cloud.example/My%20Files", [:], ["token": .string("abc")]) == [])
        for bucket in [
            "cloud.example", "ftp://x/", "https://", "https://u:p@x/", "https://x/a?b", "https://x/a/../b",
            "https://x/%zz",
        ] {
            #expect(problems(bucket) == ["bucket"], "\(bucket)")
        }
        #expect(problems("http://cloud.example/dav") == ["bucket"])
        #expect(problems("http://cloud.example/dav", ["allow_http": .boolean(true)]) == [])
        #expect(problems("http://127.0.0.1:8080/dav") == [])
        #expect(problems("https://x/dav", ["nextcloud_chunks": .boolean(true)]) == ["nextcloud_chunks"])
        #expect(problems("https://x/dav", [:], ["username": .string("u")]) == ["credentials"])
        #expect(
            problems("https://x/dav", [:], ["token": .string("t"), "username": .string("u"), "password": .string("p")])
                == ["token"])
        #expect(problems("https://x/dav", ["ca_file": .string("/nowhere")]) == ["ca_file"])
    }
}
