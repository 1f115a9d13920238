import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import TestServers
import Testing

@Suite("What a status means")
struct VerdictTests {
    @Test(
        "Every status has its meaning and its advice",
        arguments: [
            (302, .invalidArgument, .never), (400, .invalidArgument, .never), (401, .permissionDenied, .never),
            (403, .permissionDenied, .never), (404, .notFound, .never), (405, .notSupported, .never),
            (408, .timedOut, .backoff), (409, .conflict, .backoff), (412, .preconditionFailed, .never),
            (413, .tooLarge, .never), (414, .nameTooLong, .never), (416, .invalidArgument, .never),
            (423, .conflict, .backoff), (429, .throttled, .throttle(after: nil)), (500, .unavailable, .backoff),
            (501, .notSupported, .never), (502, .unavailable, .backoff), (503, .unavailable, .backoff),
            (507, .quotaExceeded, .never), (100, .malformedResponse, .backoff), (600, .malformedResponse, .backoff),
        ] as [(Int, VFSError.Code, VFSError.RetryAdvice)])
    func table(status: Int, code: VFSError.Code, advice: VFSError.RetryAdvice) {
        let verdict = HTTPVerdict(status: status)
        #expect(verdict.code == code)
        #expect(verdict.retry == advice)
    }

    @Test(
        "Retry-After, by seconds and by date",
        arguments: [
            ("3", 3), ("0", 0), ("-5", 0), ("999999999", 3600), ("Wed, 21 Oct 2015 07:28:30 GMT", 30),
            ("Wed, 21 Oct 2015 07:27:00 GMT", 0), ("Thu, 22 Oct 2015 07:28:00 GMT", 3600), ("soon", nil), ("", nil),
        ] as [(String, Int?)])
    func retryAfter(text: String, seconds: Int?) {
        var headers = HTTPHeaders()
        headers.append("Retry-After", text)
        headers.append("Date", "Wed, 21 Oct 2015 07:28:00 GMT")
        #expect(headers.retryAfter == seconds.map { .seconds($0) })
        #expect(HTTPHeaders().retryAfter == nil)
    }

    @Test("A store that names a time is asked again after it")
    func throttle() {
        #expect(HTTPVerdict(status: 429, retryAfter: .seconds(3)).retry == .throttle(after: .seconds(3)))
        #expect(HTTPVerdict(status: 503, retryAfter: .seconds(3)).retry == .throttle(after: .seconds(3)))
    }

    @Test("What the store says is shown without what would control a terminal, and not for ever")
    func sentence() {
        let wire = VFSError.Wire(operation: "X", endpoint: "h", status: 404)
        let verdict = HTTPVerdict(status: 404)
        #expect(verdict.error(saying: nil, wire: wire).message == "the store answered 404")
        #expect(verdict.error(saying: "Gone\u{1B}[2J. ", wire: wire).message == "the store says: Gone[2J")
        #expect(verdict.error(saying: String(repeating: "x", count: 9000), wire: wire).message.utf8.count < 250)
        #expect(HTTPVerdict.notOfStore.error(saying: "x", wire: wire).message == "an answer that is not from a store")
    }

    @Test("What is sent comes back as an answer of the 200s, or as the error that the other one means")
    func send() async throws {
        let server = try ScriptedServer { request, _ in
            let status = Int(request.path.dropFirst()) ?? 200
            return ScriptedAnswer(status: status, headers: [("Retry-After", "7")], body: Array("b".utf8))
        }
        let url = "http://127.0.0.1:\(server.port)"
        let wire = VFSError.Wire(operation: "Try", key: "k", endpoint: "e")
        let answer = try await HTTPEngine.shared.send(HTTPRequest(.get, url + "/204"), wire: wire)
        #expect(answer.status == 204)
        let busy = await attempt { () async throws(VFSError) in
            try await HTTPEngine.shared.send(HTTPRequest(.get, url + "/503"), wire: wire)
        }
        var told = wire
        told.status = 503
        #expect(busy.failure?.wire == told)
        #expect(busy.failure?.retry == .throttle(after: .seconds(7)))
        let own = await attempt { () async throws(VFSError) in
            try await HTTPEngine.shared.send(HTTPRequest(.get, url + "/409"), wire: wire) { response, wire in
                VFSError(.busy, "\(response.status)", wire: wire)
            }
        }
        #expect(own.failure == VFSError(.busy, "409", wire: wire))
        let nobody = await attempt { () async throws(VFSError) in
            try await HTTPEngine.shared.answer(HTTPRequest(.get, "http://127.0.0.1:1/"), wire: wire)
        }
        #expect(nobody.failure?.code == .connectionFailed)
        #expect(nobody.failure?.wire == wire)
        _ = try await HTTPEngine.shared.answer(HTTPRequest(.get, url + "/503"), wire: wire)
    }

    @Test(
        "Tags without their quotes, and with them",
        arguments: [
            ("\"abc\"", "abc"), ("W/\"abc\"", "abc"), ("abc", "abc"), ("\"\"", nil), ("", nil), ("\"", "\""),
            ("W/", "W/"),
        ] as [(String, String?)])
    func tags(header: String, value: String?) {
        #expect(ETag(header: header)?.value == value)
        if let value { #expect(ETag(value).quoted == "\"\(value)\"") }
    }
}

extension Result {
    var failure: Failure? { if case .failure(let error) = self { error } else { nil } }
}
