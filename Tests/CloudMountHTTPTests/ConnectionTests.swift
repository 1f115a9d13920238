import CloudMountHTTP
import CloudMountVFS
import Glibc
import Synchronization
import Testing

@Suite("Connections")
struct ConnectionTests {
    @Test("One connection serves request after request")
    func reuse() async throws {
        try await withServer { connection, _ in
            while let request = connection.request() { connection.answer(Array(request.target.utf8)) }
        } _: { server in
            for turn in 0..<20 {
                let response = try await HTTPEngine.shared.perform(get(server.url + "/\(turn)"))
                #expect(same(response.body, Array("/\(turn)".utf8)))
                #expect(response.timings.reusedConnection == (turn > 0))
            }
            #expect(server.connectionCount == 1)
        }
    }

    @Test("64 requests at once each get their own answer, on no more connections than that")
    func concurrent() async throws {
        try await withServer { connection, _ in
            while let request = connection.request() {
                connection.answer(Array((request.target + " ").utf8) + request.body)
            }
        } _: { server in
            let url = server.url
            for _ in 0..<3 {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for index in 0..<64 {
                        group.addTask {
                            let body = pattern(index * 3000, seed: UInt64(index + 1))
                            let response = try await HTTPEngine.shared.perform(
                                HTTPRequest(.put, url + "/\(index)", body: BytesSource(body)))
                            #expect(same(response.body, Array("/\(index) ".utf8) + body))
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(server.connectionCount <= 64)
        }
    }

    /// The first connection answers one request and dies on the next, after it has arrived: it looked alive. Again while
    /// the next request comes by another connection, as on a machine so busy that the first has become too old.
    private func withDyingConnection(
        byReset: Bool, _ body: (ScriptedServer, Recorder) async throws -> [(isRight: Bool, what: String)]
    ) async throws {
        for _ in 0..<20 {
            let hasDied = Mutex(false)
            let recorder = Recorder()
            let found = try await withServer { connection, order in
                if order > 0 { return recorder.serve(connection) }
                _ = connection.request()
                connection.answer()
                guard connection.request() != nil else { return }
                hasDied.withLock { $0 = true }
                if byReset { connection.reset() }
            } _: { server in
                #expect(await failure(get(server.url + "/first")) == nil)
                return try await body(server, recorder)
            }
            guard hasDied.withLock({ $0 }) else { continue }
            for (isRight, what) in found { #expect(isRight, "\(what)") }
            return
        }
        Issue.record("the connection was never used again")
    }

    @Test(
        "A kept-alive connection that dies before the answer to a safe request is replaced, unnoticed but for the count",
        arguments: [HTTPMethod.get, .head, HTTPMethod("PROPFIND")], [true, false])
    func deadConnection(method: HTTPMethod, byReset: Bool) async throws {
        try await withDyingConnection(byReset: byReset) { server, recorder in
            let response = try await HTTPEngine.shared.perform(HTTPRequest(method, server.url + "/second"))
            return [
                (response.status == 200, "answered"), (response.timings.attempts == 2, "sent twice"),
                (recorder.requests.last?.target == "/second", "received"), (server.connectionCount == 2, "replaced"),
            ]
        }
    }

    @Test(
        "What may have changed something is never sent again by the transport: the error says that at once will do",
        arguments: [
            (HTTPMethod.delete, nil), (.put, nil), (.put, 10), (.put, 400_000), (.post, nil), (.post, 10),
            (.post, 400_000), (HTTPMethod("MOVE"), nil), (HTTPMethod("PATCH"), 10),
        ] as [(HTTPMethod, Int?)], [true, false])
    func deadConnectionOfAWrite(request: (method: HTTPMethod, count: Int?), byReset: Bool) async throws {
        try await withDyingConnection(byReset: byReset) { server, recorder in
            let body = request.count.map { BytesSource(pattern($0)) }
            let write = HTTPRequest(request.method, server.url + "/second", body: body)
            let error = await failure(write)
            let advice = error.map { VFSError($0, wire: VFSError.Wire(operation: "o", endpoint: "e")).retry }
            let sentAgain = recorder.requests.count
            // The next one is on a fresh connection.
            let next = try await HTTPEngine.shared.perform(write)
            return [
                (error?.kind == .dropped, "dropped"), (advice == .immediately, "at once will do"),
                (sentAgain == 0, "not sent a second time"), (next.status == 200, "answered afterwards"),
                (same(recorder.requests.last?.body ?? [], body?.bytes ?? []), "the whole body"),
            ]
        }
    }

    @Test("A connection that the server closed while idle is not used")
    func closedWhileIdle() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.answer()
        } _: { server in
            for turn in 0..<5 {
                let response = try await HTTPEngine.shared.perform(get(server.url))
                #expect(response.status == 200)
                #expect(!response.timings.reusedConnection)
                #expect(server.connectionCount == turn + 1)
            }
        }
    }

    @Test("A fresh connection that dies before an answer is an error, after one attempt")
    func deadAtOnce() async {
        await withServer { connection, _ in
            _ = connection.request()
        } _: { server in
            #expect(await failure(get(server.url))?.kind == .reset)
            #expect(server.connectionCount == 1)
        }
    }

    @Test("A reset in the middle of a body is an error, and the sink keeps what came")
    func resetMidBody() async {
        await withServer { connection, _ in
            _ = connection.request()
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            connection.send(pattern(100_000))
            connection.pause(milliseconds: 100)
            connection.reset()
        } _: { server in
            let sink = RecordingSink()
            let error = await failure(get(server.url), body: .sink(sink) { _ in true })
            #expect(error?.kind == .reset)
            #expect(same(sink.bytes, Array(pattern(1_000_000).prefix(sink.bytes.count))))
        }
    }

    @Test(
        "A body shorter than announced is truncated, whole chunks without the last one as well",
        arguments: [true, false])
    func truncated(isChunked: Bool) async {
        await withServer { connection, _ in
            _ = connection.request()
            if isChunked {
                connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            } else {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            }
        } _: { server in
            #expect(await failure(get(server.url))?.kind == .truncated)
        }
    }

    /// One test: what it sets in the environment is for all requests but those to loopback, and no other test has such.
    @Test("A refused connection and an unknown host are told apart; what is to be seen by no proxy is sent to none")
    func unreachable() async throws {
        let stopped = ScriptedServer { _, _ in }
        stopped.stop()
        #expect(await failure(get(stopped.url))?.kind == .connect)
        #expect(await failure(get("http://no-such-host.invalid/"))?.kind == .resolve)

        // Nobody listens on port 1.
        setenv("http_proxy", "http://127.0.0.1:1", 1)
        defer { unsetenv("http_proxy") }
        try await withServer { connection, _ in
            while connection.request() != nil { connection.answer(Array("here".utf8)) }
        } _: { server in
            // This machine too, by a name that does not say so.
            var request = get(server.url.replacing("127.0.0.1", with: "0.0.0.0"))
            #expect(request.url.contains("0.0.0.0"))
            #expect(await failure(request)?.kind == .connect)
            request.options.isDirect = true
            let response = try await HTTPEngine.shared.perform(request)
            #expect(same(response.body, Array("here".utf8)))
            request.options.isDirect = false
            #expect(await failure(request)?.kind == .connect)
        }
    }

    @Test("A server that never answers ends as stalled")
    func neverAnswers() async {
        await withServer { connection, _ in
            _ = connection.request()
            connection.waitForEnd()
        } _: { server in
            #expect(await failure(get(server.url, patience: .milliseconds(400)))?.kind == .stalled)
        }
    }

    @Test("A body that stops coming ends as stalled, an upload that is not taken too")
    func standsStill() async {
        await withServer { connection, order in
            _ = connection.request(body: false)
            if order == 0 { connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") }
            while !connection.isEnded { connection.pause(milliseconds: 20) }
        } _: { server in
            #expect(await failure(get(server.url, patience: .milliseconds(400)))?.kind == .stalled)
            var upload = HTTPRequest(.put, server.url, body: BytesSource(pattern(60_000_000)))
            upload.options.stallTimeout = .milliseconds(400)
            #expect(await failure(upload)?.kind == .stalled)
        }
    }

    @Test("A body that keeps coming below the wanted speed ends as stalled, above it comes whole")
    func trickle() async throws {
        try await withServer { connection, order in
            _ = connection.request()
            // The second body has no end of its own, so that a busy machine does not see it whole before it looks.
            let count = order == 0 ? 20 : 1_000_000
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(count)\r\n\r\n")
            for _ in 0..<count {
                connection.pause(milliseconds: 50)
                if !connection.send("x") { return }
            }
        } _: { server in
            var request = get(server.url)
            try await expect(request) { $0.body.count == 20 }
            request.options.stallTimeout = .milliseconds(300)
            request.options.stallBytesPerSecond = 10_000
            #expect(await failure(request)?.kind == .stalled)
        }
    }

    @Test("White space in place of an answer ends as stalled after a while; bytes for a sink go on")
    func whiteSpace() async throws {
        try await withServer { connection, order in
            _ = connection.request()
            let count = order == 0 ? 1_000_000 : 80
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(count)\r\n\r\n")
            for _ in 0..<count {
                if !connection.send(" ") { return }
                connection.pause(milliseconds: 20)
            }
        } _: { server in
            var request = get(server.url)
            request.options.stallBytesPerSecond = 0
            request.options.answerTimeout = .milliseconds(500)
            #expect(await failure(request)?.kind == .stalled)
            let sink = RecordingSink()
            try await expect(request, body: .sink(sink) { _ in true }) { $0.sunk }
            #expect(sink.bytes.count == 80)
        }
    }

    @Test("The counters tell of requests, connections and bytes")
    func counters() async throws {
        try await withServer { connection, _ in
            while connection.request() != nil { connection.answer(pattern(1000)) }
        } _: { server in
            let before = HTTPEngine.shared.counters
            for _ in 0..<3 {
                _ = try await HTTPEngine.shared.perform(
                    HTTPRequest(.put, server.url, body: BytesSource(pattern(500))))
            }
            let after = HTTPEngine.shared.counters
            #expect(after.requests >= before.requests + 3)
            #expect(after.connectionsOpened >= before.connectionsOpened + 1)
            #expect(after.connectionsReused >= before.connectionsReused + 2)
            #expect(after.bytesReceived >= before.bytesReceived + 3000)
            #expect(after.bytesSent >= before.bytesSent + 1500)
        }
    }
}
