/// The one error of CloudMount. The core switches over `code`; `CloudMountFUSE` maps it to errno in one file.
public struct VFSError: Error, Sendable, Equatable {
    /// What went wrong, in the terms of the core. Add a case only for what any provider or file system could meet.
    public enum Code: String, Sendable, CaseIterable {
        // Said by a store.
        case notFound, alreadyExists, preconditionFailed, bucketNotFound, uploadNotFound
        case permissionDenied, credentialsInvalid, credentialsExpired
        case throttled, unavailable, timedOut, connectionFailed
        case corrupted, malformedResponse, archived, quotaExceeded, tooLarge, nameTooLong, invalidName, invalidArgument
        case notSupported, conflict
        // Said by the core.
        case cancelled, stale, readOnly, notPermitted, notDirectory, isDirectory, notEmpty, crossDevice
        case noAttribute, resultTooLarge, badHandle, noSpace, noData, busy, io, symbolicLink
    }

    /// What the retry layer may do about it. Set by whoever knows the wire; obeyed by the retry layer alone.
    public enum RetryAdvice: Sendable, Equatable {
        /// The same request will fail again.
        case never
        /// The cause is cured (a dead kept-alive connection, a wrong region, a refreshed credential): again at once, once.
        case immediately
        /// A passing fault: again after an exponential pause with jitter.
        case backoff
        /// The store asks for less: a longer pause, `after` at least when it named a time, and a smaller concurrency.
        case throttle(after: Duration?)
    }

    /// What was on the wire, for the log and `status`. Never holds a secret.
    public struct Wire: Sendable, Equatable {
        /// The store's name of the operation, such as `GetObject`.
        public var operation: String
        public var key: String?
        /// Host and port.
        public var endpoint: String
        /// HTTP status; 0 when there was no answer.
        public var status: Int
        /// The store's own error code, such as `SlowDown`.
        public var code: String? { didSet { code = code?.cut(to: Self.mostOfWord) } }
        public var requestID: String? { didSet { requestID = requestID?.cut(to: Self.mostOfWord) } }

        /// Characters. Stores say anything, of any length; what they say is logged, shown by `status`, and kept as a reason.
        private static let mostOfWord = 100

        public init(
            operation: String, key: String? = nil, endpoint: String, status: Int = 0, code: String? = nil,
            requestID: String? = nil
        ) {
            self.operation = operation
            self.key = key
            self.endpoint = endpoint
            self.status = status
            self.code = code?.cut(to: Self.mostOfWord)
            self.requestID = requestID?.cut(to: Self.mostOfWord)
        }
    }

    public var code: Code
    /// One sentence for a person; it names the thing, without the code or the wire detail.
    public var message: String { didSet { message = message.cut(to: Self.mostOfMessage) } }
    public var retry: RetryAdvice
    public var wire: Wire?

    /// Characters; enough for what names a path.
    private static let mostOfMessage = 5000

    public init(_ code: Code, _ message: String, retry: RetryAdvice = .never, wire: Wire? = nil) {
        self.code = code
        self.message = message.cut(to: Self.mostOfMessage)
        self.retry = retry
        self.wire = wire
    }

    public static let cancelled = VFSError(.cancelled, "the operation was interrupted")
}

extension VFSError: CustomStringConvertible {
    public var description: String {
        var text = "\(message) (\(code.rawValue)"
        if let wire {
            text += "; \(wire.operation)"
            if let key = wire.key { text += " \(key)" }
            text += " at \(wire.endpoint)"
            if wire.status != 0 { text += ", HTTP \(wire.status)" }
            if let code = wire.code { text += " \(code)" }
            if let id = wire.requestID { text += ", request \(id)" }
        }
        return (text + ")").printable
    }
}

extension VFSError.Code {
    /// The store could not be asked, which says nothing about what it holds.
    public var isUnreachable: Bool {
        switch self {
        case .unavailable, .timedOut, .connectionFailed, .throttled: true
        default: false
        }
    }
}
