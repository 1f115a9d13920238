import CloudMountPlatform
import Glibc
import Synchronization

/// A TCP proxy in front of an HTTP/1.1 server that misbehaves on request and counts what passes.
///
/// A fault strikes when a request's head has arrived, or at once where it concerns the connection itself.
public final class FaultProxy: Sendable {
    public enum Fault: Sendable, Equatable {
        case pass
        /// Takes requests and never answers them.
        case blackHole
        /// Resets the connection after so many bytes of the response.
        case resetAfter(Int)
        /// Answers in the server's place, and closes the connection.
        case status(Int, headers: [String] = [], body: String = "")
        /// Answers these bytes in the server's place, `rest` again and again for as long as the client takes them, and closes
        /// the connection.
        case raw(String, rest: String = "")
        /// Lets so many bytes of each response through per second.
        case trickle(bytesPerSecond: Int)
        /// Answers so much later.
        case delay(milliseconds: Int)
        /// Nobody listens: connections are refused, and those that exist are reset.
        case refuse
    }

    public struct Request: Sendable {
        public let method: String
        public let target: String
        /// The head, line by line, without the request line.
        public let headers: [String]
        public var path: String { String(target.prefix { $0 != "?" }) }
    }

    public let port: UInt16
    public var endpoint: String { "http://127.0.0.1:\(port)" }

    struct State {
        var fault = Fault.pass
        /// How many more requests the fault strikes; nil: all.
        var remaining: Int?
        var matches: @Sendable (Request) -> Bool = { _ in true }
        var requests: [Request] = []
        /// Counts every change of the fault, so that a connection held by an old one notices.
        var epoch = 0
        var bytesUp = 0
        var bytesDown = 0
        var connections = 0
        var listener: Descriptor?
        var stopped = false
    }

    let upstream: UInt16
    let state = Mutex(State())

    /// - Throws: `TestSupportError` when there is no free port.
    public init(before server: any TestServer) throws {
        upstream = server.port
        port = try Ports.free()
        try listen()
    }

    deinit { stop() }

    /// From now on: `fault` for the requests that match, `times` of them, and `pass` for the rest.
    public func set(
        _ fault: Fault, times: Int? = nil, where matches: @escaping @Sendable (Request) -> Bool = { _ in true }
    ) throws {
        let wasRefusing = state.withLock { state in
            let before = state.fault
            state.fault = fault
            state.remaining = times
            state.matches = matches
            state.epoch += 1
            if fault == .refuse { closeListener(&state) }
            return before == .refuse
        }
        if wasRefusing && fault != .refuse { try listen() }
    }

    /// The requests seen so far, in the order in which their heads arrived.
    public var requests: [Request] { state.withLock { $0.requests } }
    public var bytesUp: Int { state.withLock { $0.bytesUp } }
    public var bytesDown: Int { state.withLock { $0.bytesDown } }
    public var connections: Int { state.withLock { $0.connections } }

    public func count(_ matches: (Request) -> Bool = { _ in true }) -> Int { requests.count { matches($0) } }

    /// Forgets what was counted.
    public func resetCounts() {
        state.withLock { state in
            state.requests = []
            state.bytesUp = 0
            state.bytesDown = 0
            state.connections = 0
        }
    }

    public func stop() {
        state.withLock { state in
            state.stopped = true
            state.epoch += 1
            closeListener(&state)
        }
    }

    private func closeListener(_ state: inout State) {
        // Wakes its thread, which has the last reference.
        if let listener = state.listener { shutdown(listener.raw, Int32(SHUT_RDWR)) }
        state.listener = nil
    }

    private func listen() throws {
        guard let listener = Ports.listener(port: port) else { throw TestSupportError("port \(port) is taken") }
        state.withLock { $0.listener = listener }
        NamedThread("fault-proxy") { [weak self] in
            while true {
                guard let client = listener.accept(), let proxy = self else { return }
                proxy.state.withLock { $0.connections += 1 }
                let connection = ProxiedConnection(client: client, proxy: proxy)
                NamedThread("fault-relay") { connection.run() }?.detach()
            }
        }?.detach()
    }

    /// Notes a request and says which fault strikes it.
    func admit(_ request: Request) -> Fault {
        state.withLock { state in
            state.requests.append(request)
            guard state.fault != .pass, state.matches(request) else { return .pass }
            if let remaining = state.remaining {
                if remaining == 0 { return .pass }
                state.remaining = remaining - 1
            }
            return state.fault
        }
    }
}
