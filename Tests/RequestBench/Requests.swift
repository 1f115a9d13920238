import BareRequests
import CloudMountHTTP
import CloudMountVFS
import Glibc

enum Verb: String, CaseIterable { case get = "GET", head = "HEAD", put = "PUT" }

/// Takes the answer where a mount would have it.
final class BufferSink: ByteSink {
    // SAFETY: one request at a time has the sink.
    nonisolated(unsafe) private let buffer = UnsafeMutableRawBufferPointer.allocate(
        byteCount: Requests.size, alignment: 64)
    nonisolated(unsafe) private var filled = 0

    deinit { buffer.deallocate() }

    func begin() { filled = 0 }
    var isFull: Bool { filled == buffer.count }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        guard filled + bytes.count <= buffer.count else { return .stop }
        UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]).copyMemory(from: bytes)
        filled += bytes.count
        return .proceed
    }
}

/// The requests of one verb, made by whoever is measured.
struct Requests: Sendable {
    static let size = 4096
    static let key = ObjectKey("requests/object")

    let verb: Verb
    let port: Int
    let object: ObjectInfo
    let width: Int
    let count: Int

    private var url: String { "http://127.0.0.1:\(port)/benchmark/requests/" }
    private static let content = BytesSource([UInt8](repeating: UInt8(ascii: "x"), count: size))

    private func extent(_ number: Int) -> Extent {
        let mixed = UInt64(number) &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Extent(offset: Int(mixed >> 33) % (object.size / Self.size) * Self.size, count: Self.size)
    }

    /// `width` tasks that run where answers come in.
    private func run(
        on executor: (any TaskExecutor)?, _ request: @escaping @Sendable (Int, BufferSink) async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for row in 0..<width {
                group.addTask(executorPreference: executor) {
                    let sink = BufferSink()
                    for number in stride(from: row, to: count, by: width) { try await request(number, sink) }
                }
            }
            try await group.waitForAll()
        }
    }

    func run(by provider: any ObjectProvider) async throws {
        try await run(on: provider.executor) { number, sink in
            switch verb {
            case .get:
                sink.begin()
                let request = ReadRequest(key: Self.key, extent: extent(number), version: object.etag)
                _ = try await provider.read(request, into: sink)
                if !sink.isFull { throw VFSError(.corrupted, "bytes are missing") }
            case .head: _ = try await provider.head(Self.key)
            case .put:
                let request = PutRequest(key: ObjectKey("requests/p\(number)"))
                _ = try await provider.put(request, from: Self.content)
            }
        }
    }

    /// As long as what the provider sends.
    private var fields: [(name: String, value: String)] {
        let signed = verb == .put ? "content-type;host" : "host"
        let hash = String(repeating: "0", count: 64)
        return (verb == .get ? [("if-match", "\"\(object.etag.value)\"")] : []) + [
            ("x-amz-content-sha256", hash), ("x-amz-date", "20260101T000000Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/s3/aws4_request, "
                    + "SignedHeaders=\(signed);x-amz-content-sha256;x-amz-date, Signature=\(hash)"
            ),
        ]
    }

    /// By the transport alone, with signatures that were made before.
    func runByTransport(on executor: (any TaskExecutor)?) async throws {
        var fixed = HTTPHeaders()
        for (name, value) in fields { fixed.append(name, value) }
        try await run(on: executor) { [fixed, url] number, sink in
            let answer: HTTPResponse
            switch verb {
            case .get:
                sink.begin()
                let extent = extent(number)
                var headers = fixed
                headers.append("range", "bytes=\(extent.lowerBound)-\(extent.upperBound - 1)")
                answer = try await HTTPEngine.shared.perform(
                    HTTPRequest(.get, url + "object", headers: headers),
                    body: .sink(sink, accepts: { $0.status == 206 }))
            case .head:
                answer = try await HTTPEngine.shared.perform(HTTPRequest(.head, url + "object", headers: fixed))
            case .put:
                answer = try await HTTPEngine.shared.perform(
                    HTTPRequest(.put, url + "t\(number)", headers: fixed, body: Self.content))
            }
            if !(200..<300 ~= answer.status) { throw VFSError(.malformedResponse, "status \(answer.status)") }
        }
    }

    /// What a bare loop needs to make them.
    func openBareLoop() -> OpaquePointer? {
        let lines = fields.map { strdup("\($0.name): \($0.value)") }
        defer { for line in lines { free(line) } }
        // The loop keeps the address: it is given to every request.
        let target = strdup(verb == .put ? url + "b" : url + "object")
        let names = lines.map { UnsafePointer($0) }
        return names.withUnsafeBufferPointer { names in
            var requests = bare_requests(
                verb: verb == .get ? BARE_GET : verb == .head ? BARE_HEAD : BARE_PUT, url: target,
                headers: names.baseAddress, header_count: Int32(names.count), size: Self.size,
                object_size: object.size, width: Int32(width))
            return bare_open(&requests)
        }
    }
}
