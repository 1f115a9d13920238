public import CloudMountVFS

/// The method of a request: any token of RFC 9110, sent as it is (`HTTPMethod("PROPFIND")`). What is no token is refused by
/// `HTTPEngine.perform`.
public struct HTTPMethod: Hashable, Sendable, RawRepresentable {
    public let rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }
    public init(_ token: String) { rawValue = token }

    public static let get = HTTPMethod("GET")
    public static let head = HTTPMethod("HEAD")
    public static let put = HTTPMethod("PUT")
    public static let post = HTTPMethod("POST")
    public static let delete = HTTPMethod("DELETE")

    /// Nothing changes by it, however often it is sent.
    var isSafe: Bool { self == .get || self == .head || Self.otherSafe.contains(self) }
    private static let otherSafe: Set<HTTPMethod> = [
        HTTPMethod("OPTIONS"), HTTPMethod("PROPFIND"), HTTPMethod("REPORT"), HTTPMethod("SEARCH"),
    ]

    var isToken: Bool { !rawValue.isEmpty && rawValue.utf8.allSatisfy(Self.isTokenByte) }

    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        // !#$%&'*+-.^_`|~
        case 0x21, 0x23...0x27, 0x2A, 0x2B, 0x2D, 0x2E, 0x5E, 0x5F, 0x60, 0x7C, 0x7E: true
        default: false
        }
    }
}

/// One request. Redirects are never followed (a signature covers the host); the path goes out as it is.
public struct HTTPRequest: Sendable {
    public var method: HTTPMethod
    /// Absolute; everything that needs escaping is escaped.
    public var url: String
    /// Sent as they are. `Host`, `Content-Length` and `Expect` are the transport's.
    public var headers: HTTPHeaders
    /// Sent with its exact length, never chunked. Nil sends none (all but GET, HEAD and DELETE then say `Content-Length: 0`).
    public var body: (any ByteSource)?
    public var options: HTTPOptions

    public init(
        _ method: HTTPMethod, _ url: String, headers: HTTPHeaders = HTTPHeaders(), body: (any ByteSource)? = nil,
        options: HTTPOptions = HTTPOptions()
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.options = options
    }
}

/// How patient a transfer is, and whom it trusts. Without a `wholeTimeout` there is no limit on total time while the request is
/// sent or a sink takes the answer: what makes progress goes on.
public struct HTTPOptions: Sendable, Hashable {
    public var connectTimeout: Duration = .seconds(10)
    /// Ends a transfer that moved less than `stallBytesPerSecond` for so long, waiting for the answer included.
    public var stallTimeout: Duration = .seconds(20)
    /// 0: any byte will do, as of an answer whose body is white space while the server works.
    public var stallBytesPerSecond = TransferMeter.leastBytesPerSecond
    /// Ends a transfer whose answer, collected in memory, is not whole so long after its head: little that takes longer is sent only to
    /// keep somebody waiting.
    public var answerTimeout: Duration = .seconds(300)
    /// Ends a transfer that is not over so long after it was begun; nil: what moves goes on.
    public var wholeTimeout: Duration?
    /// PEM file that replaces the system's authorities.
    public var caFile: String?
    /// Never by a proxy: for servers of this machine or of its link, which nobody else can speak for.
    public var isDirect = false
    /// Largest answer collected in memory; a longer one is `HTTPError.Kind.tooLarge`. Bytes for a sink do not count.
    public var maxBodyBytes = 64 << 20
    /// Bytes of an answer of another status than 2xx that are collected; what follows is not waited for.
    public static let mostOfRefusal = 64 << 10
    /// A body of more bytes (and more than 1 MiB) waits up to a second for the server's `100 Continue`, so that a refusal
    /// costs no upload; any other goes out at once, which saves a round trip.
    public var expectContinueAbove = 64 << 20

    public init() {}

    /// Of a request that the server works through so many bytes for before it answers: it may be silent, or send white space, for
    /// as long as that takes at 10 MB/s, an hour at most. Whether it is still there is for who waits to find out.
    public mutating func allowWork(on bytes: Int) {
        let work = Duration.seconds(min(bytes / 10_000_000, 3600))
        stallTimeout = max(stallTimeout, work)
        answerTimeout += work
    }
}

/// The answer's status line and headers, complete, before any byte of the body.
public struct HTTPResponseHead: Sendable {
    public var status: Int
    public var headers: HTTPHeaders

    public init(status: Int, headers: HTTPHeaders) {
        self.status = status
        self.headers = headers
    }
}

public struct HTTPResponse: Sendable {
    public var head: HTTPResponseHead
    /// Empty when the body went to a sink.
    public var body: [UInt8]
    /// Whether the body went to the sink.
    public var sunk: Bool
    public var timings: HTTPTimings
    /// What the body takes of the budget; given back with the last copy of this.
    var room: AnswerRoom?

    public var status: Int { head.status }
    public var headers: HTTPHeaders { head.headers }

    public init(head: HTTPResponseHead, body: [UInt8], sunk: Bool, timings: HTTPTimings) {
        self.head = head
        self.body = body
        self.sunk = sunk
        self.timings = timings
    }
}

/// Seconds since the request was handed over (CURLINFO_*_TIME_T).
public struct HTTPTimings: Sendable {
    public var nameLookup = 0.0
    public var connect = 0.0
    public var tls = 0.0
    public var firstByte = 0.0
    public var total = 0.0
    public var reusedConnection = false
    /// How often the request was sent. More than once means that a kept-alive connection died before the first byte of an
    /// answer to a safe request, or that the server wanted the request without `Expect`.
    public var attempts = 0

    public init() {}
}

/// A transfer that brought no complete answer.
public struct HTTPError: Error, Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        case resolve, connect, tls, timedOut, stalled, reset, truncated, malformed, tooLarge, cancelled, sourceFailed
        /// A kept-alive connection died before any byte of an answer came. The server may have acted on the request
        /// all the same; what is safe (GET, HEAD, PROPFIND ...) is sent again instead.
        case dropped
        /// This process may have no more threads or descriptors, and nothing was sent; or it has no memory for the answer. The endpoint is
        /// not to blame.
        case noRoom
    }
    public var kind: Kind
    public var message: String

    public init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }
}

/// Where the body of an answer goes.
public enum HTTPBodyTarget: Sendable {
    /// Into `HTTPResponse.body`.
    case memory
    /// Into the sink when `accepts` says yes to the head, else into `HTTPResponse.body`. `accepts` runs on the transfer
    /// thread and must return at once.
    case sink(any ByteSink, accepts: @Sendable (HTTPResponseHead) -> Bool)
}
