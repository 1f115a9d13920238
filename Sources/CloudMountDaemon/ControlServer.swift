import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

/// Answers the other commands over a Unix socket that the user alone may open. One request a connection.
///
/// One thread waits for all connections at once, so that a client that says nothing, or does not read its answer, keeps
/// nobody waiting; it is dropped after some seconds, or when the places are wanted by others.
final class ControlServer: Sendable {
    /// Answers a request, after telling how far it is as often as it likes. Cancelled when the client has gone, where nobody else wants its end.
    typealias Answer =
        @Sendable (ControlRequest, _ tell: @escaping @Sendable (ControlAnswer) -> Void) async -> ControlAnswer

    private let path: String
    private let socket: Descriptor
    private let wakeup: EventDescriptor
    private let answer: Answer
    private let patience: Duration

    private struct State {
        var isStopping = false
        /// Connections that have asked and are not told yet.
        var unanswered = 0
        /// Of these, who waits for something that takes its time.
        var waiting = 0
        var answers: [(connection: Connection, line: [UInt8], isLast: Bool)] = []
    }
    private let state = Mutex(State())

    /// Of connections that have not asked yet. More than the queue of the socket would hold.
    private static let places = 64
    /// Who waits for something that takes its time, at a time.
    static let mostWaiting = 64
    static let maxRequest = 1 << 20

    /// Listens at once. Blocks for a moment.
    /// - Parameter patience: how long a client may take to ask, and to read.
    /// - Throws: `busy` when another daemon listens there, `permissionDenied`, `io`.
    init(
        path: String, patience: Duration = .seconds(5), answer: @escaping Answer
    ) throws(VFSError) {
        self.path = path
        self.patience = patience
        self.answer = answer
        guard let wakeup = EventDescriptor() else { throw Self.noRoom }
        self.wakeup = wakeup
        socket = try UnixSocket.listen(at: path)
        guard NamedThread.start("cm-control", { [self] in serve() }) else {
            unlink(path)
            throw Self.noRoom
        }
    }

    private static let noRoom = VFSError(.io, "the system refuses the thread or the descriptors for the control socket")

    /// Listens no more, removes the socket, and gives answers that are under way two seconds.
    func close() async {
        unlink(path)
        for _ in 0..<200 where state.withLock({ $0.unanswered }) > 0 { try? await Task.sleep(for: .milliseconds(10)) }
        state.withLock { $0.isStopping = true }
        wakeup.signal()
    }

    /// Somebody who asks. Used by the serving thread alone, but for its identity.
    private final class Connection: Sendable {
        let descriptor: Descriptor
        /// Of what ends with the client.
        let task = Mutex<Task<Void, Never>?>(nil)
        init(_ descriptor: Descriptor) { self.descriptor = descriptor }
    }

    private struct Client {
        enum Phase {
            case asking([UInt8])
            case waiting
            case reading(rest: ArraySlice<UInt8>, isLast: Bool)
        }
        let connection: Connection
        var phase = Phase.asking([])
        var deadline: ContinuousClock.Instant

        /// Bytes of the answer that it has not read.
        var left: Int { if case .reading(let rest, _) = phase { rest.count } else { 0 } }
        var isAsking: Bool { if case .asking = phase { true } else { false } }
        var events: Int16 {
            switch phase {
            case .asking: Int16(POLLIN)
            case .waiting: 0
            case .reading: Int16(POLLOUT)
            }
        }
    }

    private func serve() {
        var clients: [Client] = []
        while true {
            var polled = [
                pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wakeup.raw, events: Int16(POLLIN), revents: 0),
            ]
            polled += clients.map { pollfd(fd: $0.connection.descriptor.raw, events: $0.events, revents: 0) }
            guard poll(&polled, nfds_t(polled.count), clients.isEmpty ? -1 : 100) >= 0 || errno == EINTR else { return }
            if polled[1].revents != 0 { wakeup.clear() }
            let (isStopping, answers) = state.withLock { state in
                defer { state.answers = [] }
                return (state.isStopping, state.answers)
            }
            if isStopping { return }
            for (connection, text, isLast) in answers {
                guard let index = clients.firstIndex(where: { $0.connection === connection }) else { continue }
                var rest: ArraySlice<UInt8> = []
                if case .reading(let unread, _) = clients[index].phase { rest = unread }
                // Who does not read how far it is hears the answer alone.
                if !isLast, !rest.isEmpty { continue }
                clients[index].phase = .reading(rest: rest + text, isLast: isLast)
                clients[index].deadline = .now + patience
            }
            // Downwards, since some leave the list. Those that have just come were not polled.
            for index in clients.indices.reversed() {
                guard goesOn(&clients[index], polled[index + 2].revents) else {
                    leave(clients.remove(at: index))
                    continue
                }
            }
            if polled[0].revents != 0 { accept(&clients) }
        }
    }

    private func accept(_ clients: inout [Client]) {
        guard let descriptor = socket.accept() else {
            // No descriptor is left: who waits is served when there is one.
            usleep(20_000)
            return
        }
        let asking = clients.indices.filter { clients[$0].isAsking }
        // Who has been silent longest makes way.
        if asking.count >= Self.places, let oldest = asking.first { clients.remove(at: oldest) }
        clients.append(Client(connection: Connection(descriptor), deadline: .now + patience))
    }

    private func leave(_ client: Client) {
        if client.isAsking { return }
        state.withLock { $0.unanswered -= 1 }
        client.connection.task.withLock { $0 }?.cancel()
    }

    /// Does what can be done for a client without waiting.
    /// - Returns: false when it is to be dropped.
    private func goesOn(_ client: inout Client, _ events: Int16) -> Bool {
        let descriptor = client.connection.descriptor.raw
        switch client.phase {
        case .asking(var line):
            if events == 0 { return .now < client.deadline }
            var chunk = [UInt8](repeating: 0, count: 4096)
            let count = recv(descriptor, &chunk, chunk.count, Int32(MSG_DONTWAIT))
            if count < 0 { return errno == EAGAIN || errno == EINTR }
            if count == 0 { return false }
            let seen = line.count
            line += chunk[..<count]
            if let end = line[seen...].firstIndex(of: UInt8(ascii: "\n")) {
                client.phase = .waiting
                take(client.connection, Array(line[..<end]))
                return true
            }
            client.phase = .asking(line)
            return line.count <= Self.maxRequest
        // One that has gone would be told of again at once, for as long as its answer takes.
        case .waiting: return events & Int16(POLLHUP | POLLERR) == 0
        case .reading(var rest, let isLast):
            while let count = send(rest, to: descriptor) {
                rest = rest.dropFirst(count)
                if rest.isEmpty {
                    client.phase = .waiting
                    return !isLast
                }
            }
            guard errno == EAGAIN else { return false }
            if rest.count < client.left { client.deadline = .now + patience }
            client.phase = .reading(rest: rest, isLast: isLast)
            return .now < client.deadline
        }
    }

    /// - Returns: how many bytes were taken; nil and errno when none can be just now, or ever.
    private func send(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) -> Int? {
        let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
        let count = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, flags) }
        return count > 0 ? count : nil
    }

    private func take(_ connection: Connection, _ line: [UInt8]) {
        state.withLock { $0.unanswered += 1 }
        guard let request = try? ControlJSON.decode(ControlRequest.self, from: line) else {
            return tell(connection, ControlAnswer(ok: false, error: "not a request"), isLast: true)
        }
        let takesTime = request.command.endsWithItsClient
        if takesTime {
            let hasRoom = state.withLock { state in
                state.waiting += 1
                return state.waiting <= Self.mostWaiting
            }
            guard hasRoom else {
                state.withLock { $0.waiting -= 1 }
                let error = "\(Self.mostWaiting) others wait for the same already"
                return tell(connection, ControlAnswer(ok: false, error: error), isLast: true)
            }
        }
        let task = Task {
            let reply = await self.answer(request) { progress in
                var progress = progress
                progress.isProgress = true
                self.tell(connection, progress, isLast: false)
            }
            if takesTime { self.state.withLock { $0.waiting -= 1 } }
            self.tell(connection, reply, isLast: true)
        }
        if takesTime { connection.task.withLock { $0 = task } }
    }

    private func tell(_ connection: Connection, _ answer: ControlAnswer, isLast: Bool) {
        var line = (try? ControlJSON.line(answer)) ?? []
        if line.count > UnixSocket.maxLine {
            let refusal = ControlAnswer(ok: false, error: "the answer is too long: it has \(line.count) bytes")
            line = (try? ControlJSON.line(refusal)) ?? []
        }
        state.withLock { $0.answers.append((connection, line, isLast)) }
        wakeup.signal()
    }
}
