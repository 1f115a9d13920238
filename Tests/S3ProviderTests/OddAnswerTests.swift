import CloudMountVFS
import TestServers
import Testing

@testable import S3Provider

/// One odd answer is one error, with words, and says nothing of the rest.
@Suite("Odd answers")
struct OddAnswerTests {
    private static let etag = ("ETag", "\"e1\"")

    private func failure<Value>(_ work: () async throws -> Value) async -> VFSError? {
        do {
            _ = try await work()
            return nil
        } catch { return error as? VFSError }
    }

    // MARK: Who said it

    @Test(
        "What the store itself has said it would say again; a page of something before it may pass",
        arguments: [
            "<ListBucketResult/>", "<Other/>", "<html>login</html>", "<ListBucketResult>\u{1}</ListBucketResult>",
        ])
    func ownWords(body: String) async throws {
        for (name, isOwn) in [
            ("x-amz-request-id", true), ("x-amz-id-2", true), ("cf-ray", false), ("x-request-id", false),
            ("via", false),
        ] {
            let server = try ScriptedServer { _, _ in .xml(body, headers: [(name, "R1")]) }
            let error = await failure {
                try await provider(server, known).list(ListRequest(prefix: "", delimited: true))
            }
            #expect(error?.code == .malformedResponse || error?.code == .corrupted)
            #expect((error?.retry == .never) == isOwn, "\(name)")
            #expect(server.seen.count == 1)
        }
    }

    @Test("Answers of any number of entries are none")
    func endless() async throws {
        @Sendable func answer(_ root: String, _ entry: String, _ count: Int) -> String {
            "<\(root)><IsTruncated>false</IsTruncated>\(String(repeating: entry, count: count))</\(root)>"
        }
        for (count, isFine) in [(10_000, true), (10_001, false)] {
            let server = try ScriptedServer { request, _ in
                let query = request.path + request.query
                return .xml(
                    query.contains("uploadId")
                        ? answer("ListPartsResult", "<Part><PartNumber>1</PartNumber></Part>", count)
                        : query.contains("delete")
                            ? answer("DeleteResult", "<Error><Key>k</Key></Error>", count)
                            : answer("ListVersionsResult", "<Version><Key>k</Key></Version>", count))
            }
            let provider = try provider(server, known)
            provider.bucket.client.features.versions = true
            let errors = [
                await failure { try await provider.versions(of: "k") },
                await failure { try await provider.listParts(Upload(key: "k", id: "U")) },
                await failure { try await provider.delete([DeleteRequest("k"), DeleteRequest("l")]) },
            ]
            #expect(errors.map { $0 == nil } == [isFine, isFine, isFine], "\(errors)")
        }
    }

    @Test("An answer that breaks off is asked for again, whoever has begun it")
    func cut() async throws {
        let server = try ScriptedServer { _, _ in
            ScriptedAnswer(
                headers: [("x-amz-request-id", "R1")], body: Array("<ListBucketResult><Name>b</Name>".utf8), isCut: true
            )
        }
        let error = await failure { try await provider(server, known).list(ListRequest(prefix: "", delimited: true)) }
        #expect(error != nil && error?.retry != .never)
    }

    @Test("Other bytes than those asked for are the store's own, also where they are too many to be read to their end")
    func wrongRange() async throws {
        for size in [3, 3 << 20] {
            let server = try ScriptedServer { _, _ in
                ScriptedAnswer(
                    status: 206,
                    headers: [
                        Self.etag, ("Content-Range", "bytes 7-\(6 + size)/\(8 << 20)"), ("x-amz-request-id", "R1"),
                    ],
                    body: Array(repeating: 1, count: size))
            }
            let error = await failure {
                try await provider(server, known).read(
                    ReadRequest(key: "k", extent: Extent(2, 5)), into: CollectingSink())
            }
            #expect(error?.code == .malformedResponse)
            #expect(error?.retry == .never)
        }
    }

    // MARK: Length

    private func head(_ answer: @escaping @Sendable (SeenRequest, Int) -> ScriptedAnswer) async throws -> ObjectInfo {
        let server = try ScriptedServer(answer)
        return try await provider(server, known).head("k")
    }

    @Test("An object whose HEAD has no length is asked for its first byte, and all that is told is of one version")
    func measured() async throws {
        let info = try await head { request, _ in
            if request.method == "HEAD" { return ScriptedAnswer(headers: [Self.etag]) }
            #expect(request.headers["range"] == "bytes=0-0")
            return ScriptedAnswer(
                status: 206, headers: [("ETag", "\"e2\""), ("Content-Range", "bytes 0-0/4711"), ("x-amz-meta-a", "b")],
                body: [1])
        }
        #expect(info.size == 4711)
        #expect(info.etag == ETag("e2"))
        #expect(info.metadata?.user == ["a": "b"])
    }

    @Test("An empty one has no first byte; one that changes meanwhile is not mixed; one that goes is gone")
    func measuredOthers() async throws {
        let empty = try await head { request, _ in
            request.method == "HEAD" ? ScriptedAnswer(headers: [Self.etag]) : .error(416, "InvalidRange")
        }
        #expect(empty.size == 0 && empty.etag == ETag("e1"))
        let mixed = await failure {
            try await head { request, index in
                request.method == "HEAD"
                    ? ScriptedAnswer(headers: [("ETag", "\"v\(index)\"")]) : .error(416, "InvalidRange")
            }
        }
        #expect(mixed?.code == .malformedResponse)
        let gone = await failure {
            try await head { request, _ in
                request.method == "HEAD" ? ScriptedAnswer(headers: [Self.etag]) : .error(404, "NoSuchKey")
            }
        }
        #expect(gone?.code == .notFound)
        let whole = await failure {
            try await head { request, _ in
                request.method == "HEAD"
                    ? ScriptedAnswer(headers: [Self.etag]) : ScriptedAnswer(headers: [Self.etag], body: [1, 2, 3])
            }
        }
        #expect(whole?.code == .malformedResponse)
    }

    @Test("Only a store that unpacks what is stored packed is told that packed bodies are taken")
    func packed() async throws {
        for (profile, expected) in [("gcs", "gzip"), ("aws", nil), ("generic", nil)] as [(String, String?)] {
            let server = try ScriptedServer { request, _ in
                ScriptedAnswer(headers: [Self.etag, ("Content-Length", "3")], body: [1, 2, 3])
            }
            let provider = try provider(server, ["path_style": .boolean(true)], profile: profile)
            // Its length comes twice from this server, which is no matter of HEAD.
            _ = try await provider.head("k")
            _ = await failure { try await provider.read(ReadRequest(key: "k"), into: CollectingSink()) }
            #expect(server.seen.map { $0.headers["accept-encoding"] } == [expected, expected])
        }
    }

    // MARK: Entries

    private static func entry(_ key: String, size: String? = "1", time: String = "2026-11-05T10:10:10Z") -> String {
        "<Contents><Key>\(key)</Key><LastModified>\(time)</LastModified><ETag>e-\(key)</ETag>"
            + (size.map { "<Size>\($0)</Size>" } ?? "") + "</Contents>"
    }

    /// `b` is told by HEAD, of `c` nothing is told.
    private static func partly(_ request: SeenRequest, _ entries: [String]) -> ScriptedAnswer {
        switch (request.method, request.path) {
        case ("HEAD", "/bucket/b"): ScriptedAnswer(headers: [("ETag", "e-b"), ("Content-Length", "7")])
        case ("HEAD", _): ScriptedAnswer(status: 403)
        default:
            .xml("<ListBucketResult><IsTruncated>false</IsTruncated>\(entries.joined())</ListBucketResult>")
        }
    }

    private static let entries = [
        entry("a"), entry("b", size: nil), entry("c", time: "yesterday"), entry("d"),
    ]

    @Test("An entry without readable size or time is told by HEAD, else named as unreadable, and hides no other")
    func entries() async throws {
        let server = try ScriptedServer { request, _ in Self.partly(request, Self.entries) }
        let provider = try provider(server, known)
        let page = try await provider.list(ListRequest(prefix: "", delimited: true, takesUnreadable: true))
        #expect(page.objects.map(\.key) == ["a", "b", "d"])
        #expect(page.objects.map(\.size) == [1, 7, 1])
        #expect(page.unreadable == ["c"])
        // Who concludes something from what is not on a page hears of it.
        let error = await failure { try await provider.list(ListRequest(prefix: "", delimited: true)) }
        #expect(error?.code == .malformedResponse)
        #expect(error?.retry == .never)
        #expect(error?.message.contains("c") == true)
    }

    @Test("A page of nothing but unreadable entries is not empty")
    func onlyUnreadable() async throws {
        let server = try ScriptedServer { request, _ in Self.partly(request, [Self.entry("c", size: "many")]) }
        let page = try await provider(server, known).list(
            ListRequest(prefix: "", delimited: false, limit: 1, takesUnreadable: true))
        #expect(page.objects.isEmpty && page.unreadable == ["c"] && !page.isEmpty)
    }

    @Test("Deletions of versions take no unreadable entry for one that is gone")
    func unreadableIsThere() async throws {
        let server = try ScriptedServer { request, _ in
            request.method == "POST" ? .xml("<DeleteResult/>") : Self.partly(request, Self.entries)
        }
        let provider = try provider(server, known)
        provider.bucket.client.features.deleteManyMatch = false
        let failures = try await provider.delete(
            ["a", "b", "d", "x"].map { DeleteRequest(ObjectKey($0), version: ETag($0 == "b" ? "old" : "e-\($0)")) })
        #expect(failures.map(\.key) == ["b"])
        let deletions = server.seen.filter { $0.method == "POST" }.map(\.text).joined()
        #expect(deletions.contains("<Key>a</Key>") && deletions.contains("<Key>d</Key>"))
        #expect(!deletions.contains("<Key>b</Key>"))
    }

    // MARK: What may not be looked at

    @Test("Who is refused also what is not there learns from a listing that it is not there")
    func prefixOnly() async throws {
        let server = try ScriptedServer { request, _ in
            if request.path == "/bucket" {
                let entry = request.query.contains("prefix=there") ? Self.entry("there") : ""
                return .xml("<ListBucketResult><IsTruncated>false</IsTruncated>\(entry)</ListBucketResult>")
            }
            return request.method == "HEAD" ? ScriptedAnswer(status: 403) : .error(403, "AccessDenied")
        }
        let provider = try provider(server, known)
        #expect(await failure { try await provider.head("gone") }?.code == .notFound)
        #expect(await failure { try await provider.head("there") }?.code == .permissionDenied)
        for (key, code) in [("gone", VFSError.Code.stale), ("there", .permissionDenied)] {
            let request = ReadRequest(key: ObjectKey(key), extent: Extent(0, 4), version: ETag("e"))
            #expect(await failure { try await provider.read(request, into: CollectingSink()) }?.code == code)
        }
    }

    @Test("An object that only its owner's key opens is denied, not a fault")
    func ownersKey() async throws {
        let message =
            "The object was stored using a form of Server Side Encryption. The correct parameters must be "
            + "provided to retrieve the object."
        let server = try ScriptedServer { request, _ in
            if request.path == "/bucket" {
                return .xml(
                    "<ListBucketResult><IsTruncated>false</IsTruncated>\(Self.entry("k"))</ListBucketResult>")
            }
            return request.method == "HEAD"
                ? ScriptedAnswer(status: 400) : .error(400, "InvalidRequest", message: message)
        }
        let provider = try provider(server, known)
        let head = await failure { try await provider.head("k") }
        #expect(head?.code == .permissionDenied)
        #expect(head?.retry == .never)
        let read = await failure {
            try await provider.read(ReadRequest(key: "k", extent: Extent(0, 4)), into: CollectingSink())
        }
        #expect(read?.code == .permissionDenied)
    }

    @Test("An object that may not be looked at is deleted as the version that the listing tells")
    func deleteUnseen() async throws {
        let server = try ScriptedServer { request, _ in
            if request.path == "/bucket" {
                return .xml(
                    "<ListBucketResult><IsTruncated>false</IsTruncated>\(Self.entry("k"))</ListBucketResult>")
            }
            return ScriptedAnswer(status: request.method == "DELETE" ? 204 : 403)
        }
        let provider = try provider(server, known)
        provider.bucket.client.features.deleteMatch = false
        #expect(try await provider.delete([DeleteRequest("k", version: ETag("e-k"))]).isEmpty)
        #expect(server.seen.last?.method == "DELETE")
        let failures = try await provider.delete([DeleteRequest("k", version: ETag("other"))])
        #expect(failures.map(\.error.code) == [.preconditionFailed])
    }
}
