import Glibc

/// A system call's refusal, as `errno` named it.
public struct SystemError: Error, Sendable, Equatable {
    public let code: Int32

    public init(_ code: Int32) { self.code = code }

    /// Calls again after EINTR.
    /// - Returns: what `call` did, when that is not negative.
    @discardableResult
    public static func check<Value: SignedInteger>(_ call: () -> Value) throws(SystemError) -> Value {
        while true {
            let result = call()
            if result >= 0 { return result }
            if errno != EINTR { throw SystemError(errno) }
        }
    }

    public var message: String { String(cString: strerror(code)) }
}
