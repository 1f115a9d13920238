import CloudMountPlatform
import Glibc
import Synchronization

/// One request as it was on the wire.
public struct SeenRequest: Sendable {
    public var method: String
    /// With the query, escaped.
    public var target: String
    /// Names in lower case.
    public var headers: [String: String]
    public var body: [UInt8]

    public var path: String { String(target.prefix { $0 != "?" }) }
    public var query: String { target.contains("?") ? String(target.drop { $0 != "?" }.dropFirst()) : "" }
    public var text: String { String(decoding: body, as: UTF8.self) }
}

public struct ScriptedAnswer: Sendable {
    public var status = 200
    public var headers: [(String, String)] = []
    public var body: [UInt8] = []
    /// The body is announced longer than it is, and the connection closed after it.
    public var isCut = false

    public init(status: Int = 200, headers: [(String, String)] = [], body: [UInt8] = [], isCut: Bool = false) {
        self.status = status
        self.headers = headers
        self.body = body
        self.isCut = isCut
    }
}

struct NoPort: Error {}

/// A small HTTP server on a port of its own that answers as it is told and remembers what it was asked.
public final class ScriptedServer: Sendable {
    public typealias Handler = @Sendable (SeenRequest, _ index: Int) -> ScriptedAnswer

    public let port: UInt16
    private let listener: Descriptor
    private let handler: Handler
    private let requests = Mutex<[SeenRequest]>([])

    public var seen: [SeenRequest] { requests.withLock { $0 } }

    public init(_ handler: @escaping Handler) throws {
        self.handler = handler
        listener = Descriptor(owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
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
        guard bound else { throw NoPort() }
        port = UInt16(bigEndian: address.sin_port)
        // The thread owns the socket too: its number must not be given away while the thread may still use it.
        NamedThread("scripted") { [weak self, listener] in
            while true {
                // Inherited by a child that another test starts, it would stay open after its end here.
                guard let connection = listener.accept(), let self else { return }
                NamedThread("scripted-one") { self.serve(connection) }?.detach()
            }
        }?.detach()
    }

    deinit { shutdown(listener.raw, Int32(SHUT_RDWR)) }

    private func serve(_ connection: Descriptor) {
        var buffer: [UInt8] = []
        while let request = Self.read(connection.raw, &buffer) {
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
            guard send(connection.raw, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count, !answer.isCut else {
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
