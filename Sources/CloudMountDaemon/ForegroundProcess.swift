import Glibc

/// A process whose main thread does nothing but take SIGTERM, SIGINT, SIGQUIT and SIGHUP, so that no code ever runs inside a signal
/// handler.
///
/// The signals are blocked in every thread. (Were the main thread left to Dispatch, it would unblock them.)
public enum ForegroundProcess {
    /// Runs `body` in a task and exits with its status. Call it from the main thread, before any other has been started.
    /// Ignored: SIGPIPE; SIGXFSZ, so that a file that grows beyond `ulimit -f` is an error of that write (EFBIG) and not the end; and
    /// the signals of users and timers, whose default would be the end.
    /// - Parameter body: is given every SIGTERM, SIGINT, SIGQUIT and SIGHUP that arrives. Nothing may need the main actor.
    public static func run(_ body: @escaping @Sendable (AsyncStream<Int32>) async -> ExitStatus) -> Never {
        var set = sigset_t()
        sigemptyset(&set)
        for taken in [SIGTERM, SIGINT, SIGQUIT, SIGHUP] { sigaddset(&set, taken) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        for ignored in [SIGPIPE, SIGXFSZ, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM] { signal(ignored, SIG_IGN) }
        let (signals, arrived) = AsyncStream.makeStream(of: Int32.self)
        Task.detached { exit(await body(signals).rawValue) }
        while true {
            var number: Int32 = 0
            if sigwait(&set, &number) == 0 { arrived.yield(number) }
        }
    }
}
