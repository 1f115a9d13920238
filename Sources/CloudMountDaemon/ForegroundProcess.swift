import Glibc

/// A process whose main thread does nothing but take SIGTERM, SIGINT, SIGQUIT and SIGHUP, so that no code ever runs inside a signal
/// handler.
///
/// The signals are blocked in every thread. (Were the main thread left to Dispatch, it would unblock them.)
public enum ForegroundProcess {
    /// SIGSTKFLT, which no kernel raises, but which anybody may send.
    private static let stackFault: Int32 = 16

    /// Runs `body` in a task and exits with its status. Call it from the main thread, before any other has been started.
    /// Ignored: SIGPIPE; SIGXFSZ, so that a file that grows beyond `ulimit -f` is an error of that write (EFBIG) and not the end; and
    /// all others whose default would be the end and that tell of no fault of this program: of users, timers and devices.
    /// - Parameter body: is given every SIGTERM, SIGINT, SIGQUIT and SIGHUP that arrives. Nothing may need the main actor.
    public static func run(_ body: @escaping @Sendable (AsyncStream<Int32>) async -> ExitStatus) -> Never {
        // Inherited as ignored, the kernel would reap the programs that we start before we hear how they ended.
        signal(SIGCHLD, SIG_DFL)
        var set = sigset_t()
        sigemptyset(&set)
        for taken in [SIGTERM, SIGINT, SIGQUIT, SIGHUP] { sigaddset(&set, taken) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        let ignored = [
            SIGPIPE, SIGXFSZ, SIGXCPU, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, stackFault,
        ]
        for number in ignored { signal(number, SIG_IGN) }
        for number in __libc_current_sigrtmin()...__libc_current_sigrtmax() { signal(number, SIG_IGN) }
        let (signals, arrived) = AsyncStream.makeStream(of: Int32.self)
        Task.detached { exit(await body(signals).rawValue) }
        while true {
            var number: Int32 = 0
            if sigwait(&set, &number) == 0 { arrived.yield(number) }
        }
    }
}
