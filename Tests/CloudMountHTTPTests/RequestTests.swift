import CloudMountHTTP
import CloudMountVFS
import Synchronization
import Testing

/// Answers every request of every connection and keeps them.
final class Recorder: Sendable {
    private let kept = Mutex<[ReceivedRequest]>([])
    var requests: [ReceivedRequest] { kept.withLock { $0 } }

    func serve(_ connection: ScriptedConnection) {
        while let request = connection.request() {
            kept.withLock { $0.append(request) }
            connection.answer()
        }
    }
}

/// Bytes that came to a server.
final class Arrivals: Sendable {
    private let count = Mutex(0)
    var total: Int { count.withLock { $0 } }
    func add(_ more: Int) { count.withLock { $0 += more } }
}

@Suite("Requests")
struct RequestTests {
    @Test("The path goes out as it is")
    func pathAsIs() async throws {
        let recorder = Recorder()
        try await withServer { connection, _ in
            recorder.serve(connection)
        } _: { server in
            for target in ["/a/../b//c%2F", "/./x", "/%41%zz?q=%20+&r", "/..?list-type=2"] {
                _ = try await HTTPEngine.shared.perform(get(server.url + target))
                #expect(recorder.requests.last?.target == target)
            }
        }
    }

    @Test("Headers arrive in order and as given, empty ones too, without any that nobody asked for")
    func headers() async throws {
        let recorder = Recorder()
        try await withServer { connection, _ in
            recorder.serve(connection)
        } _: { server in
            var headers = HTTPHeaders()
            headers.append("x-amz-meta-name", "größer; \"quoted\"")
            headers.append("x-empty", "")
            headers.append("Expect", "100-continue")
            headers.append("Content-Length", "77")
            headers.append("x-amz-meta-name", "again")
            let bodies: [(HTTPMethod, Int?)] = [
                (.get, nil), (.put, nil), (.post, 0), (.put, 10), (.post, 200_000), (.delete, nil), (.get, nil),
                (.put, 200_000), (.put, 5),
            ]
            for (method, count) in bodies {
                let source = count.map { BytesSource(pattern($0)) }
                _ = try await HTTPEngine.shared.perform(
                    HTTPRequest(method, server.url + "/k", headers: headers, body: source))
                let request = try #require(recorder.requests.last)
                #expect(request.method == method.rawValue)
                #expect(same(request.body, pattern(count ?? 0)))
                let names = request.headers.map(\.name).filter { $0 != "content-length" }
                #expect(names == ["host", "accept", "x-amz-meta-name", "x-empty", "x-amz-meta-name"])
                #expect(request.header("x-amz-meta-name") == "größer; \"quoted\"")
                #expect(request.header("x-empty") == "")
                #expect(request.header("host") == "127.0.0.1:\(server.port)")
                let sendsLength = method == .put || method == .post
                #expect(request.header("content-length") == (sendsLength ? String(count ?? 0) : nil))
            }
            #expect(server.connectionCount == 1)
        }
    }

    @Test("Any token is a method, with a body, without one, and between others on one connection")
    func unusualMethods() async throws {
        let recorder = Recorder()
        try await withServer { connection, _ in
            recorder.serve(connection)
        } _: { server in
            let bodies: [(String, Int?)] = [
                ("PROPFIND", 120), ("GET", nil), ("MKCOL", nil), ("HEAD", nil), ("REPORT", 200_000), ("DELETE", nil),
                ("MOVE", nil), ("PUT", 10), ("PATCH", 0), ("PROPFIND", 120), ("PUT", 200_000), ("x!#$%&'*+-.^_`|~9", 3),
            ]
            for (method, count) in bodies {
                var headers = HTTPHeaders()
                headers.append("Depth", "1")
                let response = try await HTTPEngine.shared.perform(
                    HTTPRequest(
                        HTTPMethod(method), server.url + "/k", headers: headers,
                        body: count.map { BytesSource(pattern($0)) }))
                #expect(response.status == 200)
                let request = try #require(recorder.requests.last)
                #expect(request.method == method)
                #expect(request.header("depth") == "1")
                #expect(same(request.body, pattern(count ?? 0)))
                let sendsLength = !["GET", "HEAD", "DELETE"].contains(method)
                #expect(request.header("content-length") == (sendsLength ? String(count ?? 0) : nil))
            }
            #expect(server.connectionCount == 1)
        }
    }

    @Test("What is no token is no method", arguments: ["", "PROP FIND", "GET / HTTP/1.1\r\nx:", "MÖVE", "A\u{0}"])
    func badMethod(method: String) async {
        #expect(await failure(HTTPRequest(HTTPMethod(method), "http://127.0.0.1:1/"))?.kind == .malformed)
    }

    @Test("A content type goes out when it is given")
    func contentType() async throws {
        let recorder = Recorder()
        try await withServer { connection, _ in
            recorder.serve(connection)
        } _: { server in
            for count in [0, 10, 100_000] {
                var headers = HTTPHeaders()
                headers.append("content-type", "text/x")
                _ = try await HTTPEngine.shared.perform(
                    HTTPRequest(.put, server.url, headers: headers, body: BytesSource(pattern(count))))
                #expect(recorder.requests.last?.headers.filter { $0.name == "content-type" }.map(\.value) == ["text/x"])
            }
        }
    }

    @Test("A header that would end its line is refused", arguments: ["a\r\nx-evil: 1", "a\nb", "a\u{0}b", "a\u{7F}"])
    func injection(value: String) async {
        var headers = HTTPHeaders()
        headers.append("x-amz-meta-a", value)
        #expect(await failure(HTTPRequest(.get, "http://127.0.0.1:1/", headers: headers))?.kind == .malformed)
    }

    @Test(
        "What is no web address is refused",
        arguments: ["", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http://[:1"])
    func badURL(url: String) async {
        #expect(await failure(HTTPRequest(.get, url)) != nil)
    }

    @Test("A large upload arrives byte for byte, with its length and without chunks")
    func largeUpload() async throws {
        let bytes = pattern(9_999_999)
        let recorder = Recorder()
        try await withServer { connection, _ in
            recorder.serve(connection)
        } _: { server in
            for method in [HTTPMethod.put, .post] {
                let response = try await HTTPEngine.shared.perform(
                    HTTPRequest(method, server.url + "/big", body: BytesSource(bytes)))
                #expect(response.status == 200)
                let request = try #require(recorder.requests.last)
                #expect(request.header("content-length") == String(bytes.count))
                #expect(request.header("transfer-encoding") == nil)
                #expect(request.header("expect") == nil)
                #expect(same(request.body, bytes))
            }
        }
    }

    @Test("A body above the limit waits for 100 Continue, and a refusal keeps it at home")
    func expectContinue() async throws {
        let arrivals = Arrivals()
        try await withServer { connection, order in
            guard connection.request(body: false)?.header("expect") == "100-continue" else { return }
            if order == 0 {
                connection.send("HTTP/1.1 100 Continue\r\n\r\n")
                connection.send(Array("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".utf8) + connection.read(3_000_000))
            } else {
                connection.answer([], status: "403 Forbidden")
                arrivals.add(connection.waitForEnd())
            }
        } _: { server in
            let bytes = pattern(3_000_000)
            var request = HTTPRequest(.put, server.url, body: BytesSource(bytes))
            request.options.expectContinueAbove = 2 << 20
            try await expect(request) { $0.body == bytes }
            try await expect(request) { $0.status == 403 }
        }
        #expect(arrivals.total == 0)
    }

    @Test("A server that takes no Expect gets the request again without it")
    func expectationFailed() async throws {
        try await withServer { connection, _ in
            while let request = connection.request(body: false) {
                if request.header("expect") != nil {
                    connection.answer(Array("no".utf8), status: "417 Expectation Failed")
                } else {
                    connection.answer(connection.read(3_000_000))
                }
            }
        } _: { server in
            var request = HTTPRequest(.put, server.url, body: BytesSource(pattern(3_000_000)))
            request.options.expectContinueAbove = 2 << 20
            let response = try await HTTPEngine.shared.perform(request)
            #expect(response.status == 200)
            #expect(same(response.body, pattern(3_000_000)))
        }
    }

    @Test(
        "A source that fails or ends early fails the upload, and nothing whole arrives",
        arguments: [(100, 50), (200_000, 0), (5_000_000, 3_000_000)], [true, false])
    func brokenSource(size: (count: Int, good: Int), throwsError: Bool) async {
        let recorder = Recorder()
        await withServer { connection, _ in
            recorder.serve(connection)
        } _: { server in
            let source = BrokenSource(count: size.count, good: size.good, throwsError: throwsError)
            #expect(await failure(HTTPRequest(.put, server.url, body: source))?.kind == .sourceFailed)
            #expect(recorder.requests.isEmpty)
        }
    }

    @Test("An error answered before the upload is whole is the answer")
    func earlyAnswer() async throws {
        try await withServer { connection, _ in
            _ = connection.request(body: false)
            connection.answer(Array("no".utf8), status: "403 Forbidden")
            connection.waitForEnd()
        } _: { server in
            let response = try await HTTPEngine.shared.perform(
                HTTPRequest(.put, server.url, body: BytesSource(pattern(20_000_000))))
            #expect(response.status == 403)
            #expect(same(response.body, Array("no".utf8)))
        }
    }
}
