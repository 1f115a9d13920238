import CloudMountHTTP
import CloudMountKit
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
        reader.maxBytes = HTTPOptions.mostOfRefusal
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
    /// By the store's error code; nil when it is not a known one.
    static func verdict(code: String, retryAfter: Duration? = nil) -> HTTPVerdict? {
        switch code {
        case "NoSuchKey", "NoSuchVersion": HTTPVerdict(.notFound)
        case "NoSuchBucket", "InvalidBucketName": HTTPVerdict(.bucketNotFound)
        case "NoSuchUpload": HTTPVerdict(.uploadNotFound)

        case "AccessDenied", "AllAccessDisabled", "AccountProblem", "AccessForbidden", "UnauthorizedAccess",
            "NotSignedUp",
            "InvalidPayer", "KMS.DisabledException", "KMS.AccessDeniedException", "KMS.NotFoundException",
            "KMS.KMSInvalidStateException", "KMS.InvalidStateException":
            HTTPVerdict(.permissionDenied)
        case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "MissingSecurityHeader",
            "MissingAuthenticationToken", "MissingSecurityElement", "CredentialsNotSupported",
            "AuthorizationHeaderMalformed",
            "UnrecognizedClientException", "InvalidClientTokenId":
            HTTPVerdict(.credentialsInvalid)
        case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "RequestExpired":
            HTTPVerdict(.credentialsExpired)
        case "RequestTimeTooSkewed":
            HTTPVerdict(.credentialsInvalid, .never, "the clock of this host and that of the store are too far apart")

        case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestThrottled",
            "RequestThrottledException", "TooManyRequests", "TooManyRequestsException", "RequestLimitExceeded",
            "BandwidthLimitExceeded", "ReduceYourRequestRate", "KMS.ThrottlingException", "LimitExceededException":
            HTTPVerdict(.throttled, .throttle(after: retryAfter))
        case "ServiceUnavailable", "ServerBusy":
            HTTPVerdict(.unavailable, retryAfter == nil ? .backoff : .throttle(after: retryAfter))
        case "InternalError", "InternalFailure", "InternalServerError", "XMinioServerNotInitialized", "BadGateway",
            "GatewayTimeout":
            HTTPVerdict(.unavailable, .backoff)
        case "RequestTimeout", "RequestTimeoutException": HTTPVerdict(.timedOut, .backoff)
        case "IncompleteBody": HTTPVerdict(.connectionFailed, .backoff)
        case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
            HTTPVerdict(.corrupted, .backoff, "the store received other bytes than were sent")
        case "OperationAborted", "ConditionalRequestConflict": HTTPVerdict(.conflict, .backoff)

        case "PreconditionFailed": HTTPVerdict(.preconditionFailed)
        case "KeyTooLongError", "KeyTooLong": HTTPVerdict(.nameTooLong)
        case "InvalidURI", "InvalidObjectName", "XMinioInvalidObjectName", "ObjectNameInvalid", "InvalidKey":
            HTTPVerdict(.invalidName)
        case "EntityTooLarge", "MaxMessageLengthExceeded", "MetadataTooLarge", "MaxObjectSizeExceeded":
            HTTPVerdict(.tooLarge)
        case "InvalidObjectState", "ObjectNotInActiveTierError":
            HTTPVerdict(.archived, .never, "the object is archived and must be restored first")
        case "QuotaExceeded", "XMinioStorageFull", "StorageFull", "ServiceQuotaExceeded", "ExceedQuota",
            "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity":
            HTTPVerdict(.quotaExceeded)
        case "NotImplemented", "XNotImplemented", "MethodNotAllowed", "UnsupportedOperation": HTTPVerdict(.notSupported)
        case "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "InvalidArgument", "InvalidRequest", "MalformedXML",
            "InvalidStorageClass", "InvalidEncryptionAlgorithmError", "InvalidRange", "InvalidDigest", "InvalidTag",
            "MissingContentLength", "MissingContentMD5", "MalformedPOSTRequest", "KMS.InvalidKeyUsageException",
            "InvalidPartNumber", "BadRequest":
            HTTPVerdict(.invalidArgument)
        case "PermanentRedirect", "TemporaryRedirect", "Redirect", "IllegalLocationConstraintException",
            "BucketRegionError", "IncorrectEndpoint":
            HTTPVerdict(
                .invalidArgument, .never, "the bucket is in another region or at another endpoint than configured")
        default: nil
        }
    }

    /// For an answer that says no, or a 200 whose body does.
    /// - Parameter hasBody: HEAD has none, so its status must do.
    static func error(
        status: Int, headers: HTTPHeaders, body: S3ErrorBody?, isOfStore: Bool, wire: VFSError.Wire,
        throttlesWith403: Bool = false
    ) -> VFSError {
        let retryAfter = headers.retryAfter
        var wire = wire
        wire.status = status
        wire.code = body?.code
        wire.requestID = headers["x-amz-request-id"] ?? body?.requestID ?? headers["cf-ray"] ?? headers["x-request-id"]
        var verdict =
            body?.code.flatMap { Self.verdict(code: $0, retryAfter: retryAfter) }
            ?? HTTPVerdict(status: status, retryAfter: retryAfter)
        if body?.code == "InvalidRequest", body?.message?.contains("Server Side Encryption") ?? false {
            verdict = HTTPVerdict(
                .permissionDenied, .never, "the object is encrypted with a key that only its owner has")
        }
        if status == 404, body == nil, !isOfStore {
            // A page of some proxy, or nothing: not the store's word that there is no such object.
            verdict = .notOfStore
        }
        if throttlesWith403, status == 403, verdict.code == .permissionDenied { verdict.retry = .backoff }
        var error = verdict.error(saying: body?.message, wire: wire)
        // It was not followed.
        if 300..<400 ~= status, let target = headers["location"] ?? body?.endpoint {
            error.message += ", to \(WebURL.shown(target))"
        }
        return error
    }
}
