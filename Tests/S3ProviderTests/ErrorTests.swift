import CloudMountHTTP
import CloudMountVFS
import TestServers
import Testing

@testable import S3Provider

@Suite("Errors")
struct ErrorTests {
    private static let wire = VFSError.Wire(operation: "GetObject", key: "k", endpoint: "h:1")

    private func error(
        _ status: Int, _ body: String, _ headers: [(String, String)] = [], slow403: Bool = false,
        isOfStore: Bool = false
    ) -> VFSError {
        var fields = HTTPHeaders()
        for (name, value) in headers { fields.append(name, value) }
        let bytes = Array(body.utf8)
        return S3Errors.error(
            status: status, headers: fields, body: S3ErrorBody(bytes), isOfStore: isOfStore, wire: Self.wire,
            throttlesWith403: slow403)
    }

    @Test("A redirect is told without what may be secret in it")
    func redirect() {
        let header = error(302, "", [("Location", "https://u:secret@h:1/b/k?X-Amz-Signature=secret")])
        #expect(header.message.hasSuffix(", to https://h:1/b/k"))
        let body = error(301, "<Error><Code>PermanentRedirect</Code><Endpoint>u:secret@h?secret</Endpoint></Error>")
        #expect(body.message.hasSuffix(", to h"))
    }

    @Test(
        "The store's code decides, whatever the status",
        arguments: [
            (404, "NoSuchKey", .notFound, .never), (404, "NoSuchVersion", .notFound, .never),
            (404, "NoSuchBucket", .bucketNotFound, .never), (404, "NoSuchUpload", .uploadNotFound, .never),
            (403, "AccessDenied", .permissionDenied, .never), (403, "AllAccessDisabled", .permissionDenied, .never),
            (403, "InvalidAccessKeyId", .credentialsInvalid, .never),
            (403, "SignatureDoesNotMatch", .credentialsInvalid, .never),
            (400, "AuthorizationHeaderMalformed", .credentialsInvalid, .never),
            (400, "ExpiredToken", .credentialsExpired, .never), (400, "InvalidToken", .credentialsExpired, .never),
            (400, "TokenRefreshRequired", .credentialsExpired, .never),
            (403, "RequestTimeTooSkewed", .credentialsInvalid, .never),
            (503, "SlowDown", .throttled, .throttle(after: nil)), (200, "SlowDown", .throttled, .throttle(after: nil)),
            (429, "TooManyRequests", .throttled, .throttle(after: nil)),
            (503, "ServiceUnavailable", .unavailable, .backoff), (500, "InternalError", .unavailable, .backoff),
            (200, "InternalError", .unavailable, .backoff), (400, "RequestTimeout", .timedOut, .backoff),
            (400, "IncompleteBody", .connectionFailed, .backoff), (400, "BadDigest", .corrupted, .backoff),
            (400, "XAmzContentSHA256Mismatch", .corrupted, .backoff), (409, "OperationAborted", .conflict, .backoff),
            (409, "ConditionalRequestConflict", .conflict, .backoff),
            (412, "PreconditionFailed", .preconditionFailed, .never), (400, "KeyTooLongError", .nameTooLong, .never),
            (400, "InvalidURI", .invalidName, .never), (400, "EntityTooLarge", .tooLarge, .never),
            (400, "MetadataTooLarge", .tooLarge, .never), (403, "InvalidObjectState", .archived, .never),
            (403, "QuotaExceeded", .quotaExceeded, .never), (507, "XMinioStorageFull", .quotaExceeded, .never),
            (501, "NotImplemented", .notSupported, .never), (405, "MethodNotAllowed", .notSupported, .never),
            (400, "InvalidPart", .invalidArgument, .never), (400, "InvalidPartOrder", .invalidArgument, .never),
            (400, "EntityTooSmall", .invalidArgument, .never), (400, "MalformedXML", .invalidArgument, .never),
            (301, "PermanentRedirect", .invalidArgument, .never),
            (400, "IllegalLocationConstraintException", .invalidArgument, .never),
        ] as [(Int, String, VFSError.Code, VFSError.RetryAdvice)])
    func codes(status: Int, code: String, expected: VFSError.Code, retry: VFSError.RetryAdvice) {
        let error = error(status, "<Error><Code>\(code)</Code><Message>m</Message></Error>")
        #expect(error.code == expected)
        #expect(error.retry == retry)
        #expect(error.wire?.status == status)
        #expect(error.wire?.code == code)
    }

    @Test(
        "An unknown code leaves it to the status",
        arguments: [
            (400, .invalidArgument, .never), (401, .permissionDenied, .never), (403, .permissionDenied, .never),
            (405, .notSupported, .never), (408, .timedOut, .backoff),
            (409, .conflict, .backoff), (411, .invalidArgument, .never), (412, .preconditionFailed, .never),
            (413, .tooLarge, .never), (414, .nameTooLong, .never), (416, .invalidArgument, .never),
            (429, .throttled, .throttle(after: nil)), (500, .unavailable, .backoff), (501, .notSupported, .never),
            (502, .unavailable, .backoff), (503, .unavailable, .backoff), (504, .unavailable, .backoff),
            (507, .quotaExceeded, .never), (599, .unavailable, .backoff), (302, .invalidArgument, .never),
            (200, .malformedResponse, .backoff),
        ] as [(Int, VFSError.Code, VFSError.RetryAdvice)])
    func statuses(status: Int, expected: VFSError.Code, retry: VFSError.RetryAdvice) {
        // Nothing at all is believed where the client says that it is the store's.
        #expect(error(404, "", isOfStore: true).code == .notFound)
        for body in ["", "<Error><Code>Novel</Code></Error>"] {
            let error = error(status, body)
            #expect(error.code == expected)
            #expect(error.retry == retry)
        }
    }

    @Test("A 404 that is not the store's own word is not an absence")
    func foreignPage() {
        for body in ["<html><body>nothing here</body></html>", ""] {
            let error = error(404, body)
            #expect(error.code == .malformedResponse)
            #expect(error.retry == .backoff)
        }
    }

    @Test("Retry-After is honoured where the store asks for less")
    func retryAfter() {
        #expect(error(503, "", [("Retry-After", "7")]).retry == .throttle(after: .seconds(7)))
        #expect(
            error(503, "<Error><Code>SlowDown</Code></Error>", [("retry-after", "99999")]).retry
                == .throttle(after: .seconds(3600)))
        #expect(error(503, "", [("Retry-After", "soon")]).retry == .backoff)
    }

    @Test("403 is retried where the profile says that it may mean throttling")
    func slow403() {
        #expect(error(403, "<Error><Code>AccessDenied</Code></Error>", slow403: true).retry == .backoff)
        #expect(error(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>", slow403: true).retry == .never)
    }

    @Test("The wire detail is complete")
    func wire() {
        let fromHeader = error(500, "<Error><RequestId>body</RequestId></Error>", [("x-amz-request-id", "head")])
        #expect(fromHeader.wire?.requestID == "head")
        #expect(error(500, "<Error><RequestId>body</RequestId></Error>").wire?.requestID == "body")
        #expect(error(500, "", [("CF-Ray", "ray")]).wire?.requestID == "ray")
        #expect(fromHeader.wire?.operation == "GetObject")
        #expect(fromHeader.wire?.endpoint == "h:1")
    }

    @Test("The store's message is quoted, short and printable, and nothing else of its body")
    func message() {
        let text = String(repeating: "x", count: 500)
        let error = error(
            403,
            "<Error><Code>SignatureDoesNotMatch</Code><Message>a&#10;b \(text)</Message>"
                + "<StringToSign>secret stuff</StringToSign></Error>")
        #expect(error.message.utf8.count < 230)
        #expect(!error.description.contains("\n"))
        #expect(!error.description.contains("secret stuff"))
    }

    @Test(
        "Transfers that brought no answer",
        arguments: [
            (.resolve, .connectionFailed, .backoff), (.connect, .connectionFailed, .backoff),
            (.tls, .connectionFailed, .backoff), (.timedOut, .timedOut, .backoff), (.stalled, .timedOut, .backoff),
            (.reset, .connectionFailed, .backoff), (.truncated, .corrupted, .backoff),
            (.malformed, .malformedResponse, .backoff), (.tooLarge, .malformedResponse, .never),
            (.cancelled, .cancelled, .never), (.sourceFailed, .io, .never),
        ] as [(HTTPError.Kind, VFSError.Code, VFSError.RetryAdvice)])
    func transport(kind: HTTPError.Kind, code: VFSError.Code, retry: VFSError.RetryAdvice) {
        let error = VFSError(HTTPError(kind, "why"), wire: Self.wire)
        #expect(error.code == code)
        #expect(error.retry == retry)
    }

    @Test(
        "A body that is no error document is none",
        arguments: ["", "Error", "<Error><Code>x</Code>", "<Other><Code>x</Code></Other>", "<!DOCTYPE Error><Error/>"])
    func noDocument(body: String) { #expect(S3ErrorBody(Array(body.utf8)) == nil) }
}
