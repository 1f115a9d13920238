import CloudMountVFS
import TestServers
import Testing

@testable import S3Provider

/// Every verb of a store of which nothing optional was asked must send nothing optional.
@Suite("Header audit")
struct HeaderAuditTests {
    private static let always: Set = [
        "host", "accept", "user-agent", "authorization", "x-amz-content-sha256", "x-amz-date",
    ]

    private static func answer(_ request: SeenRequest) -> ScriptedAnswer {
        let etag = ("ETag", "\"e1\"")
        switch (request.method, request.query) {
        case ("GET", let query) where query.contains("list-type"):
            return .xml("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        case ("GET", let query) where query.contains("uploadId"): return .xml("<ListPartsResult/>")
        case ("GET", _):
            return ScriptedAnswer(
                status: 206, headers: [etag, ("Content-Range", "bytes 2-4/10")], body: Array("234".utf8))
        case ("HEAD", _): return ScriptedAnswer(headers: [etag, ("Content-Length", "10")])
        case ("POST", let query) where query.contains("uploads"):
            return .xml(
                "<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>")
        case ("POST", let query) where query.contains("uploadId"):
            return .xml(
                "<CompleteMultipartUploadResult><ETag>\"e1\"</ETag></CompleteMultipartUploadResult>")
        case ("POST", _): return .xml("<DeleteResult/>")
        case ("PUT", let query) where request.headers["x-amz-copy-source"] != nil:
            return .xml(
                query.isEmpty
                    ? "<CopyObjectResult><ETag>e1</ETag></CopyObjectResult>"
                    : "<CopyPartResult><ETag>e1</ETag></CopyPartResult>")
        default: return ScriptedAnswer(headers: [etag])
        }
    }

    /// All verbs once, the names of the headers of each request.
    private func sent(_ options: [String: OptionValue]) async throws -> [SeenRequest] {
        let server = try ScriptedServer { request, _ in Self.answer(request) }
        let provider = try provider(server, known.merging(options) { $1 })
        let upload = Upload(key: "k", id: "U")
        _ = try await provider.list(ListRequest(prefix: "p/", delimited: true))
        _ = try await provider.head("k")
        _ = try await provider.read(
            ReadRequest(key: "k", extent: Extent(2, 5), version: ETag("e1")), into: CollectingSink())
        _ = try await provider.put(PutRequest(key: "k"), from: BytesSource("x"))
        _ = try await provider.put(PutRequest(key: "k", precondition: .absent), from: BytesSource("x"))
        _ = try await provider.put(PutRequest(key: "k", precondition: .match(ETag("e1"))), from: BytesSource("x"))
        _ = try await provider.copy(CopyRequest(source: info("k"), destination: "l"))
        _ = try await provider.delete([DeleteRequest("k")])
        _ = try await provider.delete([DeleteRequest("k"), DeleteRequest("l")])
        _ = try await provider.beginUpload("k", metadata: ObjectMetadata())
        let part = try await provider.uploadPart(upload, number: 1, from: BytesSource("x"))
        _ = try await provider.copyPart(upload, number: 2, source: info("k"), extent: Extent(0, 5))
        _ = try await provider.listParts(upload)
        _ = try await provider.completeUpload(upload, parts: [part], precondition: .none)
        try await provider.abortUpload(upload)
        return server.seen
    }

    @Test("Nothing optional goes out unasked")
    func bare() async throws {
        let allowed: [String: Set<String>] = [
            "GET": ["range", "if-match"], "HEAD": [], "DELETE": [],
            "PUT": [
                "content-length", "if-match", "if-none-match", "x-amz-copy-source", "x-amz-copy-source-if-match",
                "x-amz-copy-source-range",
            ],
            "POST": ["content-length", "content-type", "content-md5"],
        ]
        let seen = try await sent([:])
        #expect(seen.count == 15)
        for request in seen {
            let extra = Set(request.headers.keys).subtracting(Self.always).subtracting(allowed[request.method] ?? [])
            #expect(extra.isEmpty, "\(request.method) \(request.target)")
        }
        // A type that nobody gave must not stick to the object.
        let begin = seen.first { $0.query == "uploads=" }
        #expect(begin?.headers["content-type"] == nil)
        #expect(begin?.headers["content-length"] == "0")
    }

    @Test("Encryption and storage class go with what makes an object, the payer with everything")
    func configured() async throws {
        let seen = try await sent([
            "sse": .string("aws:kms"), "sse_kms_key_id": .string("key-1"), "storage_class": .string("STANDARD_IA"),
            "requester_pays": .boolean(true),
        ])
        for request in seen {
            let makes =
                request.query == "uploads="
                || request.method == "PUT" && !request.query.contains("partNumber")
            #expect(request.headers["x-amz-request-payer"] == "requester")
            #expect(request.headers["x-amz-storage-class"] == (makes ? "STANDARD_IA" : nil))
            #expect(request.headers["x-amz-server-side-encryption"] == (makes ? "aws:kms" : nil))
            #expect(request.headers["x-amz-server-side-encryption-aws-kms-key-id"] == (makes ? "key-1" : nil))
        }
    }

    @Test("A copy keeps the storage class of its source unless told otherwise")
    func storageClass() async throws {
        let server = try ScriptedServer { request, _ in Self.answer(request) }
        let plain = try provider(server, known)
        _ = try await plain.copy(CopyRequest(source: info("k", storageClass: "GLACIER_IR"), destination: "l"))
        let told = try provider(server, known.merging(["storage_class": .string("STANDARD")]) { $1 })
        _ = try await told.copy(CopyRequest(source: info("k", storageClass: "GLACIER_IR"), destination: "l"))
        #expect(server.seen.map { $0.headers["x-amz-storage-class"] } == ["GLACIER_IR", "STANDARD"])
    }

    @Test("No secret is in any header but the token's own")
    func secrets() async throws {
        for request in try await sent([:]) {
            #expect(!request.headers.values.contains { $0.contains("SECRET") })
        }
    }
}
