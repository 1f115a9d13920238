import CLinux
import Glibc

/// A thread with a name that `top -H` shows. It ends when its body returns; nothing waits for it unless `join` is called.
public final class NamedThread: @unchecked Sendable {
    // SAFETY: `handle` is written once, before the value is shared.
    private let handle: pthread_t

    /// - Parameter name: at most 15 bytes are kept.
    public init(_ name: String, body: @escaping @Sendable () -> Void) {
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
        precondition(code == 0, "the system refuses another thread (\(code))")
        handle = thread
    }

    /// Waits until the body has returned. Once only, from another thread.
    public func join() { pthread_join(handle, nil) }
    public func detach() { pthread_detach(handle) }
}
