import CloudMountHTTP
import CloudMountVFS
import Synchronization
import Testing

@Suite("Sinks")
struct SinkTests {
    private static let length = 3_000_000

    /// Serves `pattern(length)` to every request.
    private static func serve(_ connection: ScriptedConnection) {
        while connection.request() != nil { if !connection.answer(pattern(length)) { return } }
    }

    @Test("A body goes to the sink that accepts the head")
    func accepted() async throws {
        try await withServer { connection, _ in
            Self.serve(connection)
        } _: { server in
            let sink = RecordingSink()
            let response = try await HTTPEngine.shared.perform(
                get(server.url), body: .sink(sink) { $0.status == 200 && $0.headers["content-length"] == "3000000" })
            #expect(response.sunk)
            #expect(response.body.isEmpty)
            #expect(same(sink.bytes, pattern(Self.length)))
            #expect(sink.attached == 1)
        }
    }

    @Test("A body that is not accepted goes to memory, and the sink sees nothing")
    func refused() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.answer(Array("<Error/>".utf8), status: "503 Slow Down")
        } _: { server in
            let sink = RecordingSink()
            let response = try await HTTPEngine.shared.perform(get(server.url), body: .sink(sink) { $0.status == 206 })
            #expect(!response.sunk)
            #expect(same(response.body, Array("<Error/>".utf8)))
            #expect(sink.attached == 0 && sink.calls == 0)
        }
    }

    @Test("An empty body that is accepted counts as sunk")
    func empty() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.answer()
        } _: { server in
            let sink = RecordingSink()
            try await expect(get(server.url), body: .sink(sink) { _ in true }) { $0.sunk }
            #expect(sink.calls == 0)
        }
    }

    @Test("A sink that pauses gets the same bytes again after its resume, nothing twice and nothing lost")
    func pauses() async throws {
        try await withServer { connection, _ in
            Self.serve(connection)
        } _: { server in
            // Holds every third offer once, and resumes from another thread.
            let slot = SinkSlot()
            let sink = RecordingSink { call, _ in
                guard call % 3 == 1 else { return .proceed }
                Task { slot.sink?.resume() }
                return .pause
            }
            slot.sink = sink
            let response = try await HTTPEngine.shared.perform(get(server.url), body: .sink(sink) { _ in true })
            #expect(response.sunk)
            #expect(same(sink.bytes, pattern(Self.length)))
            #expect(sink.attached == 1)
            slot.sink = nil
            // Of no effect any more.
            sink.resume()
        }
    }

    @Test("A paused transfer is not stalled, and its pause holds nobody else up")
    func pausedIsNotStalled() async throws {
        try await withServer { connection, _ in
            Self.serve(connection)
        } _: { server in
            let sink = RecordingSink { call, _ in call == 2 ? .pause : .proceed }
            async let response = HTTPEngine.shared.perform(
                get(server.url, patience: .seconds(4)), body: .sink(sink) { _ in true })
            try await until { sink.calls >= 3 }
            try await expect(get(server.url)) { $0.body.count == Self.length }
            try await Task.sleep(for: .milliseconds(5500))
            #expect(sink.calls == 3)
            sink.resume()
            _ = try await response
            #expect(same(sink.bytes, pattern(Self.length)))
        }
    }

    @Test("A sink that stops ends the request as cancelled and is not called again", arguments: [0, 5])
    func stops(after calls: Int) async {
        await withServer { connection, _ in
            Self.serve(connection)
        } _: { server in
            let sink = RecordingSink { call, _ in call == calls ? .stop : .proceed }
            #expect(await failure(get(server.url), body: .sink(sink) { _ in true })?.kind == .cancelled)
            #expect(sink.calls == calls + 1)
        }
    }

    @Test("A sink that stops when it is offered the held bytes again ends the request too")
    func stopsAfterPause() async throws {
        await withServer { connection, _ in
            Self.serve(connection)
        } _: { server in
            let slot = SinkSlot()
            let sink = RecordingSink { call, _ in
                guard call == 1 else { return call == 2 ? .stop : .proceed }
                Task { slot.sink?.resume() }
                return .pause
            }
            slot.sink = sink
            #expect(await failure(get(server.url), body: .sink(sink) { _ in true })?.kind == .cancelled)
            #expect(sink.calls == 3)
            slot.sink = nil
        }
    }
}

/// A sink that its own closure needs.
final class SinkSlot: Sendable {
    private let kept = Mutex<RecordingSink?>(nil)
    var sink: RecordingSink? {
        get { kept.withLock { $0 } }
        set { kept.withLock { $0 = newValue } }
    }
}

@Suite("Cancellation")
struct CancellationTests {
    @Test("A cancelled task's request does not start")
    func beforeStart() async {
        await withServer { connection, _ in
            _ = connection.request()
        } _: { server in
            let url = server.url
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return await failure(get(url))
            }
            #expect(await task.value?.kind == .cancelled)
        }
    }

    @Test("Cancelling ends a request that waits for its answer, and closes the connection")
    func waiting() async throws {
        let arrivals = Arrivals()
        try await withServer { connection, _ in
            _ = connection.request()
            arrivals.add(1)
            connection.waitForEnd()
            arrivals.add(1)
        } _: { server in
            let url = server.url
            let task = Task { await failure(get(url)) }
            try await until { arrivals.total >= 1 }
            task.cancel()
            #expect(await task.value?.kind == .cancelled)
            try await until { arrivals.total >= 2 }
        }
    }

    @Test("Cancelling mid-body ends the request, and the sink is not called after it")
    func midBody() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while connection.send([UInt8](repeating: 1, count: 10_000)) {}
        } _: { server in
            let sink = RecordingSink()
            let url = server.url
            let task = Task { await failure(get(url), body: .sink(sink) { _ in true }) }
            try await until { sink.calls >= 3 }
            task.cancel()
            #expect(await task.value?.kind == .cancelled)
            let calls = sink.calls
            try await Task.sleep(for: .milliseconds(50))
            #expect(sink.calls == calls)
        }
    }

    @Test("Cancelling while paused ends the request")
    func paused() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.answer(pattern(1_000_000))
            connection.waitForEnd()
        } _: { server in
            let sink = RecordingSink { _, _ in .pause }
            let url = server.url
            let task = Task { await failure(get(url), body: .sink(sink) { _ in true }) }
            try await until { sink.calls >= 1 }
            task.cancel()
            #expect(await task.value?.kind == .cancelled)
        }
    }

    @Test("Cancelling at any moment ends in an answer or in cancelled, 400 times at random")
    func storm() async {
        var seed = UInt64.random(in: 0...UInt64.max)
        print("seed \(seed)")
        await withServer { connection, _ in
            while connection.request() != nil { if !connection.answer(pattern(30_000)) { return } }
        } _: { server in
            let url = server.url
            for _ in 0..<10 {
                await withTaskGroup(of: Bool.self) { group in
                    for _ in 0..<40 {
                        seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                        let delay = seed >> 52
                        group.addTask {
                            let task = Task { await failure(get(url)) }
                            try? await Task.sleep(for: .microseconds(delay))
                            task.cancel()
                            let error = await task.value
                            return error == nil || error?.kind == .cancelled
                        }
                    }
                    for await ended in group { #expect(ended) }
                }
            }
        }
    }
}
