import CloudMountHTTP
import CloudMountVFS

/// The body of an answer that says no.
struct B2ErrorBody: Equatable {
    var code = ""
    var message = ""

    init() {}

    /// Nil when the bytes are no error of B2's.
    init?(_ bytes: [UInt8]) {
        let read = B2JSONReader.read(bytes) { reader throws(B2JSONError) in
            var body = B2ErrorBody()
            try reader.object { reader, name throws(B2JSONError) in
                switch name {
                case "code": body.code = try reader.optionalString() ?? ""
                case "message": body.message = try reader.optionalString() ?? ""
                default: try reader.skip()
                }
            }
            return body
        }
        guard let read, !read.code.isEmpty else { return nil }
        self = read
    }
}

/// From what was on the wire to `VFSError`: the one place that knows B2's error codes.
enum B2Errors {
    struct Verdict: Equatable {
        var code: VFSError.Code
        var retry: VFSError.RetryAdvice
        var message: String?

        init(_ code: VFSError.Code, _ retry: VFSError.RetryAdvice = .never, _ message: String? = nil) {
            self.code = code
            self.retry = retry
            self.message = message
        }
    }

    static func isDeadToken(_ code: String?) -> Bool { code == "bad_auth_token" || code == "expired_auth_token" }

    /// By the store's error code; nil when it is not a known one.
    static func verdict(code: String, message: String = "", retryAfter: Duration? = nil) -> Verdict? {
        switch code {
        case "bad_auth_token", "expired_auth_token": Verdict(.credentialsExpired, .backoff)
        case "unauthorized", "access_denied": Verdict(.permissionDenied)
        case "email_not_verified":
            Verdict(.credentialsInvalid, .never, "the account's e-mail address is not verified")
        case "no_payment_history":
            Verdict(.credentialsInvalid, .never, "the account has no payment history, which this needs")
        case "auth_token_limit":
            Verdict(.unavailable, .immediately, "an upload URL was in use by another upload")

        case "cap_exceeded", "storage_cap_exceeded", "transaction_cap_exceeded", "download_cap_exceeded":
            Verdict(.quotaExceeded, .never, "the account's \(cap(code)) is reached; caps end at midnight UTC")

        case "not_found", "no_such_file", "file_not_present", "already_hidden": Verdict(.notFound)
        case "bad_bucket_id", "invalid_bucket_id", "no_such_bucket": Verdict(.bucketNotFound)
        case "missing_part": Verdict(.invalidArgument)
        case "part_sha1_mismatch":
            Verdict(.corrupted, .never, "a part in the store is not the one that was to be there")
        case "source_too_large", "file_too_large": Verdict(.tooLarge)
        case "range_not_satisfiable", "out_of_range": Verdict(.invalidArgument)
        case "duplicate_bucket_name", "file_lock_conflict", "source_replication_conflict",
            "restricted_bucket_conflict":
            Verdict(.conflict)
        case "conflict": Verdict(.conflict, .backoff)
        case "method_not_allowed", "unsupported": Verdict(.notSupported)

        case "too_many_requests": Verdict(.throttled, .throttle(after: retryAfter))
        case "request_timeout": Verdict(.timedOut, .backoff)
        case "internal_error", "bad_gateway", "gateway_timeout": Verdict(.unavailable, .backoff)
        case "service_unavailable":
            Verdict(.unavailable, retryAfter == nil ? .backoff : .throttle(after: retryAfter))
        case "bad_request":
            // The one fault of ours that is none: bytes that changed on their way.
            isChecksum(message)
                ? Verdict(.corrupted, .backoff, "the store received other bytes than were sent")
                : Verdict(.invalidArgument)
        case "bad_json": Verdict(.invalidArgument)
        default: nil
        }
    }

    private static func cap(_ code: String) -> String {
        switch code {
        case "storage_cap_exceeded": "storage cap"
        case "transaction_cap_exceeded": "daily transaction cap"
        case "download_cap_exceeded": "daily download cap"
        default: "cap"
        }
    }

    /// "Sha1 did not match data received"
    private static func isChecksum(_ message: String) -> Bool {
        let text = message.lowercased()
        return text.contains("sha1") && (text.contains("match") || text.contains("checksum"))
    }

    /// By the HTTP status alone, when the body says nothing that is known.
    static func verdict(status: Int, retryAfter: Duration? = nil) -> Verdict {
        switch status {
        case 300..<400: Verdict(.unavailable, .backoff, "the store redirects elsewhere")
        case 401, 403: Verdict(.permissionDenied)
        case 404: Verdict(.notFound)
        case 405, 501: Verdict(.notSupported)
        case 408: Verdict(.timedOut, .backoff)
        case 409: Verdict(.conflict, .backoff)
        case 413: Verdict(.tooLarge)
        case 429: Verdict(.throttled, .throttle(after: retryAfter))
        case 503: Verdict(.unavailable, retryAfter == nil ? .backoff : .throttle(after: retryAfter))
        case 500..<600: Verdict(.unavailable, .backoff)
        case 400..<500: Verdict(.invalidArgument)
        default: Verdict(.malformedResponse, .backoff)
        }
    }

    /// For an answer that says no.
    static func error(_ response: HTTPResponse, wire: VFSError.Wire) -> VFSError {
        let status = response.status
        let seconds = response.headers["retry-after"].flatMap { Int($0) }
        let retryAfter = seconds.map { Duration.seconds(max(0, min($0, 3600))) }
        let body = B2ErrorBody(response.body)
        var wire = wire
        wire.status = status
        wire.code = body?.code
        wire.requestID = response.headers["x-bz-request-id"] ?? response.headers["x-request-id"]
        var verdict =
            body.flatMap { Self.verdict(code: $0.code, message: $0.message, retryAfter: retryAfter) }
            ?? Self.verdict(status: status, retryAfter: retryAfter)
        if status == 404, body == nil, !response.body.isEmpty {
            // A page of some proxy: not the store's word that there is no such file.
            verdict = Verdict(.malformedResponse, .backoff, "an answer that is not from a store")
        }
        return VFSError(verdict.code, verdict.message ?? sentence(status, body), retry: verdict.retry, wire: wire)
    }

    /// What a failed upload is worth: another URL, at once, for whatever may lie in the one that was used.
    static func upload(_ error: VFSError) -> VFSError {
        var error = error
        switch (error.wire?.status, error.code) {
        case (401, _):
            error = VFSError(
                .unavailable, "the upload URL is not valid any more", retry: .immediately, wire: error.wire)
        case (_, .unavailable), (_, .timedOut), (_, .connectionFailed): error.retry = .immediately
        default: break
        }
        return error
    }

    private static func sentence(_ status: Int, _ body: B2ErrorBody?) -> String {
        guard let text = body?.message, !text.isEmpty else { return "the store answered \(status)" }
        let printable = text.unicodeScalars.prefix(200).filter(\.isPrintable)
        var sentence = String(String.UnicodeScalarView(printable))
        while sentence.last == "." || sentence.last == " " { sentence.removeLast() }
        return "the store says: \(sentence)"
    }
}
