public import CloudMountHTTP
import CloudMountPlatform
public import CloudMountVFS

/// What an answer that says no means to the core. A provider asks its table of the store's own codes first, and this one, by
/// the status alone, where the answer names none that is known.
public struct HTTPVerdict: Sendable, Equatable {
    public var code: VFSError.Code
    public var retry: VFSError.RetryAdvice
    /// For a person; nil: what the store says itself.
    public var message: String?

    public init(_ code: VFSError.Code, _ retry: VFSError.RetryAdvice = .never, _ message: String? = nil) {
        self.code = code
        self.retry = retry
        self.message = message
    }

    /// - Parameter retryAfter: what the answer asks for, see `HTTPHeaders.retryAfter`.
    public init(status: Int, retryAfter: Duration? = nil) {
        self =
            switch status {
            case 300..<400: HTTPVerdict(.invalidArgument, .never, "the store redirects elsewhere")
            case 401, 403: HTTPVerdict(.permissionDenied)
            case 404: HTTPVerdict(.notFound)
            case 405, 501: HTTPVerdict(.notSupported)
            case 408: HTTPVerdict(.timedOut, .backoff)
            case 409, 423: HTTPVerdict(.conflict, .backoff)
            case 412: HTTPVerdict(.preconditionFailed)
            case 413: HTTPVerdict(.tooLarge)
            case 414: HTTPVerdict(.nameTooLong)
            case 429: HTTPVerdict(.throttled, .throttle(after: retryAfter))
            case 503: HTTPVerdict(.unavailable, retryAfter == nil ? .backoff : .throttle(after: retryAfter))
            case 507: HTTPVerdict(.quotaExceeded)
            case 500..<600: HTTPVerdict(.unavailable, .backoff)
            case 400..<500: HTTPVerdict(.invalidArgument)
            default: HTTPVerdict(.malformedResponse, .backoff)
            }
    }

    /// A page of some proxy, or an answer that no store gives: nothing that it says of an object is believed.
    public static let notOfStore = HTTPVerdict(.malformedResponse, .backoff, "an answer that is not from a store")

    /// - Parameters:
    ///   - text: what the answer says for a person, if it says anything.
    ///   - wire: of the request; the status is looked at for want of a text.
    public func error(saying text: String?, wire: VFSError.Wire) -> VFSError {
        VFSError(code, message ?? Self.sentence(wire.status, text), retry: retry, wire: wire)
    }

    /// What a store says of itself is shown up to here, and without what would control a terminal.
    private static let longest = 200

    private static func sentence(_ status: Int, _ text: String?) -> String {
        guard let text, !text.isEmpty else { return "the store answered \(status)" }
        var said = String(String.UnicodeScalarView(text.unicodeScalars.prefix(longest).filter(\.isPrintable)))
        while said.last == "." || said.last == " " { said.removeLast() }
        return "the store says: \(said)"
    }
}

extension HTTPHeaders {
    /// How long `Retry-After` asks to wait, by a number of seconds or by a date; an hour at most, nil without one.
    public var retryAfter: Duration? {
        guard let text = self["retry-after"] else { return nil }
        if let seconds = Int(text) { return .seconds(max(0, min(seconds, 3600))) }
        guard let then = WireDate.http(text) else { return nil }
        let now = self["date"].flatMap(WireDate.http) ?? SystemClock.now()
        return .seconds(max(0, min(then.seconds - now.seconds, 3600)))
    }
}
