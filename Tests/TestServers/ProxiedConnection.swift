import CloudMountPlatform
import Glibc
import Synchronization

/// One client's connection through a `FaultProxy`, relayed by one thread of its own.
final class ProxiedConnection: Sendable {
    private let client: Descriptor
    /// Held weakly, so that a proxy nobody uses any more goes, and its connections with it.
    private let proxy: WeakProxy

    init(client: Descriptor, proxy: FaultProxy) {
        self.client = client
        self.proxy = WeakProxy(proxy)
    }

    func run() {
        let client = client.raw
        var relay = Relay(client: client)
        guard let upstream = proxy.value?.upstream, let server = Ports.connection(port: upstream) else {
            relay.finish(abruptly: true)
            return
        }
        relay.server = server
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while let proxy = proxy.value, !proxy.state.withLock({ $0.stopped || $0.fault == .refuse }) {
            var descriptors = [
                pollfd(fd: client, events: Int16(POLLIN), revents: 0),
                pollfd(fd: relay.isHeld ? -1 : server, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&descriptors, 2, 20) >= 0 || errno == EINTR else { break }
            if descriptors[0].revents != 0 {
                let count = buffer.withUnsafeMutableBytes { read(client, $0.baseAddress, $0.count) }
                guard count > 0 else { break }
                proxy.state.withLock { $0.bytesUp += count }
                guard relay.fromClient(buffer[..<count], proxy) else { break }
            }
            // Held since just now: what came meanwhile stays.
            if descriptors[1].revents != 0 && !relay.isHeld {
                let room = relay.readSize(buffer.count)
                let count = buffer.withUnsafeMutableBytes { read(server, $0.baseAddress, room) }
                guard count > 0 else { break }
                proxy.state.withLock { $0.bytesDown += count }
                guard relay.fromServer(buffer[..<count]) else { break }
            }
            if relay.isHeld && relay.epoch != proxy.state.withLock({ $0.epoch }) { break }
        }
        relay.finish(abruptly: proxy.value?.state.withLock { $0.fault == .refuse } ?? false)
    }
}

private final class WeakProxy: Sendable {
    private let slot: Mutex<Slot>
    private struct Slot { weak var proxy: FaultProxy? }

    init(_ proxy: FaultProxy) { slot = Mutex(Slot(proxy: proxy)) }
    var value: FaultProxy? { slot.withLock { $0.proxy } }
}

/// The state of one connection: where in the client's stream of requests it is, and which fault holds.
private struct Relay {
    let client: Int32
    var server: Int32 = -1
    private var head: [UInt8] = []
    private var bodyLeft = 0
    private var fault = FaultProxy.Fault.pass
    private var responseBytes = 0
    private(set) var epoch = 0

    init(client: Int32) { self.client = client }

    /// Nothing goes to the client while this is so.
    var isHeld: Bool { fault == .blackHole }

    func readSize(_ most: Int) -> Int {
        switch fault {
        case .trickle(let rate): max(1, min(most, rate / 20))
        case .resetAfter(let limit): max(1, min(most, limit - responseBytes))
        default: most
        }
    }

    /// False: the connection is over.
    mutating func fromClient(_ bytes: ArraySlice<UInt8>, _ proxy: FaultProxy) -> Bool {
        var rest = bytes
        while !rest.isEmpty {
            if bodyLeft > 0 {
                let body = rest.prefix(bodyLeft)
                rest = rest.dropFirst(body.count)
                bodyLeft -= body.count
                guard isHeld || send(body, to: server) else { return false }
                continue
            }
            guard let byte = rest.popFirst() else { break }
            head.append(byte)
            guard head.count >= 4, head.suffix(4).elementsEqual([13, 10, 13, 10]) else { continue }
            guard begin(proxy) else { return false }
        }
        return true
    }

    /// A request's head is complete.
    private mutating func begin(_ proxy: FaultProxy) -> Bool {
        var lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n").map(String.init)
        guard !lines.isEmpty else { return false }
        let words = lines.removeFirst().split(separator: " ").map(String.init)
        guard words.count >= 2 else { return false }
        let request = FaultProxy.Request(method: words[0], target: words[1], headers: lines)
        for line in lines where line.lowercased().hasPrefix("content-length:") {
            bodyLeft = Int(line.dropFirst(15).trimming()) ?? 0
        }
        fault = proxy.admit(request)
        epoch = proxy.state.withLock { $0.epoch }
        responseBytes = 0
        let bytes = head[...]
        head = []
        switch fault {
        case .blackHole:
            return true
        case .status(let code, let headers, let body):
            let extra = headers.map { $0 + "\r\n" }.joined()
            let text =
                "HTTP/1.1 \(code) Fault\r\nContent-Type: application/xml\r\nConnection: close\r\n"
                + "Content-Length: \(body.utf8.count)\r\n\(extra)\r\n" + (request.method == "HEAD" ? "" : body)
            _ = send(Array(text.utf8)[...], to: client)
            shutdown(client, Int32(SHUT_WR))
            drain()
            return false
        case .raw(let text, let rest):
            var goesOn = send(Array(text.utf8)[...], to: client)
            let rest = Array(rest.utf8)
            while goesOn, !rest.isEmpty, proxy.state.withLock({ $0.epoch }) == epoch {
                goesOn = send(rest[...], to: client)
            }
            shutdown(client, Int32(SHUT_WR))
            drain()
            return false
        case .delay(let milliseconds):
            usleep(UInt32(milliseconds) * 1_000)
        case .resetAfter(let limit) where limit == 0:
            reset()
            return false
        default:
            break
        }
        return send(bytes, to: server)
    }

    /// Reads what the client still sends of its body, so that it gets to see the answer.
    private func drain() {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var descriptor = pollfd(fd: client, events: Int16(POLLIN), revents: 0)
        while poll(&descriptor, 1, 1_000) > 0 {
            if buffer.withUnsafeMutableBytes({ read(client, $0.baseAddress, $0.count) }) <= 0 { return }
        }
    }

    mutating func fromServer(_ bytes: ArraySlice<UInt8>) -> Bool {
        responseBytes += bytes.count
        guard send(bytes, to: client) else { return false }
        switch fault {
        case .trickle(let rate): usleep(UInt32(max(50_000, 1_000_000 / max(1, rate))))
        case .resetAfter(let limit) where responseBytes >= limit:
            // What was sent must reach the client before the reset overtakes it.
            usleep(20_000)
            reset()
            return false
        default: break
        }
        return true
    }

    private func send(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) -> Bool {
        var rest = bytes
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    /// Makes the close that follows a reset.
    func reset() {
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(client, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
    }

    func finish(abruptly: Bool) {
        if abruptly { reset() }
        if server >= 0 { close(server) }
    }
}

extension Substring {
    fileprivate func trimming() -> Substring {
        var text = self
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return text
    }
}
