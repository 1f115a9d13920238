import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

@testable import S3Provider

/// One request as it was on the wire.
struct SeenRequest: Sendable {
    var method: String
    /// With the query, escaped.
    var target: String
    /// Names in lower case.
    var headers: [String: String]
    var body: [UInt8]

    var path: String { String(target.prefix { $0 != "?" }) }
    var query: String { target.contains("?") ? String(target.drop { $0 != "?" }.dropFirst()) : "" }
    var text: String { String(decoding: body, as: UTF8.self) }
}

struct ScriptedAnswer: Sendable {
    var status = 200
    var headers: [(String, String)] = []
    var body: [UInt8] = []
    /// The body is announced longer than it is, and the connection closed after it.
    var isCut = false

    static func xml(_ body: String, status: Int = 200, headers: [(String, String)] = []) -> ScriptedAnswer {
        ScriptedAnswer(status: status, headers: headers, body: Array(body.utf8))
    }

    static func error(_ status: Int, _ code: String, _ more: String = "", headers: [(String, String)] = [])
        -> ScriptedAnswer
    {
        xml(
            "<?xml version=\"1.0\"?><Error><Code>\(code)</Code><Message>Because.</Message>\(more)"
                + "<RequestId>R1</RequestId></Error>", status: status, headers: headers)
    }
}

/// A small HTTP server on a port of its own that answers as it is told and remembers what it was asked.
final class ScriptedServer: Sendable {
    typealias Handler = @Sendable (SeenRequest, _ index: Int) -> ScriptedAnswer

    let port: UInt16
    private let listener: Descriptor
    private let handler: Handler
    private let requests = Mutex<[SeenRequest]>([])

    var seen: [SeenRequest] { requests.withLock { $0 } }

    init(_ handler: @escaping Handler) throws {
        self.handler = handler
        listener = Descriptor(owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let fd = listener.raw
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
                bind(fd, raw, size) == 0 && listen(fd, 64) == 0 && getsockname(fd, raw, &size) == 0
            }
        }
        guard bound else { throw VFSError(.io, "no port") }
        port = UInt16(bigEndian: address.sin_port)
        // The thread owns the socket too: its number must not be given away while the thread may still use it.
        NamedThread("scripted") { [weak self, listener] in
            while true {
                let connection = accept(listener.raw, nil, nil)
                guard connection >= 0 else { return }
                guard let self else {
                    close(connection)
                    return
                }
                NamedThread("scripted-one") { self.serve(connection) }.detach()
            }
        }.detach()
    }

    deinit { shutdown(listener.raw, Int32(SHUT_RDWR)) }

    private func serve(_ connection: Int32) {
        defer { close(connection) }
        var buffer: [UInt8] = []
        while let request = Self.read(connection, &buffer) {
            let index = requests.withLock { requests in
                requests.append(request)
                return requests.count - 1
            }
            let answer = handler(request, index)
            var text = "HTTP/1.1 \(answer.status) X\r\n"
            for (name, value) in answer.headers { text += "\(name): \(value)\r\n" }
            let length = request.method == "HEAD" ? nil : answer.body.count + (answer.isCut ? 10 : 0)
            if let length { text += "Content-Length: \(length)\r\n" }
            text += "\r\n"
            let bytes = Array(text.utf8) + (request.method == "HEAD" ? [] : answer.body)
            guard send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count, !answer.isCut else {
                return
            }
        }
    }

    private static func read(_ connection: Int32, _ buffer: inout [UInt8]) -> SeenRequest? {
        func fill() -> Bool {
            var chunk = [UInt8](repeating: 0, count: 65_536)
            let count = recv(connection, &chunk, chunk.count, 0)
            guard count > 0 else { return false }
            buffer += chunk[..<count]
            return true
        }
        func headEnd() -> Int? {
            guard buffer.count >= 4 else { return nil }
            return (0...buffer.count - 4).first { Array(buffer[$0..<$0 + 4]) == [13, 10, 13, 10] }
        }
        while headEnd() == nil { guard fill() else { return nil } }
        guard let end = headEnd() else { return nil }
        let lines = String(decoding: buffer[..<end], as: UTF8.self).split(separator: "\r\n").map(String.init)
        let words = lines[0].split(separator: " ").map(String.init)
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
        }
        let length = headers["content-length"].flatMap { Int($0) } ?? 0
        buffer.removeFirst(end + 4)
        if headers["expect"] != nil {
            let proceed = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
            _ = send(connection, proceed, proceed.count, Int32(MSG_NOSIGNAL))
        }
        while buffer.count < length { guard fill() else { return nil } }
        let body = Array(buffer[..<length])
        buffer.removeFirst(length)
        return SeenRequest(method: words[0], target: words[1], headers: headers, body: body)
    }
}

/// A clock that stands still until it is set.
final class TestClock: Sendable {
    private let time: Mutex<Timestamp>

    init(_ seconds: Int = 1_795_426_200) { time = Mutex(Timestamp(seconds: seconds)) }

    var now: @Sendable () -> Timestamp { { self.time.withLock { $0 } } }

    func advance(_ seconds: Int) { time.withLock { $0.seconds += seconds } }
}

/// Collects what it receives.
final class CollectingSink: ByteSink {
    private let collected = Mutex<[UInt8]>([])

    var text: String { String(decoding: collected.withLock { $0 }, as: UTF8.self) }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        collected.withLock { $0.append(contentsOf: bytes) }
        return .proceed
    }
}

/// A provider of a scripted server, with keys of its own and a clock that stands still.
func provider(
    _ server: ScriptedServer, _ options: [String: OptionValue] = [:], profile: String? = nil, bucket: String = "bucket",
    prefix: String = "", copyLimit: Int = 5 << 30, copyPartSize: Int = 512 << 20,
    source: (any S3CredentialSource)? = nil, clock: TestClock = TestClock()
) throws -> S3Provider {
    var values = OptionValues(options)
    values["endpoint"] = .string("http://127.0.0.1:\(server.port)")
    if let profile { values["endpoint_profile"] = .string(profile) }
    let context = ProviderContext(mountName: "test", bucket: bucket, prefix: prefix, options: values)
    let source =
        source ?? StaticCredentials(credentials: S3Credentials(accessKeyID: "AKID", secretAccessKey: "SECRET"))
    let client = try S3Client(
        S3Options(context), credentials: S3CredentialStore(source, now: clock.now), now: clock.now)
    return S3Provider(client, copyLimit: copyLimit, copyPartSize: copyPartSize)
}

/// A profile in which everything is known and nothing is probed, with the bucket in the path.
let known = ["endpoint_profile": OptionValue.string("aws"), "path_style": .boolean(true)]

func info(_ key: ObjectKey, size: Int = 10, etag: String = "e1", storageClass: String? = nil) -> ObjectInfo {
    ObjectInfo(
        key: key, size: size, etag: ETag(etag), stored: Timestamp(seconds: 0), storageClass: storageClass)
}
