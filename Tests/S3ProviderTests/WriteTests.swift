import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import S3Provider

@Suite("Writes")
struct WriteTests {
    private static let etag = [("ETag", "\"e1\"")]

    @Test("Preconditions are headers where they are honoured")
    func conditions() async throws {
        let server = try ScriptedServer { _, _ in ScriptedAnswer(headers: Self.etag) }
        let provider = try provider(server, known)
        _ = try await provider.put(PutRequest(key: "k", precondition: .absent), from: BytesSource("x"))
        _ = try await provider.put(PutRequest(key: "k", precondition: .match(ETag("e0"))), from: BytesSource("x"))
        #expect(server.seen.map { $0.headers["if-none-match"] } == ["*", nil])
        #expect(server.seen.map { $0.headers["if-match"] } == [nil, "\"e0\""])
    }

    @Test("Where they are not, the object is looked at first and the header is not sent")
    func comparing() async throws {
        let server = try ScriptedServer { request, _ in
            if request.path == "/bucket/none" && request.method == "HEAD" { return ScriptedAnswer(status: 404) }
            return ScriptedAnswer(
                headers: Self.etag + [("Content-Length", "0")].filter { _ in request.method == "HEAD" })
        }
        let provider = try provider(server, profile: "b2")
        func put(_ key: ObjectKey, _ precondition: Precondition) async -> VFSError.Code? {
            do throws(VFSError) {
                _ = try await provider.put(PutRequest(key: key, precondition: precondition), from: BytesSource("x"))
                return nil
            } catch {
                return error.code
            }
        }
        #expect(await put("none", .absent) == nil)
        #expect(await put("there", .absent) == .preconditionFailed)
        #expect(await put("there", .match(ETag("e1"))) == nil)
        #expect(await put("there", .match(ETag("e0"))) == .preconditionFailed)
        #expect(await put("none", .match(ETag("e1"))) == .preconditionFailed)
        #expect(!server.seen.contains { $0.headers["if-match"] != nil || $0.headers["if-none-match"] != nil })
    }

    @Test("If-Match on an object that is gone has failed; a conflict of writers is worth another try")
    func gone() async throws {
        for (answer, code, retry) in [
            (ScriptedAnswer.error(404, "NoSuchKey"), VFSError.Code.preconditionFailed, VFSError.RetryAdvice.never),
            (.error(412, "PreconditionFailed"), .preconditionFailed, .never),
            (.error(409, "ConditionalRequestConflict"), .conflict, .backoff),
        ] {
            let server = try ScriptedServer { _, _ in answer }
            let error = await #expect(throws: VFSError.self) {
                try await provider(server, known).put(
                    PutRequest(key: "k", precondition: .match(ETag("e1"))), from: BytesSource("x"))
            }
            #expect(error?.code == code)
            #expect(error?.retry == retry)
        }
    }

    @Test("Many keys go in one request with their MD5; refusals come back key by key, absences do not")
    func deleteMany() async throws {
        let server = try ScriptedServer { request, _ in
            request.method == "DELETE"
                ? ScriptedAnswer(status: 204)
                : .xml(
                    "<DeleteResult><Error><Key>a &amp; b</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
                        + "<Error><Key>c</Key><Code>NoSuchKey</Code></Error>"
                        + "<Error><Key>d</Key><Code>SlowDown</Code></Error></DeleteResult>")
        }
        let failures = try await provider(server, known).delete(
            ["a & b", "c", "d", "new\nline", "ctl\u{1}"].map { DeleteRequest(ObjectKey($0)) })
        #expect(failures.map(\.key) == ["a & b", "d"])
        #expect(failures.map(\.error.code) == [.permissionDenied, .throttled])
        #expect(failures.first?.error.wire?.key == "a & b")
        let many = server.seen.first { $0.method == "POST" }
        #expect(
            many?.text
                == "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>"
                + "<Object><Key>a &amp; b</Key></Object><Object><Key>c</Key></Object><Object><Key>d</Key></Object>"
                + "<Object><Key>new&#xA;line</Key></Object></Delete>")
        #expect(many?.headers["content-md5"] == many.map { S3Payload.md5($0.body) })
        #expect(server.seen.filter { $0.method == "DELETE" }.map(\.target) == ["/bucket/ctl%01"])
    }

    @Test("An error of no key that was to be deleted is no success of those that were", arguments: ["never asked", ""])
    func deleteOfOthers(_ key: String) async throws {
        let server = try ScriptedServer { _, _ in
            .xml("<DeleteResult><Error><Key>\(key)</Key><Code>AccessDenied</Code></Error></DeleteResult>")
        }
        let provider = try provider(server, known)
        let error = await #expect(throws: VFSError.self) {
            try await provider.delete(["a", "b"].map { DeleteRequest(ObjectKey($0)) })
        }
        #expect(error?.code == .malformedResponse)
    }

    @Test("One key is a request of its own, and its absence is success")
    func deleteOne() async throws {
        let server = try ScriptedServer { _, _ in .error(404, "NoSuchKey") }
        #expect(try await provider(server, known).delete([DeleteRequest("k")]).isEmpty)
        #expect(server.seen.map(\.method) == ["DELETE"])
        let gcs = try provider(server, profile: "gcs")
        #expect(gcs.capabilities.maxDeleteKeys == 1)
        await #expect(throws: VFSError.self) { try await gcs.delete([DeleteRequest("a"), DeleteRequest("b")]) }
    }

    @Test("A portal's page in answer to DELETE is no deletion, whatever its status")
    func portalPage() async throws {
        let server = try ScriptedServer { _, _ in
            ScriptedAnswer(headers: [("Content-Type", "text/html")], body: Array("<html>log in</html>".utf8))
        }
        let provider = try provider(server, known)
        let error = await #expect(throws: VFSError.self) { try await provider.delete([DeleteRequest("k")]) }
        #expect(error?.code == .malformedResponse)
        await #expect(throws: VFSError.self) { try await provider.abortUpload(Upload(key: "k", id: "u")) }
        for said in ["", " \n", "{}", "<?xml version=\"1.0\"?><AbortMultipartUploadResult/>"] {
            let store = try ScriptedServer { _, _ in ScriptedAnswer(body: Array(said.utf8)) }
            #expect(try await S3ProviderTests.provider(store, known).delete([DeleteRequest("k")]).isEmpty)
        }
    }

    @Test("Copies are pinned to the version of their source, which may have any name")
    func copy() async throws {
        let server = try ScriptedServer { _, _ in
            .xml(
                "<CopyObjectResult><LastModified>2026-11-05T10:10:10Z</LastModified><ETag>\"e9\"</ETag>"
                    + "</CopyObjectResult>"
            )
        }
        let provider = try provider(server, known)
        let copied = try await provider.copy(
            CopyRequest(
                source: info("a b+?\u{E9}"), destination: "l",
                metadata: ObjectMetadata(contentType: "t/x", headers: ["cache-control": "no-cache"])))
        #expect(copied.etag == ETag("e9") && copied.size == 10)
        #expect(copied.stored == Timestamp(seconds: 1_793_873_410))
        let sent = server.seen.first?.headers
        #expect(sent?["x-amz-copy-source"] == "/bucket/a%20b%2B%3F%C3%A9")
        #expect(sent?["x-amz-copy-source-if-match"] == "\"e1\"")
        #expect(sent?["x-amz-metadata-directive"] == "REPLACE")
        #expect(sent?["content-type"] == "t/x" && sent?["cache-control"] == "no-cache")
        _ = try await provider.copy(CopyRequest(source: info("k"), destination: "l"))
        #expect(server.seen.last?.headers["x-amz-copy-source-if-match"] == "\"e1\"")
        #expect(server.seen.last?.headers["x-amz-metadata-directive"] == nil)
    }

    /// A store with one object of 23 bytes at `k`.
    private func multipartStore(
        _ log: @escaping @Sendable (SeenRequest) -> ScriptedAnswer? = { _ in nil }
    ) throws -> ScriptedServer {
        try ScriptedServer { request, _ in
            if let answer = log(request) { return answer }
            switch (request.method, request.query) {
            case ("HEAD", _):
                return ScriptedAnswer(
                    headers: Self.etag + [
                        ("Content-Length", "23"), ("Content-Type", "t/x"), ("x-amz-meta-mtime", "5"),
                        ("Cache-Control", "no-cache"),
                    ])
            case ("POST", "uploads="):
                return .xml("<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>")
            case ("POST", _):
                return .xml(
                    "<CompleteMultipartUploadResult><ETag>\"c-3\"</ETag></CompleteMultipartUploadResult>")
            case ("PUT", _):
                return .xml(
                    "<CopyPartResult><ETag>\"\(request.headers["x-amz-copy-source-range"] ?? "")\"</ETag>"
                        + "</CopyPartResult>"
                )
            default: return ScriptedAnswer(status: 204)
            }
        }
    }

    @Test("Above the limit a copy is an upload of ranges, with the metadata of the source")
    func copyInParts() async throws {
        let server = try multipartStore()
        let provider = try provider(server, known, copyLimit: 20, copyPartSize: 10)
        let copied = try await provider.copy(CopyRequest(source: info("k", size: 23), destination: "l"))
        #expect(copied.size == 23 && copied.etag == ETag("c-3"))
        let ranges = server.seen.compactMap { $0.headers["x-amz-copy-source-range"] }.sorted()
        #expect(ranges == ["bytes=0-9", "bytes=10-19", "bytes=20-22"])
        #expect(
            server.seen.filter { $0.method == "PUT" }.allSatisfy {
                $0.headers["x-amz-copy-source-if-match"] == "\"e1\""
            })
        let begin = server.seen.first { $0.query == "uploads=" }
        #expect(begin?.headers["content-type"] == "t/x" && begin?.headers["x-amz-meta-mtime"] == "5")
        #expect(begin?.headers["cache-control"] == "no-cache")
        let complete = server.seen.first { $0.method == "POST" && $0.query == "uploadId=U" }?.text ?? ""
        #expect(
            complete.contains(
                "<Part><PartNumber>1</PartNumber><ETag>&quot;bytes=0-9&quot;</ETag></Part><Part><PartNumber>2"))
        #expect(provider.capabilities.maxCopySize == provider.capabilities.maxObjectSize)
    }

    @Test("A copy in parts that fails is cleared away")
    func copyInPartsFails() async throws {
        let server = try multipartStore { request in
            request.headers["x-amz-copy-source-range"] == "bytes=10-19" ? .error(412, "PreconditionFailed") : nil
        }
        let provider = try provider(server, known, copyLimit: 20, copyPartSize: 10)
        let error = await #expect(throws: VFSError.self) {
            try await provider.copy(CopyRequest(source: info("k", size: 23), destination: "l"))
        }
        #expect(error?.code == .stale)
        #expect(server.seen.last?.method == "DELETE")
        #expect(server.seen.last?.target == "/bucket/l?uploadId=U")
    }

    @Test("Parts of a copy keep within the number allowed")
    func partSizes() {
        #expect(S3Copier.partSize(6 << 30, least: 512 << 20, maxParts: 10_000) == 512 << 20)
        #expect(S3Copier.partSize(5 << 40, least: 512 << 20, maxParts: 10_000) == 525 << 20)
        #expect(S3Copier.partSize(1 << 40, least: 512 << 20, maxParts: 1000) == 1049 << 20)
        #expect(S3Copier.partSize(5 << 40, least: 512 << 20, maxParts: 1000) == nil)
    }

    @Test("Parts are listed as far as their numbers go")
    func endlessParts() async throws {
        let server = try ScriptedServer { request, _ in
            let marker = request.query.split(separator: "part-number-marker=").last?.prefix { $0.isNumber }
            let next = (marker.flatMap { Int($0) } ?? 0) + 2000
            return .xml(
                "<ListPartsResult><IsTruncated>true</IsTruncated><Part><PartNumber>\(next)</PartNumber><Size>1</Size>"
                    + "<ETag>p</ETag></Part></ListPartsResult>")
        }
        let error = await #expect(throws: VFSError.self) {
            try await provider(server, known).listParts(Upload(key: "k", id: "U"))
        }
        #expect(error?.code == .malformedResponse)
        #expect(server.seen.count < 10)
    }

    @Test("Parts are listed page by page and an unknown upload says so")
    func parts() async throws {
        let server = try ScriptedServer { request, _ in
            let second = request.query.contains("part-number-marker=2")
            let numbers = second ? [3] : [1, 2]
            return .xml(
                "<ListPartsResult><IsTruncated>\(!second)</IsTruncated>"
                    + numbers.map {
                        "<Part><PartNumber>\($0)</PartNumber><Size>\($0 * 10)</Size>"
                            + "<ETag>&quot;p\($0)&quot;</ETag></Part>"
                    }.joined() + "</ListPartsResult>")
        }
        let parts = try await provider(server, known).listParts(Upload(key: "k", id: "U"))
        #expect(parts == (1...3).map { UploadedPart(number: $0, size: $0 * 10, tag: "\"p\($0)\"") })

        let unknown = try ScriptedServer { _, _ in .error(404, "NoSuchUpload") }
        let other = try provider(unknown, known)
        let upload = Upload(key: "k", id: "U")
        let calls: [() async throws -> Void] = [
            { _ = try await other.listParts(upload) },
            { _ = try await other.uploadPart(upload, number: 1, from: BytesSource("x")) },
            { _ = try await other.copyPart(upload, number: 1, source: info("k"), extent: Extent(0, 5)) },
            { _ = try await other.completeUpload(upload, parts: [], precondition: .none) },
        ]
        for call in calls {
            let error = await #expect(throws: VFSError.self) { try await call() }
            #expect(error?.code == .uploadNotFound)
        }
        try await other.abortUpload(upload)
    }
}
