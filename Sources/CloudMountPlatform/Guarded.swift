import Synchronization

/// A value of many parts behind a lock, for a graph of objects that never leaves it: only `Sendable` results come out.
public final class Guarded<Value>: @unchecked Sendable {
    // SAFETY: `value` is touched only while `mutex` is held, and what a body returns is `Sendable`.
    private let mutex = Mutex(())
    private var value: Value

    public init(_ value: consuming sending Value) { self.value = value }

    public func withLock<Result: Sendable, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try mutex.withLock { _ throws(Failure) in try body(&value) }
    }
}
