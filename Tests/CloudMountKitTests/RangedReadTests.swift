import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import Synchronization
import TestServers
import Testing

private final class Collected: ByteSink {
    private let held = Mutex<[UInt8]>([])
    var text: String { held.withLock { String(decoding: $0, as: UTF8.self) } }
    func attach(resume: @escaping @Sendable () -> Void) {}
    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        held.withLock { $0.append(contentsOf: bytes) }
        return .proceed
    }
}

@Suite("A read of a range of a version")
struct RangedReadTests {
    private static let wire = VFSError.Wire(operation: "Get", key: "k", endpoint: "e")
    private static let whole = Array("0123456789".utf8)

    /// - Parameters:
    ///   - answer: to the GET.
    ///   - size: of the object as a HEAD tells it; nil: there is none.
    private func read(
        _ extent: Extent?, version: String? = "v", size: Int? = 10, tag: String = "v", into sink: Collected,
        _ answer: ScriptedAnswer
    ) async throws -> Result<ObjectInfo, VFSError> {
        let server = try ScriptedServer { _, _ in answer }
        let read = RangedRead(ReadRequest(key: "k", extent: extent, version: version.map { ETag($0) })) { headers in
            headers["etag"].flatMap { ETag(header: $0) }
        }
        return await attempt { () async throws(VFSError) in
            try await read.run(into: sink) { response in
                var wire = Self.wire
                wire.status = response?.status ?? 0
                return wire
            } send: { target throws(VFSError) in
                var headers = HTTPHeaders()
                if let range = read.range { headers.append("Range", range) }
                let request = HTTPRequest(.get, "http://127.0.0.1:\(server.port)/k", headers: headers)
                let response = try await HTTPEngine.shared.send(request, into: target, wire: Self.wire)
                #expect(server.seen.last?.headers["range"] == read.range)
                return response
            } head: { () throws(VFSError) in
                guard let size else { throw VFSError(.notFound, "none", wire: Self.wire) }
                return ObjectInfo(key: "k", size: size, etag: ETag(tag), stored: Timestamp(seconds: 1))
            } describe: { size, etag, headers in
                ObjectInfo(
                    key: "k", size: size, etag: etag,
                    stored: headers["last-modified"].flatMap(WireDate.http) ?? Timestamp(seconds: 0))
            }
        }
    }

    private static func part(_ range: String, _ body: String, tag: String = "v") -> ScriptedAnswer {
        ScriptedAnswer(
            status: 206,
            headers: [
                ("ETag", "\"\(tag)\""), ("Content-Range", range), ("Last-Modified", "Thu, 01 Jan 1970 00:00:09 GMT"),
            ], body: Array(body.utf8))
    }

    @Test("Of the answer that was asked for the bytes go on, and its headers say what the object is")
    func good() async throws {
        let sink = Collected()
        let info = try await read(Extent(2, 5), into: sink, Self.part("bytes 2-4/10", "234")).get()
        #expect(info == ObjectInfo(key: "k", size: 10, etag: ETag("v"), stored: Timestamp(seconds: 9)))
        #expect(sink.text == "234")
        let all = ScriptedAnswer(headers: [("ETag", "\"w\"")], body: Self.whole)
        #expect(try await read(nil, version: nil, into: sink, all).get().size == 10)
        #expect(sink.text == "2340123456789")
    }

    @Test("A part beyond the end is what there is of it")
    func beyond() async throws {
        let sink = Collected()
        #expect(try await read(Extent(8, 20), into: sink, Self.part("bytes 8-9/10", "89")).get().size == 10)
        #expect(sink.text == "89")
    }

    @Test(
        "Of any other answer nothing goes on",
        arguments: [
            (part("bytes 0-1/10", "01"), .malformedResponse, .backoff),
            (part("bytes 2-4/10", "23"), .malformedResponse, .backoff),
            (part("bytes 2-4/10", "234", tag: "w"), .stale, .never),
            (part("nonsense", "234"), .malformedResponse, .backoff),
            (ScriptedAnswer(headers: [("ETag", "\"v\"")], body: whole), .notSupported, .never),
            (ScriptedAnswer(body: whole), .malformedResponse, .backoff),
            (ScriptedAnswer(status: 204, headers: [("ETag", "\"v\"")]), .malformedResponse, .backoff),
            (ScriptedAnswer(status: 412), .stale, .never), (ScriptedAnswer(status: 404), .stale, .never),
            (ScriptedAnswer(status: 503), .unavailable, .backoff),
        ] as [(ScriptedAnswer, VFSError.Code, VFSError.RetryAdvice)])
    func refused(answer: ScriptedAnswer, code: VFSError.Code, advice: VFSError.RetryAdvice) async throws {
        let sink = Collected()
        let error = try await read(Extent(2, 5), into: sink, answer).failure
        #expect(error?.code == code)
        #expect(error?.retry == advice)
        #expect(error?.wire?.operation == "Get")
        #expect(sink.text.isEmpty)
    }

    @Test("A name that is gone is absent, where no version was asked for")
    func absent() async throws {
        let error = try await read(nil, version: nil, into: Collected(), ScriptedAnswer(status: 404)).failure
        #expect(error?.code == .notFound)
    }

    @Test("Of an extent without bytes the object itself is all that there is to say")
    func nothing() async throws {
        let none = ScriptedAnswer(status: 416)
        let sink = Collected()
        #expect(try await read(Extent(10, 20), into: sink, none).get().size == 10)
        #expect(try await read(Extent(3, 3), into: sink, ScriptedAnswer(status: 500)).get().size == 10)
        #expect(try await read(Extent(10, 20), tag: "w", into: sink, none).failure?.code == .stale)
        #expect(try await read(Extent(10, 20), size: nil, into: sink, none).failure?.code == .stale)
        #expect(try await read(Extent(10, 20), version: nil, size: nil, into: sink, none).failure?.code == .notFound)
        // It has those bytes by now, or the store is wrong.
        #expect(try await read(Extent(10, 20), size: 15, into: sink, none).failure?.code == .malformedResponse)
        #expect(sink.text.isEmpty)
    }
}
