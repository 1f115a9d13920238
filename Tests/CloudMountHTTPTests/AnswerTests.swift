import CloudMountVFS
import Testing

@testable import CloudMountHTTP

@Suite("Answers")
struct AnswerTests {
    @Test("An answer comes back with its status, headers and body")
    func wholeAnswer() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.send(
                "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nETag:  \"a\"  \r\nx-empty:\r\nX-Amz-Meta-A: 1\r\n\r\nhello"
            )
        } _: { server in
            let response = try await HTTPEngine.shared.perform(get(server.url + "/a"))
            #expect(response.status == 404)
            #expect(same(response.body, Array("hello".utf8)))
            #expect(!response.sunk)
            #expect(response.headers["etag"] == "\"a\"")
            #expect(response.headers["X-EMPTY"] == "")
            #expect(response.headers["x-amz-meta-a"] == "1")
            #expect(response.headers["absent"] == nil)
            #expect(response.headers.fields.map(\.name) == ["Content-Length", "ETag", "x-empty", "X-Amz-Meta-A"])
            #expect(response.timings.attempts == 1)
            #expect(response.timings.total >= response.timings.firstByte)
        }
    }

    @Test(
        "A length that is no number, or that is told twice and differently, makes the answer malformed",
        arguments: ["-1", "99999999999999999999", "1x", "", "3\r\nContent-Length: 5"])
    func oddLength(length: String) async {
        await withServer { connection, _ in
            _ = connection.request()
            connection.send(
                "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: \(length)\r\nConnection: close\r\n\r\nabc")
        } _: { server in
            let error = await failure(get(server.url))
            #expect(error?.kind == .malformed, "\(String(describing: error))")
        }
    }

    @Test("HEAD has the length in its headers and no body")
    func head() async throws {
        try await withServer { connection, _ in
            while connection.request() != nil {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
            }
        } _: { server in
            for _ in 0..<2 {
                let response = try await HTTPEngine.shared.perform(HTTPRequest(.head, server.url + "/a"))
                #expect(response.headers["Content-Length"] == "99999999999")
                #expect(response.body.isEmpty)
            }
            #expect(server.connectionCount == 1)
        }
    }

    @Test("What has no body takes no room for one, whatever length it names")
    func roomWithoutBody() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n")
        } _: { server in
            let response = try await HTTPEngine.shared.perform(HTTPRequest(.head, server.url + "/a"))
            #expect(response.body.capacity < 1 << 20)
        }
    }

    @Test("204 and 304 have no body, and the connection serves the next request")
    func noContent() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.send("HTTP/1.1 204 No Content\r\n\r\n")
            _ = connection.request()
            connection.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n")
            _ = connection.request()
            connection.answer(Array("x".utf8))
        } _: { server in
            try await expect(HTTPRequest(.delete, server.url + "/a")) { $0.status == 204 }
            try await expect(get(server.url + "/a")) { $0.status == 304 }
            try await expect(get(server.url + "/a")) { $0.body == [0x78] }
            #expect(server.connectionCount == 1)
        }
    }

    @Test("Interim answers are passed over")
    func interim() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx-early: 1\r\n\r\n")
            connection.answer(Array("done".utf8), headers: "x-late: 1\r\n")
        } _: { server in
            let response = try await HTTPEngine.shared.perform(get(server.url))
            #expect(response.status == 200)
            #expect(response.headers["x-early"] == nil)
            #expect(response.headers["x-late"] == "1")
            #expect(same(response.body, Array("done".utf8)))
        }
    }

    @Test("A chunked answer and one that ends with its connection are whole, trailers are not headers")
    func lengthless() async throws {
        try await withServer { connection, order in
            _ = connection.request()
            if order == 0 {
                connection.send(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                        + "3\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n")
            } else {
                connection.send("HTTP/1.0 200 OK\r\n\r\nabcde")
            }
        } _: { server in
            for _ in 0..<2 {
                let response = try await HTTPEngine.shared.perform(get(server.url))
                #expect(same(response.body, Array("abcde".utf8)))
                #expect(response.headers["x-trailer"] == nil)
            }
        }
    }

    @Test("A body larger than allowed is refused, announced or not, and what fits exactly is not")
    func maxBodyBytes() async throws {
        try await withServer { connection, order in
            _ = connection.request()
            switch order {
            case 0: connection.answer(pattern(1001))
            case 1: connection.send(Array("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".utf8) + pattern(1001))
            default: connection.answer(pattern(1000))
            }
        } _: { server in
            var request = get(server.url)
            request.options.maxBodyBytes = 1000
            #expect(await failure(request)?.kind == .tooLarge)
            #expect(await failure(request)?.kind == .tooLarge)
            try await expect(request) { $0.body == pattern(1000) }
        }
    }

    @Test("A refusal is read up to 64 KiB and keeps its status, announced or not, and if it never ends")
    func longRefusal() async throws {
        try await withServer { connection, order in
            _ = connection.request()
            switch order {
            case 0: connection.answer(pattern(200_000), status: "503 Slow Down")
            case 1:
                connection.send("HTTP/1.1 503 Slow Down\r\nConnection: close\r\n\r\n")
                while connection.send(pattern(10_000)) {}
            default: connection.answer(pattern(65536), status: "503 Slow Down")
            }
        } _: { server in
            for _ in 0..<3 {
                try await expect(get(server.url)) {
                    $0.status == 503 && $0.body.count == 65536 && $0.body.prefix(10_000).elementsEqual(pattern(10_000))
                }
            }
        }
    }

    @Test("Long answers share a budget: one without room ends, by no fault of the endpoint")
    func budget() async throws {
        let body = pattern(3 << 20)
        try await withServer { connection, _ in
            while connection.request() != nil { if !connection.answer(body) { return } }
        } _: { server in
            let budget = AnswerBudget(limit: 8 << 20)
            let engine = HTTPEngine(answers: budget)
            let request = get(server.url)
            var first: HTTPResponse? = try await engine.perform(request)
            #expect(first.map { same($0.body, body) } ?? false)
            #expect(2 << 20...8 << 20 ~= budget.used)
            let other = AnswerRoom(budget)
            #expect(other.cover((8 << 20) - budget.used + AnswerBudget.free))
            let error = await #expect(throws: HTTPError.self) { _ = try await engine.perform(request) }
            #expect(error?.kind == .noRoom)
            let meaning = error.map { VFSError($0, wire: VFSError.Wire(operation: "o", endpoint: "e")) }
            #expect(meaning?.code == .io && meaning?.retry == .backoff && meaning?.wire == nil)
            // What a sink takes is not kept.
            let sink = RecordingSink()
            let response = try await engine.perform(request, body: .sink(sink) { _ in true })
            #expect(response.sunk && same(sink.bytes, body))
            withExtendedLifetime(first) {}
            first = nil
            let again = try await engine.perform(request)
            #expect(same(again.body, body))
            withExtendedLifetime(other) {}
        }
    }

    @Test("What is not HTTP is malformed")
    func notHTTP() async {
        await withServer { connection, _ in
            _ = connection.request()
            connection.send("SSH-2.0-OpenSSH_9.2\r\n")
        } _: { server in
            #expect(await failure(get(server.url))?.kind == .malformed)
        }
    }

    @Test("Headers without an end are refused")
    func endlessHeaders() async {
        await withServer { connection, _ in
            _ = connection.request()
            connection.send("HTTP/1.1 200 OK\r\n")
            let line = "x-noise: \(String(repeating: "n", count: 2000))\r\n"
            while connection.send(line) {}
        } _: { server in
            #expect(await failure(get(server.url)) != nil)
        }
    }

    @Test("Redirects are answers like any other")
    func redirect() async throws {
        try await withServer { connection, _ in
            _ = connection.request()
            connection.answer(status: "307 Temporary Redirect", headers: "Location: http://127.0.0.1:1/\r\n")
        } _: { server in
            let response = try await HTTPEngine.shared.perform(get(server.url))
            #expect(response.status == 307)
            #expect(response.headers["location"] == "http://127.0.0.1:1/")
        }
    }
}
