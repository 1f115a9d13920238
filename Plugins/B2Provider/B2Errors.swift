import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// The body of an answer that says no.
struct B2ErrorBody: Equatable {
    var code = ""
    var message = ""

    init() {}

    /// Nil when the bytes are no error of B2's.
    init?(_ bytes: [UInt8]) {
        let read = JSONReader.read(bytes) { reader throws(JSONError) in
            var body = B2ErrorBody()
            try reader.object { reader, name throws(JSONError) in
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
    static func isDeadToken(_ code: String?) -> Bool { code == "bad_auth_token" || code == "expired_auth_token" }

    /// By the store's error code; nil when it is not a known one.
    static func verdict(code: String, message: String = "", retryAfter: Duration? = nil) -> HTTPVerdict? {
        switch code {
        case "bad_auth_token", "expired_auth_token": HTTPVerdict(.credentialsExpired, .backoff)
        case "unauthorized", "access_denied": HTTPVerdict(.permissionDenied)
        case "email_not_verified":
            HTTPVerdict(.credentialsInvalid, .never, "the account's e-mail address is not verified")
        case "no_payment_history":
            HTTPVerdict(.credentialsInvalid, .never, "the account has no payment history, which this needs")
        case "auth_token_limit":
            HTTPVerdict(.unavailable, .immediately, "an upload URL was in use by another upload")

        case "cap_exceeded", "storage_cap_exceeded", "transaction_cap_exceeded", "download_cap_exceeded":
            HTTPVerdict(.quotaExceeded, .never, "the account's \(cap(code)) is reached; caps end at midnight UTC")

        case "not_found", "no_such_file", "file_not_present", "already_hidden": HTTPVerdict(.notFound)
        case "bad_bucket_id", "invalid_bucket_id", "no_such_bucket": HTTPVerdict(.bucketNotFound)
        case "missing_part": HTTPVerdict(.invalidArgument)
        case "part_sha1_mismatch":
            HTTPVerdict(.corrupted, .never, "a part in the store is not the one that was to be there")
        case "source_too_large", "file_too_large": HTTPVerdict(.tooLarge)
        case "range_not_satisfiable", "out_of_range": HTTPVerdict(.invalidArgument)
        case "duplicate_bucket_name", "file_lock_conflict", "source_replication_conflict",
            "restricted_bucket_conflict":
            HTTPVerdict(.conflict)
        case "conflict": HTTPVerdict(.conflict, .backoff)
        case "method_not_allowed", "unsupported": HTTPVerdict(.notSupported)

        case "too_many_requests": HTTPVerdict(.throttled, .throttle(after: retryAfter))
        case "request_timeout": HTTPVerdict(.timedOut, .backoff)
        case "internal_error", "bad_gateway", "gateway_timeout": HTTPVerdict(.unavailable, .backoff)
        case "service_unavailable":
            HTTPVerdict(.unavailable, retryAfter == nil ? .backoff : .throttle(after: retryAfter))
        case "bad_request":
            // The one fault of ours that is none: bytes that changed on their way.
            isChecksum(message)
                ? HTTPVerdict(.corrupted, .backoff, "the store received other bytes than were sent")
                : HTTPVerdict(.invalidArgument)
        case "bad_json": HTTPVerdict(.invalidArgument)
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

    /// By the HTTP status alone, when the body says nothing that is known. B2 itself redirects nobody: what does is on the way to it.
    static func verdict(status: Int, retryAfter: Duration? = nil) -> HTTPVerdict {
        300..<400 ~= status
            ? HTTPVerdict(.unavailable, .backoff, "the store redirects elsewhere")
            : HTTPVerdict(status: status, retryAfter: retryAfter)
    }

    /// For an answer that says no.
    static func error(_ response: HTTPResponse, wire: VFSError.Wire) -> VFSError {
        let status = response.status
        let retryAfter = response.headers.retryAfter
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
            verdict = .notOfStore
        }
        return verdict.error(saying: body?.message, wire: wire)
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
}
