import Glibc

/// A process whose main thread does nothing but take SIGTERM, SIGINT and SIGHUP, so that no code ever runs inside a signal handler.
///
/// The signals are blocked in every thread. (Were the main thread left to Dispatch, it would unblock them.)
public enum ForegroundProcess {
    /// Runs `body` in a task and exits with its status. Call it from the main thread, before any other has been started.
    /// SIGPIPE is ignored.
    /// - Parameter body: is given every SIGTERM, SIGINT and SIGHUP that arrives. Nothing may need the main actor.
    public static func run(_ body: @escaping @Sendable (AsyncStream<Int32>) async -> ExitStatus) -> Never {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        sigaddset(&set, SIGHUP)
        pthread_sigmask(SIG_BLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
        let (signals, arrived) = AsyncStream.makeStream(of: Int32.self)
        Task.detached { exit(await body(signals).rawValue) }
        while true {
            var number: Int32 = 0
            if sigwait(&set, &number) == 0 { arrived.yield(number) }
        }
    }
}
