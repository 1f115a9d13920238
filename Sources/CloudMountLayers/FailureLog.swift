import CloudMountVFS
public import Logging

/// Writes each failure on the way to the store once: attempts that are tried again at `info`, the ones that end a call at
/// `warning`. What a store says in the ordinary course of things (absent, precondition unmet) is no failure.
public struct FailureLog: Sendable {
    private let logger: Logger
    private let endpoint: String

    /// - Parameter endpoint: named where the error itself names none.
    public init(_ logger: Logger, endpoint: String) {
        self.logger = logger
        self.endpoint = endpoint
    }

    public func record(_ failure: FailedAttempt) {
        if failure.error.isAnswer || failure.error.isRefusal { return }
        let level: Logger.Level = failure.retryAfter == nil ? .warning : .info
        guard logger.logLevel <= level else { return }
        let error = failure.error
        var metadata: Logger.Metadata = [
            "operation": "\(error.wire?.operation ?? failure.verb.rawValue)",
            "endpoint": "\(error.wire?.endpoint ?? endpoint)",
            "code": "\(error.code.rawValue)",
            "attempt": "\(failure.attempt)",
        ]
        if let key = error.wire?.key ?? failure.key?.string { metadata["key"] = "\(key.printable)" }
        if let wire = error.wire {
            if wire.status != 0 { metadata["status"] = "\(wire.status)" }
            if let code = wire.code { metadata["store_code"] = "\(code.printable)" }
            if let id = wire.requestID { metadata["request_id"] = "\(id.printable)" }
        }
        if let pause = failure.retryAfter { metadata["retry_after"] = "\(pause)" }
        logger.log(level: level, "\(error.message.printable)", metadata: metadata)
    }
}
