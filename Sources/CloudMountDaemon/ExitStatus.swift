/// How `cloudmount` ends.
public enum ExitStatus: Int32, Sendable, CaseIterable {
    case success = 0
    /// Something failed: the daemon could not start, bytes were left, a request was refused.
    case failure = 1
    /// The command line is wrong.
    case usage = 2
    /// No daemon is listening at the control socket.
    case noDaemon = 3
    /// `mounts.yaml` is wrong (EX_CONFIG of sysexits.h).
    case configuration = 78
}
