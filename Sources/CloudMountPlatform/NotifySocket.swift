import CLinux
import Glibc

/// Datagrams to the socket that a service manager listens at (sd_notify(3)). They go out in their order on a thread of their own, so
/// whoever sends never waits; an error loses the message and does nothing else.
public final class NotifySocket: Sendable {
    private let descriptor: Descriptor
    private let pool = BlockingPool(name: "cm-service", width: 1, idleSeconds: 1)

    /// - Parameter address: an absolute path, or `@` and a name of the abstract kind, as `NOTIFY_SOCKET` has it.
    /// - Returns: nil when it is no such address or nobody listens there.
    public init?(address: String) {
        var bytes = Array(address.utf8)
        guard bytes.count > 1, let first = bytes.first, first == UInt8(ascii: "/") || first == UInt8(ascii: "@")
        else { return nil }
        if first == UInt8(ascii: "@") { bytes[0] = 0 }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        // A path has a zero at its end; an abstract name has the length that it is given.
        guard bytes.count < MemoryLayout.size(ofValue: name.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        let raw = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { return nil }
        descriptor = Descriptor(owning: raw)
        var patience = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(raw, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        let length = MemoryLayout<sa_family_t>.size + bytes.count + (first == UInt8(ascii: "/") ? 1 : 0)
        let isConnected = withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(raw, $0, socklen_t(length)) == 0 }
        }
        guard isConnected else { return nil }
    }

    /// Queues one message: assignments, a line each. Returns at once.
    public func send(_ text: String) {
        pool.submit { [descriptor] in
            let bytes = Array(text.utf8)
            while Glibc.send(descriptor.raw, bytes, bytes.count, Int32(MSG_NOSIGNAL)) < 0, errno == EINTR {}
        }
    }

    /// Returns when all that was queued is sent. Takes five seconds for each message that nobody takes.
    public func flush() async { await pool.run {} }
}
