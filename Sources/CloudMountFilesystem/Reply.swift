public import CloudMountVFS
import Synchronization

/// The right, and the duty, to answer one request: consumed by `send` or `fail`; dropped, it answers `io`.
public struct Reply<Value>: ~Copyable, Sendable {
    public typealias Completion = @Sendable (Result<Value, VFSError>) -> Void

    private var completion: Completion?
    fileprivate let interruptions: (@Sendable (@escaping @Sendable () -> Void) -> Void)?

    /// - Parameters:
    ///   - onInterrupt: given a closure, calls it once if the caller is interrupted before the answer. Nil: never.
    ///   - completion: called exactly once, on the thread that answers.
    public init(
        onInterrupt register: (@Sendable (@escaping @Sendable () -> Void) -> Void)? = nil,
        completion: @escaping Completion
    ) {
        interruptions = register
        self.completion = completion
    }

    public consuming func send(_ value: Value) {
        let completion = self.completion
        self.completion = nil
        completion?(.success(value))
    }

    public consuming func fail(_ error: VFSError) {
        let completion = self.completion
        self.completion = nil
        completion?(.failure(error))
    }

    public consuming func fail(_ code: VFSError.Code, _ message: String = "") { fail(VFSError(code, message)) }

    /// Asks to be told when the caller is interrupted (a signal). At most once per reply.
    public borrowing func onInterrupt(_ action: @escaping @Sendable () -> Void) { interruptions?(action) }

    deinit {
        completion?(.failure(VFSError(.io, "a request was dropped without an answer")))
    }
}

extension Reply where Value == Void {
    public consuming func send() { send(()) }
}

/// Carries a reply into a closure that may run once, which a noncopyable value cannot do by itself.
public final class ReplyBox<Value>: Sendable {
    private let reply: Mutex<Reply<Value>?>

    private let register: (@Sendable (@escaping @Sendable () -> Void) -> Void)?

    public init(_ reply: consuming Reply<Value>) {
        register = reply.interruptions
        self.reply = Mutex(reply)
    }

    /// As `Reply.onInterrupt`, which may run the action at once. Only before anyone else can have taken the reply.
    public func onInterrupt(_ action: @escaping @Sendable () -> Void) { register?(action) }

    /// The reply, the first time; nil ever after.
    public func take() -> Reply<Value>? {
        reply.withLock { slot in
            var taken: Reply<Value>? = nil
            swap(&taken, &slot)
            return taken
        }
    }

    public func send(_ value: Value) {
        if let reply = take() { reply.send(value) }
    }

    public func fail(_ error: VFSError) {
        if let reply = take() { reply.fail(error) }
    }
}
