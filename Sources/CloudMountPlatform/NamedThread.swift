import CLinux
import Glibc

/// A thread with a name that `top -H` shows. It ends when its body returns; nothing waits for it unless `join` is called.
public final class NamedThread: @unchecked Sendable {
    // SAFETY: `handle` is written once, before the value is shared.
    private let handle: pthread_t

    /// Nil when the system refuses another thread, and `body` does not run.
    /// - Parameter name: at most 15 bytes are kept.
    public init?(_ name: String, body: @escaping @Sendable () -> Void) {
        let (thread, code) = Self.create(name, body)
        guard code == 0 else { return nil }
        handle = thread
    }

    /// Starts a thread that nobody waits for; false when the system refuses another one, and `body` does not run.
    public static func start(_ name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
        let (thread, code) = create(name, body)
        if code == 0 { pthread_detach(thread) }
        return code == 0
    }

    private static func create(_ name: String, _ body: @escaping @Sendable () -> Void) -> (pthread_t, Int32) {
        final class Start {
            let name: String
            let body: @Sendable () -> Void
            init(_ name: String, _ body: @escaping @Sendable () -> Void) {
                self.name = name
                self.body = body
            }
        }
        let start = Unmanaged.passRetained(Start(name, body))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { raw in
                guard let raw else { return nil }
                let start = Unmanaged<Start>.fromOpaque(raw).takeRetainedValue()
                _ = String(start.name.utf8.prefix(15).map { Character(UnicodeScalar($0)) }).withCString {
                    cm_thread_set_name($0)
                }
                start.body()
                return nil
            }, start.toOpaque())
        if code != 0 { start.release() }
        return (thread, code)
    }

    /// Waits until the body has returned. Once only, from another thread.
    public func join() { pthread_join(handle, nil) }
    public func detach() { pthread_detach(handle) }
}
