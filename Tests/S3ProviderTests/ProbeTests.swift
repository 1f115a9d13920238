import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import S3Provider

/// The probe against stores that do little, more, or nothing of what they say. Real servers are in the conformance
/// tests.
@Suite("Probe")
struct ProbeTests {
    /// A store in memory that keeps objects and passes over every condition, range and copy.
    private final class PoorStore: Sendable {
        private let objects = Mutex<[String: [UInt8]]>([:])
        /// What fails on purpose.
        let fault: @Sendable (SeenRequest) -> ScriptedAnswer?

        init(_ fault: @escaping @Sendable (SeenRequest) -> ScriptedAnswer? = { _ in nil }) { self.fault = fault }

        var paths: [String] { objects.withLock { $0.keys.sorted() } }
        func add(_ path: String) { objects.withLock { $0[path] = [] } }

        func answer(_ request: SeenRequest) -> ScriptedAnswer {
            if let answer = fault(request) { return answer }
            let etag = ("ETag", "\"e\"")
            switch request.method {
            case "PUT":
                objects.withLock { $0[request.path] = request.body }
                return ScriptedAnswer(headers: [etag])
            case "DELETE":
                objects.withLock { $0[request.path] = nil }
                return ScriptedAnswer(status: 204)
            case "GET" where request.path == "/bucket" && request.query.contains("list-type"):
                let entries = objects.withLock { objects in
                    objects.keys.sorted().map { path in
                        let old = path.contains("old")
                        return "<Contents><Key>\(path.dropFirst(8))</Key><Size>1</Size><ETag>e</ETag>"
                            + "<LastModified>2026-11-0\(old ? 1 : 5)T10:10:10Z</LastModified></Contents>"
                    }
                }
                return .xml(
                    "<ListBucketResult><IsTruncated>false</IsTruncated>\(entries.joined())</ListBucketResult>")
            case "GET", "HEAD":
                if request.path == "/bucket" {
                    return request.method == "HEAD" ? ScriptedAnswer() : .error(501, "NotImplemented")
                }
                guard let body = objects.withLock({ $0[request.path] }) else { return .error(404, "NoSuchKey") }
                let length = request.method == "HEAD" ? [("Content-Length", "\(body.count)")] : []
                return ScriptedAnswer(headers: [etag] + length, body: body)
            default: return .error(501, "NotImplemented")
            }
        }
    }

    private func run(
        _ store: PoorStore, prefix: String = "", writable: Bool = true
    ) async throws -> (S3Provider, [SeenRequest]) {
        let server = try ScriptedServer { request, _ in store.answer(request) }
        let provider = try provider(server, prefix: prefix)
        try await provider.prepare(writable: writable)
        return (provider, server.seen)
    }

    @Test("A store that passes over everything is believed nothing, and nothing is left in it")
    func poor() async throws {
        let store = PoorStore()
        let (provider, seen) = try await run(store, prefix: "runs/7/")
        let capabilities = provider.capabilities
        #expect(!capabilities.conditionalCreate && !capabilities.conditionalReplace)
        #expect(!capabilities.conditionalCopy && !capabilities.conditionalDelete)
        #expect(!capabilities.serverCopy && !capabilities.rangeCopy && !capabilities.multipart)
        #expect(!capabilities.rangedRead && !capabilities.folderObjects && !capabilities.versions)
        #expect(capabilities.sortedListing && capabilities.emptyFolders)
        #expect(store.paths.isEmpty)
        for request in seen where request.method == "PUT" || request.method == "DELETE" || request.method == "POST" {
            if request.query == "delete=" {
                let keys = request.text.split(separator: "<Key>").dropFirst()
                #expect(keys.count == 2 && keys.allSatisfy { $0.hasPrefix("runs/7/.cloudmount-probe-") })
            } else {
                #expect(request.path.hasPrefix("/bucket/runs/7/.cloudmount-probe-"))
            }
        }
    }

    @Test("A store that takes no folder objects is asked for none, unless it only forbids them", arguments: [500, 403])
    func folders(status: Int) async throws {
        let store = PoorStore { request in
            request.method == "PUT" && request.path.hasSuffix("/") ? .error(status, "No") : nil
        }
        let (provider, _) = try await run(store)
        #expect(provider.capabilities.emptyFolders == (status == 403))
        #expect(store.paths.isEmpty)
    }

    @Test("A read-only mount writes nothing")
    func readOnly() async throws {
        let (provider, seen) = try await run(PoorStore(), writable: false)
        #expect(Set(seen.map(\.method)) == ["GET", "HEAD"])
        #expect(seen.count == 3)
        #expect(provider.capabilities.rangedRead)
    }

    @Test("Remains of earlier probes are cleared away, other objects are not touched")
    func remains() async throws {
        let store = PoorStore()
        store.add("/bucket/.cloudmount-probe-old")
        store.add("/bucket/other")
        _ = try await run(store)
        #expect(store.paths == ["/bucket/other"])
    }

    @Test("A listing of the mount's root shows no probe of another mount")
    func hidden() async throws {
        let store = PoorStore()
        let server = try ScriptedServer { request, _ in store.answer(request) }
        let provider = try provider(server, prefix: "")
        for name in [".cloudmount-probe-1", ".cloudmount-probe-1-d/", "other"] { store.add("/bucket/" + name) }
        let page = try await provider.list(ListRequest(prefix: "", delimited: true))
        #expect(page.objects.map(\.key) == ["other"])
        #expect(page.commonPrefixes == [])
        let probes = try await provider.list(ListRequest(prefix: ".cloudmount-probe-", delimited: false))
        #expect(probes.objects.count == 2)
    }

    @Test("A bucket that must not be written to is a read-only mount that says why, and nothing is left in it")
    func forbidden() async throws {
        let store = PoorStore { request in
            request.method == "PUT" && !request.path.hasSuffix("-d/") && !request.path.hasSuffix("-d-x")
                ? .error(403, "AccessDenied", message: "Because of a policy.") : nil
        }
        let (provider, _) = try await run(store)
        #expect(provider.capabilities.readOnlyReason?.contains("Because of a policy") == true)
        #expect(provider.capabilities.rangedRead)
        #expect(store.paths.isEmpty)
    }

    @Test("Credentials that may only read are found out by what comes to nothing", arguments: [true, false])
    func readOnlyKeys(mayPut: Bool) async throws {
        let server = try ScriptedServer { request, _ in
            switch (request.method, request.query) {
            case ("GET", let query) where query.contains("list-type"):
                return .xml("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
            case ("PUT", "") where mayPut:
                return .error(request.headers["if-match"] == nil ? 200 : 404, "NoSuchKey")
            case ("PUT", _): return .error(403, "AccessDenied")
            default: return ScriptedAnswer()
            }
        }
        let provider = try S3ProviderTests.provider(server, known, prefix: "p/")
        try await provider.prepare(writable: true)
        #expect((provider.capabilities.readOnlyReason == nil) == mayPut)
        let writes = server.seen.filter { $0.method == "PUT" }
        // Neither can make anything.
        #expect(writes.count == 2)
        #expect(writes.allSatisfy { $0.query.contains("uploadId=") || $0.headers["if-match"] != nil })
        #expect(writes.allSatisfy { $0.path.hasPrefix("/bucket/p/.cloudmount-probe-") })
        let reader = try S3ProviderTests.provider(server, known)
        try await reader.prepare(writable: false)
        #expect(reader.capabilities.readOnlyReason == nil)
    }

    @Test("What a start that was cut short leaves behind the next one takes away, and is not misled by it")
    func cutShort() async throws {
        let isCut = Mutex(true)
        let aborted = Mutex<[String]>([])
        let store = PoorStore { request in
            if request.method == "GET", request.query.contains("uploads=") {
                let prefix = request.query.split(separator: "&").first?.dropFirst(7) ?? ""
                return .xml(
                    "<ListMultipartUploadsResult><Upload><Key>\(prefix)</Key><UploadId>U7</UploadId></Upload>"
                        + "<Upload><Key>\(prefix)-other</Key><UploadId>U8</UploadId></Upload></ListMultipartUploadsResult>"
                )
            }
            if request.method == "DELETE", request.query.contains("uploadId") {
                aborted.withLock { $0.append(request.query) }
                return ScriptedAnswer(status: 204)
            }
            return request.method == "DELETE" && isCut.withLock { $0 } ? .error(503, "ServiceUnavailable") : nil
        }
        let server = try ScriptedServer { request, _ in store.answer(request) }
        let first = try S3ProviderTests.provider(server)
        try await first.prepare(writable: true)
        let left = store.paths
        #expect(!left.isEmpty)
        isCut.withLock { $0 = false }
        let second = try S3ProviderTests.provider(server)
        try await second.prepare(writable: true)
        #expect(store.paths.isEmpty)
        #expect(second.bucket.client.features == first.bucket.client.features)
        #expect(aborted.withLock { Set($0) } == ["uploadId=U7"])
    }

    /// What is kept on a machine.
    private final class Kept: ProviderMemory {
        private let kept = Mutex<[String: [UInt8]]>([:])
        func recall(_ name: String) async -> [UInt8]? { kept.withLock { $0[name] } }
        func keep(_ bytes: [UInt8], as name: String) async { kept.withLock { $0[name] = bytes } }
        func change(_ body: @Sendable (String) -> String) {
            kept.withLock { $0 = $0.mapValues { Array(body(String(decoding: $0, as: UTF8.self)).utf8) } }
        }
    }

    @Test("A restart probes nothing; a day later, at another store or with other credentials it does")
    func remembered() async throws {
        let name = Mutex("Store")
        let store = PoorStore()
        let server = try ScriptedServer { request, _ in
            var answer = store.answer(request)
            answer.headers.append(("Server", name.withLock { $0 }))
            return answer
        }
        let (memory, clock) = (Kept(), TestClock())
        func writes(prefix: String = "", key: String = "AKID") async throws -> Int {
            let before = server.seen.count
            let credentials = StaticCredentials(
                credentials: S3Credentials(accessKeyID: key, secretAccessKey: "SECRET"))
            let provider = try provider(server, prefix: prefix, source: credentials, clock: clock, memory: memory)
            try await provider.prepare(writable: true)
            #expect(!provider.capabilities.conditionalCreate && provider.capabilities.sortedListing)
            return server.seen[before...].count { $0.method == "PUT" && !$0.query.contains("uploadId") }
        }
        #expect(try await writes() > 0)
        #expect(try await writes() == 0)
        #expect(try await writes(prefix: "p/") > 0)
        #expect(try await writes(key: "OTHER") > 0)
        name.withLock { $0 = "Another" }
        #expect(try await writes() > 0)
        name.withLock { $0 = "Store" }
        #expect(try await writes() == 0)
        clock.advance(S3Findings.lifetime)
        #expect(try await writes() > 0)
        // From the future, or damaged.
        clock.advance(-10)
        #expect(try await writes() > 0)
        for damage in [
            { _ in "" }, { String($0.dropLast(2)) }, { $0.replacingOccurrences("0\n", "2\n") },
            { $0.replacingOccurrences("findings 1", "findings 2") },
        ] as [@Sendable (String) -> String] {
            memory.change(damage)
            #expect(try await writes() > 0)
            #expect(try await writes() == 0)
        }
    }

    @Test("Probes that are under way at the same time do not share a name")
    func names() throws {
        let server = try ScriptedServer { _, _ in ScriptedAnswer() }
        let client = try S3ProviderTests.provider(server).bucket.client
        var first: S3ProbeName? = S3ProbeName(client)
        let key = first?.key
        let second = S3ProbeName(client)
        #expect(second.key != key)
        first = nil
        #expect(S3ProbeName(client).key == key)
        #expect(second.key.hasPrefix(".cloudmount-probe-"))
    }

    @Test("A store that refuses the header instead of passing over it is written to without")
    func refusesHeader() async throws {
        let store = PoorStore { request in
            request.headers["if-none-match"] != nil || request.headers["if-match"] != nil
                ? .error(501, "NotImplemented") : nil
        }
        let (provider, _) = try await run(store)
        #expect(!provider.capabilities.conditionalCreate)
        #expect(store.paths.isEmpty)
    }

    @Test("A store that goes away in the middle has shown nothing: prepare fails")
    func goesAway() async throws {
        let store = PoorStore { request in
            request.headers["range"] == nil
                ? nil
                : ScriptedAnswer(
                    status: 206, headers: [("ETag", "\"e\""), ("Content-Range", "bytes 4-7/16")], isCut: true)
        }
        await #expect(throws: VFSError.self) { try await run(store) }
        #expect(store.paths.isEmpty)
    }

    @Test(
        "A missing bucket and wrong credentials are told apart",
        arguments: [
            (404, "NoSuchBucket", VFSError.Code.bucketNotFound), (403, "InvalidAccessKeyId", .credentialsInvalid),
            (403, "SignatureDoesNotMatch", .credentialsInvalid), (403, "AccessDenied", .permissionDenied),
            (503, "SlowDown", .throttled),
        ])
    func contact(status: Int, code: String, expected: VFSError.Code) async throws {
        let server = try ScriptedServer { _, _ in .error(status, code) }
        let error = await #expect(throws: VFSError.self) { try await provider(server).prepare(writable: true) }
        #expect(error?.code == expected)
    }

    @Test("A known vendor is not probed")
    func vendor() async throws {
        let store = PoorStore()
        let server = try ScriptedServer { request, _ in store.answer(request) }
        let provider = try provider(server, known)
        try await provider.prepare(writable: true)
        #expect(server.seen.count == 4)
        #expect(provider.capabilities.conditionalCreate && provider.capabilities.rangeCopy)
        #expect(provider.capabilities.readOnlyReason == nil)
    }
}

extension String {
    fileprivate func replacingOccurrences(_ old: String, _ new: String) -> String {
        split(separator: old, omittingEmptySubsequences: false).joined(separator: new)
    }
}
