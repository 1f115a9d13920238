import CloudMountPlatform
import Glibc

/// SIGTERM and SIGINT as values. They are blocked in every thread and taken by one that waits for them, so that no code
/// ever runs inside a signal handler.
public enum SignalStream {
    private static var watched: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        return set
    }

    /// Blocks the signals in this thread and in those that it will start. First thing in `main`, before any other thread.
    /// Also ignores SIGPIPE.
    public static func block() {
        var set = watched
        pthread_sigmask(SIG_BLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
    }

    /// Every SIGTERM and SIGINT from now on. Once a process.
    static func signals() -> AsyncStream<Int32> {
        AsyncStream { continuation in
            NamedThread("cm-signals") {
                var set = watched
                while true {
                    var number: Int32 = 0
                    if sigwait(&set, &number) == 0 { continuation.yield(number) }
                }
            }.detach()
        }
    }
}
