public import Glibc

/// What waiting for programs needs that must end.
public enum ChildProcess {
    /// Blocks until a child has ended or `deadline` (of `SystemClock.monotonic`) has passed.
    /// - Returns: its status, as waitpid(2) gives it, or -1 when somebody else has taken note of its end; nil when it has
    ///   not ended.
    public static func wait(for process: pid_t, until deadline: UInt64) -> Int32? {
        var status: Int32 = 0
        while true {
            let ended = waitpid(process, &status, WNOHANG)
            if ended == process { return status }
            if ended < 0, errno != EINTR { return -1 }
            if SystemClock.monotonic() >= deadline { return nil }
            usleep(2000)
        }
    }

    /// Ends a child at once, or with `group` its whole process group. It dies as soon as the kernel lets it, and a thread
    /// takes note of that.
    public static func end(_ process: pid_t, group: Bool = false) {
        kill(group ? -process : process, SIGKILL)
        _ = NamedThread.start("cm-reap") { while waitpid(process, nil, 0) < 0 && errno == EINTR {} }
    }
}
