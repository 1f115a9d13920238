import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

/// Answers the other commands over a Unix socket that the user alone may open. One request a connection.
final class ControlServer: Sendable {
    private let path: String
    private let socket: Descriptor
    private let stopping = EventDescriptor()
    private let connections = Mutex(0)
    private let answer: @Sendable (ControlRequest) async -> ControlAnswer
    private let pool = BlockingPool(name: "cm-control", width: 16)

    /// Listens at once. Blocks for a moment.
    /// - Throws: `busy` when another daemon listens there, `permissionDenied`, `io`.
    init(
        path: String, answer: @escaping @Sendable (ControlRequest) async -> ControlAnswer
    ) throws(VFSError) {
        self.path = path
        self.answer = answer
        socket = try UnixSocket.listen(at: path)
        NamedThread("cm-accept") { [self] in accept() }.detach()
    }

    /// Listens no more, removes the socket, and gives answers that are under way two seconds.
    func close() async {
        unlink(path)
        stopping.signal()
        for _ in 0..<200 where connections.withLock({ $0 }) > 0 { try? await Task.sleep(for: .milliseconds(10)) }
    }

    private func accept() {
        while true {
            var polled = [
                pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0),
                pollfd(fd: stopping.raw, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&polled, 2, -1) >= 0 || errno == EINTR else { return }
            if polled[1].revents != 0 { return }
            guard polled[0].revents != 0 else { continue }
            guard let connection = socket.accept() else {
                // No descriptor is left: who waits is served when there is one.
                usleep(20_000)
                continue
            }
            connections.withLock { $0 += 1 }
            Task {
                await self.serve(connection)
                self.connections.withLock { $0 -= 1 }
            }
        }
    }

    private func serve(_ connection: Descriptor) async {
        let line = await pool.run {
            UnixSocket.setTimeout(connection, seconds: 5)
            return UnixSocket.readLine(connection)
        }
        guard let line else { return }
        let reply: ControlAnswer
        do {
            reply = await answer(try ControlJSON.decode(ControlRequest.self, from: line))
        } catch {
            reply = ControlAnswer(ok: false, error: "not a request")
        }
        guard let text = try? ControlJSON.line(reply) else { return }
        _ = await pool.run { UnixSocket.write(text, to: connection) }
    }
}
