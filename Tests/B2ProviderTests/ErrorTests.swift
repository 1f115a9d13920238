import CloudMountHTTP
import CloudMountVFS
import TestServers
import Testing

@testable import B2Provider

@Suite("What B2 says no with")
struct ErrorTests {
    private static let wire = VFSError.Wire(operation: "b2_op", endpoint: "host")

    private static func error(
        _ status: Int, _ code: String?, _ message: String = "m", retryAfter: String? = nil
    ) -> VFSError {
        var headers = HTTPHeaders()
        if let retryAfter { headers.append("Retry-After", retryAfter) }
        let body = code.map { "{\"status\": \(status), \"code\": \"\($0)\", \"message\": \"\(message)\"}" } ?? ""
        let response = HTTPResponse(
            head: HTTPResponseHead(status: status, headers: headers), body: Array(body.utf8), sunk: false,
            timings: HTTPTimings())
        return B2Errors.error(response, wire: wire)
    }

    private static let table: [(Int, String?, VFSError.Code, VFSError.RetryAdvice)] = [
        (401, "bad_auth_token", .credentialsExpired, .backoff),
        (401, "expired_auth_token", .credentialsExpired, .backoff),
        (401, nil, .permissionDenied, .never), (401, "unauthorized", .permissionDenied, .never),
        (401, "email_not_verified", .credentialsInvalid, .never),
        (401, "no_payment_history", .credentialsInvalid, .never),
        (400, "auth_token_limit", .unavailable, .immediately), (400, "bad_request", .invalidArgument, .never),
        (400, "bad_json", .invalidArgument, .never), (400, "bad_bucket_id", .bucketNotFound, .never),
        (400, "duplicate_bucket_name", .conflict, .never), (400, "missing_part", .invalidArgument, .never),
        (400, "part_sha1_mismatch", .corrupted, .never), (400, "file_lock_conflict", .conflict, .never),
        (400, "source_replication_conflict", .conflict, .never), (400, "restricted_bucket_conflict", .conflict, .never),
        (400, "already_hidden", .notFound, .never), (400, "no_such_file", .notFound, .never),
        (400, "file_not_present", .notFound, .never), (400, "source_too_large", .tooLarge, .never),
        (400, "cap_exceeded", .quotaExceeded, .never), (403, "cap_exceeded", .quotaExceeded, .never),
        (403, "storage_cap_exceeded", .quotaExceeded, .never),
        (403, "transaction_cap_exceeded", .quotaExceeded, .never),
        (403, "download_cap_exceeded", .quotaExceeded, .never), (403, "access_denied", .permissionDenied, .never),
        (404, "not_found", .notFound, .never), (404, nil, .notFound, .never),
        (405, "method_not_allowed", .notSupported, .never), (408, "request_timeout", .timedOut, .backoff),
        (409, "conflict", .conflict, .backoff), (416, "range_not_satisfiable", .invalidArgument, .never),
        (429, "too_many_requests", .throttled, .throttle(after: nil)), (500, "internal_error", .unavailable, .backoff),
        (502, nil, .unavailable, .backoff), (503, "service_unavailable", .unavailable, .backoff),
        (504, nil, .unavailable, .backoff), (503, nil, .unavailable, .backoff),
        (418, "teapot", .invalidArgument, .never),
        (302, nil, .unavailable, .backoff),
    ]

    @Test("Every code has its meaning and its advice", arguments: table)
    func codes(status: Int, code: String?, meaning: VFSError.Code, advice: VFSError.RetryAdvice) {
        let error = Self.error(status, code)
        #expect(error.code == meaning)
        #expect(error.retry == advice)
        #expect(error.wire?.status == status)
        #expect(error.wire?.code == code)
        #expect(!error.message.isEmpty)
    }

    @Test("A time that the store names is waited for")
    func retryAfter() {
        #expect(Self.error(429, "too_many_requests", retryAfter: "7").retry == .throttle(after: .seconds(7)))
        #expect(Self.error(503, "service_unavailable", retryAfter: "7").retry == .throttle(after: .seconds(7)))
    }

    @Test("Bytes that changed on their way are no fault of the request")
    func checksum() {
        let error = Self.error(400, "bad_request", "Sha1 did not match data received")
        #expect(error.code == .corrupted)
        #expect(error.retry == .backoff)
    }

    @Test("A page of some proxy is not the store's word that there is nothing")
    func proxy() {
        let response = HTTPResponse(
            head: HTTPResponseHead(status: 404, headers: HTTPHeaders()), body: Array("<html>".utf8), sunk: false,
            timings: HTTPTimings())
        #expect(B2Errors.error(response, wire: Self.wire).code == .malformedResponse)
    }

    @Test(
        "A failed upload is worth another URL at once",
        arguments: [
            (401, "bad_auth_token"), (401, "unauthorized"), (408, "request_timeout"), (500, "internal_error"),
            (503, "service_unavailable"), (400, "auth_token_limit"),
        ])
    func uploads(status: Int, code: String) {
        #expect(B2Errors.upload(Self.error(status, code)).retry == .immediately)
    }

    @Test(
        "A cap is told apart, by its own name, and never tried again",
        arguments: [
            "storage_cap_exceeded", "transaction_cap_exceeded",
        ])
    func caps(code: String) async throws {
        let script = try ScriptedB2 { request, home in
            switch request.operation {
            case "b2_get_upload_url":
                .json("{\"uploadUrl\": \"http://\(home)/up\", \"authorizationToken\": \"u\"}")
            case "/up": .error(403, code)
            default: nil
            }
        }
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.put(PutRequest(key: "k"), from: BytesSource("abc")) }
        #expect(error?.code == .quotaExceeded)
        #expect(error?.retry == .never)
        #expect(error?.wire?.code == code)
    }
}
