import CloudMountPlatform
import Glibc
import Synchronization

/// A server that does to each connection what a test says, on threads of its own.
final class ScriptedServer: Sendable {
    private struct State {
        var connections: [ScriptedConnection] = []
        var threads: [NamedThread?] = []
        var isStopped = false
    }

    let port: Int
    private let listener: Descriptor
    private let acceptor: NamedThread?
    private let state: Shared

    private final class Shared: Sendable {
        let value = Mutex(State())
    }

    /// - Parameter script: given each connection and how many came before it; the connection closes when it returns.
    init(_ script: @escaping @Sendable (ScriptedConnection, Int) -> Void) {
        let listener = Descriptor(owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue) | 0o2000000, 0))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                precondition(bind(listener.raw, address, length) == 0 && listen(listener.raw, 128) == 0)
                getsockname(listener.raw, address, &length)
            }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
        self.listener = listener
        let state = Shared()
        self.state = state
        acceptor = NamedThread("test-accept") {
            var count = 0
            while true {
                guard let accepted = listener.accept() else { return }
                let connection = ScriptedConnection(accepted)
                let order = count
                count += 1
                state.value.withLock { state in
                    if state.isStopped { return }
                    state.connections.append(connection)
                    state.threads.append(
                        NamedThread("test-serve") {
                            script(connection, order)
                            connection.close()
                        })
                }
            }
        }
    }

    var url: String { "http://127.0.0.1:\(port)" }

    /// Connections accepted so far.
    var connectionCount: Int { state.value.withLock { $0.connections.count } }

    /// Ends every connection and waits for the threads.
    func stop() {
        shutdown(listener.raw, Int32(SHUT_RDWR))
        acceptor?.join()
        let (connections, threads) = state.value.withLock { state in
            state.isStopped = true
            return (state.connections, state.threads)
        }
        for connection in connections { connection.close() }
        for thread in threads { thread?.join() }
    }
}

struct ReceivedRequest: Sendable {
    var method = ""
    var target = ""
    var headers: [(name: String, value: String)] = []
    var body: [UInt8] = []

    func header(_ name: String) -> String? { headers.first { $0.name == name.lowercased() }?.value }
}

/// One accepted connection, used by the thread of its script.
final class ScriptedConnection: Sendable {
    private let descriptor: Descriptor
    private let buffer = Mutex<[UInt8]>([])

    init(_ descriptor: Descriptor) { self.descriptor = descriptor }

    /// The next request, its body by Content-Length included; nil when the client has gone.
    /// - Parameter body: false leaves the body unread.
    func request(body: Bool = true) -> ReceivedRequest? {
        var bytes = buffer.withLock { $0 }
        var end: Int?
        while end == nil {
            end = Self.endOfHead(bytes)
            if end == nil, !receive(into: &bytes) { return nil }
        }
        guard let end else { return nil }
        var request = ReceivedRequest()
        let lines = String(decoding: bytes[..<(end - 4)], as: UTF8.self).split(separator: "\r\n")
        let words = lines[0].split(separator: " ")
        request.method = String(words[0])
        request.target = String(words[1])
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            request.headers.append((line[..<colon].lowercased(), String(value)))
        }
        bytes.removeFirst(end)
        if body, let count = request.header("content-length").flatMap({ Int($0) }) {
            bytes.reserveCapacity(count)
            while bytes.count < count { if !receive(into: &bytes) { return nil } }
            request.body = Array(bytes[..<count])
            bytes.removeFirst(count)
        }
        buffer.withLock { $0 = bytes }
        return request
    }

    private static func endOfHead(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        for index in 3..<bytes.count
        where bytes[index] == 10 && bytes[index - 1] == 13 && bytes[index - 2] == 10 && bytes[index - 3] == 13 {
            return index + 1
        }
        return nil
    }

    private func receive(into bytes: inout [UInt8]) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 16) { room in
            let count = recv(descriptor.raw, room.baseAddress, room.count, 0)
            guard count > 0 else { return false }
            bytes.append(contentsOf: room[..<count])
            return true
        }
    }

    @discardableResult
    func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.send(
                    descriptor.raw, bytes.baseAddress.map { $0 + done }, bytes.count - done,
                    Int32(MSG_NOSIGNAL))
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
    }

    /// A whole answer with its Content-Length.
    @discardableResult
    func answer(_ body: [UInt8] = [], status: String = "200 OK", headers: String = "") -> Bool {
        send(Array("HTTP/1.1 \(status)\r\nContent-Length: \(body.count)\r\n\(headers)\r\n".utf8) + body)
    }

    /// The next bytes, fewer when the client goes.
    func read(_ count: Int) -> [UInt8] {
        var bytes = buffer.withLock { $0 }
        while bytes.count < count, receive(into: &bytes) {}
        let taken = Array(bytes.prefix(count))
        buffer.withLock { $0 = Array(bytes.dropFirst(count)) }
        return taken
    }

    /// Waits until the client closes.
    /// - Returns: the bytes that came until then.
    @discardableResult
    func waitForEnd() -> Int {
        var rest = buffer.withLock { $0 }
        var count = rest.count
        rest.removeAll()
        while receive(into: &rest) {
            count += rest.count
            rest.removeAll()
        }
        return count
    }

    /// Whether the client has closed, or the test is over.
    var isEnded: Bool {
        var event = pollfd(fd: descriptor.raw, events: Int16(0x2000), revents: 0)
        return poll(&event, 1, 0) > 0
    }

    func close() { shutdown(descriptor.raw, Int32(SHUT_RDWR)) }

    /// Ends the connection with a reset instead of a close.
    func reset() {
        var none = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor.raw, SOL_SOCKET, SO_LINGER, &none, socklen_t(MemoryLayout<linger>.size))
        // Connecting to nowhere undoes the connection while the descriptor stays ours to close.
        var nowhere = sockaddr()
        nowhere.sa_family = sa_family_t(AF_UNSPEC)
        connect(descriptor.raw, &nowhere, socklen_t(MemoryLayout<sockaddr>.size))
    }

    func pause(milliseconds: Int) { usleep(UInt32(milliseconds) * 1000) }
}
