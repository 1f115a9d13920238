import CloudMountHTTP
import CloudMountVFS
import TestServers
import Testing

@testable import S3Provider

@Suite("Reads")
struct ReadTests {
    private func read(
        _ extent: Extent?, version: String? = nil, _ answers: [ScriptedAnswer]
    ) async throws -> (ObjectInfo, String, [SeenRequest]) {
        let server = try ScriptedServer { _, index in answers[min(index, answers.count - 1)] }
        let sink = CollectingSink()
        let request = ReadRequest(key: "k", extent: extent, version: version.map { ETag($0) })
        let info = try await provider(server, known).read(request, into: sink)
        return (info, sink.text, server.seen)
    }

    private func ok(_ status: Int, _ body: String, _ headers: [(String, String)] = []) -> ScriptedAnswer {
        ScriptedAnswer(status: status, headers: [("ETag", "\"e1\"")] + headers, body: Array(body.utf8))
    }

    @Test("A range is asked for by Range and pinned by If-Match; the answer describes the object")
    func range() async throws {
        let (info, text, seen) = try await read(
            Extent(2, 5), version: "e1",
            [
                ok(
                    206, "234",
                    [
                        ("Content-Range", "bytes 2-4/10"), ("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
                        ("x-amz-meta-mtime", "5.5"), ("x-amz-storage-class", "STANDARD_IA"),
                    ])
            ])
        #expect(text == "234")
        #expect(info.size == 10 && info.etag == ETag("e1") && info.storageClass == "STANDARD_IA")
        #expect(info.stored == Timestamp(seconds: 1_445_412_480))
        #expect(info.metadata?.modified == Timestamp(seconds: 5, nanoseconds: 500_000_000))
        #expect(seen.first?.headers["range"] == "bytes=2-4")
        #expect(seen.first?.headers["if-match"] == "\"e1\"")
    }

    @Test(
        "Another version is stale and delivers nothing",
        arguments: [
            ScriptedAnswer.error(412, "PreconditionFailed"), .error(404, "NoSuchKey"),
            ScriptedAnswer(
                status: 206, headers: [("ETag", "\"e2\""), ("Content-Range", "bytes 0-2/9")], body: [1, 2, 3]),
        ])
    func stale(answer: ScriptedAnswer) async throws {
        let server = try ScriptedServer { _, _ in answer }
        let sink = CollectingSink()
        let error = await #expect(throws: VFSError.self) {
            try await provider(server, known).read(
                ReadRequest(key: "k", extent: Extent(0, 3), version: ETag("e1")), into: sink)
        }
        #expect(error?.code == .stale)
        #expect(error?.retry == .never)
        #expect(sink.text.isEmpty)
    }

    @Test("A whole object instead of a range is refused, also when it is huge")
    func ignoresRange() async throws {
        for count in [10, 3 << 20] {
            let sink = CollectingSink()
            let server = try ScriptedServer { _, _ in
                ScriptedAnswer(headers: [("ETag", "\"e1\"")], body: [UInt8](repeating: 1, count: count))
            }
            let error = await #expect(throws: VFSError.self) {
                try await provider(server, known).read(ReadRequest(key: "k", extent: Extent(2, 5)), into: sink)
            }
            #expect(error?.code == .notSupported)
            #expect(sink.text.isEmpty)
        }
    }

    @Test("A body shorter than announced is corrupted and worth another try")
    func short() async throws {
        let server = try ScriptedServer { _, _ in
            ScriptedAnswer(headers: [("ETag", "\"e1\"")], body: [1, 2, 3], isCut: true)
        }
        let error = await #expect(throws: VFSError.self) {
            try await provider(server, known).read(ReadRequest(key: "k"), into: CollectingSink())
        }
        #expect(error?.code == .corrupted)
        #expect(error?.retry == .backoff)
    }

    @Test("An extent that holds no byte delivers none and tells of the object")
    func nothing() async throws {
        let refused = ScriptedAnswer.error(416, "InvalidRange", headers: [("Content-Range", "bytes */10")])
        let there = ScriptedAnswer(headers: [("ETag", "\"e1\""), ("Content-Length", "10")])
        let (past, text, seen) = try await read(Extent(10, 20), [refused, there])
        #expect(past.size == 10 && text.isEmpty)
        #expect(seen.map(\.method) == ["GET", "HEAD"])
        let (empty, _, asked) = try await read(Extent(4, 4), version: "e1", [there])
        #expect(empty.size == 10)
        #expect(asked.map(\.method) == ["HEAD"])
        await #expect(throws: VFSError.self) { try await read(Extent(4, 4), version: "e0", [there]) }
        // A range that the object has must not come back as nothing.
        let error = await #expect(throws: VFSError.self) { try await read(Extent(5, 20), [refused, there]) }
        #expect(error?.code == .malformedResponse)
    }

    @Test("Archived objects say so; an empty key never leaves the house")
    func refused() async throws {
        let archived = await #expect(throws: VFSError.self) { try await read(nil, [.error(403, "InvalidObjectState")]) }
        #expect(archived?.code == .archived)
        let server = try ScriptedServer { _, _ in ScriptedAnswer() }
        let provider = try provider(server, known)
        let calls: [() async throws -> Void] = [
            { _ = try await provider.head("") },
            { _ = try await provider.put(PutRequest(key: ""), from: BytesSource("x")) },
            { _ = try await provider.delete([DeleteRequest("")]) },
            { _ = try await provider.delete([DeleteRequest("a"), DeleteRequest("")]) },
            { _ = try await provider.copy(CopyRequest(source: info(""), destination: "a")) },
            { _ = try await provider.copy(CopyRequest(source: info("a"), destination: "")) },
            { _ = try await provider.beginUpload("", metadata: ObjectMetadata()) },
        ]
        for call in calls {
            let error = await #expect(throws: VFSError.self) { try await call() }
            #expect(error?.code == .invalidName)
        }
        #expect(server.seen.isEmpty)
    }
}
