import CloudMountHTTP
import CloudMountVFS
import CloudMountXML

/// The body of an answer that says no.
struct S3ErrorBody: Equatable {
    var code: String?
    var message: String?
    var region: String?
    var endpoint: String?
    var requestID: String?

    init() {}

    /// Nil when the bytes are no `<Error>` document.
    init?(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return nil }
        let handler = Handler()
        var reader = XMLReader()
        reader.maxBytes = 1 << 20
        guard (try? reader.read(bytes, into: handler)) != nil, handler.isError else { return nil }
        self = handler.body
    }

    private final class Handler: XMLHandler {
        var body = S3ErrorBody()
        var isError = false

        func start(_ name: XMLText, depth: Int) {
            if depth == 1 { isError = name == "Error" }
        }

        func end(_ name: XMLText, text: XMLText, depth: Int) {
            guard depth == 2, isError else { return }
            switch name {
            case "Code": body.code = text.string
            case "Message": body.message = text.string
            case "Region": body.region = text.string
            case "Endpoint": body.endpoint = text.string
            case "RequestId": body.requestID = text.string
            default: break
            }
        }
    }
}

/// From what was on the wire to `VFSError`: the one place that knows S3's error codes.
enum S3Errors {
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

    /// By the store's error code; nil when it is not a known one.
    static func verdict(code: String, retryAfter: Duration? = nil) -> Verdict? {
        switch code {
        case "NoSuchKey", "NoSuchVersion": Verdict(.notFound)
        case "NoSuchBucket", "InvalidBucketName": Verdict(.bucketNotFound)
        case "NoSuchUpload": Verdict(.uploadNotFound)

        case "AccessDenied", "AllAccessDisabled", "AccountProblem", "AccessForbidden", "UnauthorizedAccess",
            "NotSignedUp",
            "InvalidPayer", "KMS.DisabledException", "KMS.AccessDeniedException", "KMS.NotFoundException",
            "KMS.KMSInvalidStateException", "KMS.InvalidStateException":
            Verdict(.permissionDenied)
        case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "MissingSecurityHeader",
            "MissingAuthenticationToken", "MissingSecurityElement", "CredentialsNotSupported",
            "AuthorizationHeaderMalformed",
            "UnrecognizedClientException", "InvalidClientTokenId":
            Verdict(.credentialsInvalid)
        case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "RequestExpired":
            Verdict(.credentialsExpired)
        case "RequestTimeTooSkewed":
            Verdict(.credentialsInvalid, .never, "the clock of this host and that of the store are too far apart")

        case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestThrottled",
            "RequestThrottledException", "TooManyRequests", "TooManyRequestsException", "RequestLimitExceeded",
            "BandwidthLimitExceeded", "ReduceYourRequestRate", "KMS.ThrottlingException", "LimitExceededException":
            Verdict(.throttled, .throttle(after: retryAfter))
        case "ServiceUnavailable", "ServerBusy":
            Verdict(.unavailable, retryAfter == nil ? .backoff : .throttle(after: retryAfter))
        case "InternalError", "InternalFailure", "InternalServerError", "XMinioServerNotInitialized", "BadGateway",
            "GatewayTimeout":
            Verdict(.unavailable, .backoff)
        case "RequestTimeout", "RequestTimeoutException": Verdict(.timedOut, .backoff)
        case "IncompleteBody": Verdict(.connectionFailed, .backoff)
        case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
            Verdict(.corrupted, .backoff, "the store received other bytes than were sent")
        case "OperationAborted", "ConditionalRequestConflict": Verdict(.conflict, .backoff)

        case "PreconditionFailed": Verdict(.preconditionFailed)
        case "KeyTooLongError", "KeyTooLong": Verdict(.nameTooLong)
        case "InvalidURI", "InvalidObjectName", "XMinioInvalidObjectName", "ObjectNameInvalid", "InvalidKey":
            Verdict(.invalidName)
        case "EntityTooLarge", "MaxMessageLengthExceeded", "MetadataTooLarge", "MaxObjectSizeExceeded":
            Verdict(.tooLarge)
        case "InvalidObjectState", "ObjectNotInActiveTierError":
            Verdict(.archived, .never, "the object is archived and must be restored first")
        case "QuotaExceeded", "XMinioStorageFull", "StorageFull", "ServiceQuotaExceeded", "ExceedQuota",
            "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity":
            Verdict(.quotaExceeded)
        case "NotImplemented", "XNotImplemented", "MethodNotAllowed", "UnsupportedOperation": Verdict(.notSupported)
        case "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "InvalidArgument", "InvalidRequest", "MalformedXML",
            "InvalidStorageClass", "InvalidEncryptionAlgorithmError", "InvalidRange", "InvalidDigest", "InvalidTag",
            "MissingContentLength", "MissingContentMD5", "MalformedPOSTRequest", "KMS.InvalidKeyUsageException",
            "InvalidPartNumber", "BadRequest":
            Verdict(.invalidArgument)
        case "PermanentRedirect", "TemporaryRedirect", "Redirect", "IllegalLocationConstraintException",
            "BucketRegionError", "IncorrectEndpoint":
            Verdict(.invalidArgument, .never, "the bucket is in another region or at another endpoint than configured")
        default: nil
        }
    }

    /// By the HTTP status alone, when the body says nothing that is known.
    static func verdict(status: Int, retryAfter: Duration? = nil) -> Verdict {
        switch status {
        case 300..<400: Verdict(.invalidArgument, .never, "the store redirects elsewhere")
        case 401, 403: Verdict(.permissionDenied)
        case 404: Verdict(.notFound)
        case 405, 501: Verdict(.notSupported)
        case 408: Verdict(.timedOut, .backoff)
        case 409: Verdict(.conflict, .backoff)
        case 412: Verdict(.preconditionFailed)
        case 413: Verdict(.tooLarge)
        case 414: Verdict(.nameTooLong)
        case 429: Verdict(.throttled, .throttle(after: retryAfter))
        case 503: Verdict(.unavailable, retryAfter == nil ? .backoff : .throttle(after: retryAfter))
        case 507: Verdict(.quotaExceeded)
        case 500..<600: Verdict(.unavailable, .backoff)
        case 400..<500: Verdict(.invalidArgument)
        default: Verdict(.malformedResponse, .backoff)
        }
    }

    /// For an answer that says no, or a 200 whose body does.
    /// - Parameter hasBody: HEAD has none, so its status must do.
    static func error(
        status: Int, headers: HTTPHeaders, body: S3ErrorBody?, isOfStore: Bool, wire: VFSError.Wire,
        throttlesWith403: Bool = false
    ) -> VFSError {
        let retryAfter = headers["retry-after"].flatMap { Int($0) }.map { Duration.seconds(max(0, min($0, 3600))) }
        var wire = wire
        wire.status = status
        wire.code = body?.code
        wire.requestID = headers["x-amz-request-id"] ?? body?.requestID ?? headers["cf-ray"] ?? headers["x-request-id"]
        var verdict =
            body?.code.flatMap { Self.verdict(code: $0, retryAfter: retryAfter) }
            ?? Self.verdict(status: status, retryAfter: retryAfter)
        if status == 404, body == nil, !isOfStore {
            // A page of some proxy, or nothing: not the store's word that there is no such object.
            verdict = Verdict(.malformedResponse, .backoff, "an answer that is not from a store")
        }
        if throttlesWith403, status == 403, verdict.code == .permissionDenied { verdict.retry = .backoff }
        var message = verdict.message ?? sentence(status, body)
        // It was not followed.
        if 300..<400 ~= status, let target = headers["location"] ?? body?.endpoint {
            message += ", to \(String(target.prefix(200)).printable)"
        }
        return VFSError(verdict.code, message, retry: verdict.retry, wire: wire)
    }

    private static func sentence(_ status: Int, _ body: S3ErrorBody?) -> String {
        guard let text = body?.message, !text.isEmpty else { return "the store answered \(status)" }
        let printable = text.unicodeScalars.prefix(200).filter(\.isPrintable)
        var sentence = String(String.UnicodeScalarView(printable))
        while sentence.last == "." || sentence.last == " " { sentence.removeLast() }
        return "the store says: \(sentence)"
    }
}
