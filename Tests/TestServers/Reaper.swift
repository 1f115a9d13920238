import Glibc
import Synchronization

/// Undoes what a test process leaves behind, even when that process is killed.
///
/// One small shell, in a session of its own, reads "undo" commands from a pipe. When the pipe closes, which the kernel
/// sees to however the test process ends, it runs those that are still due, the latest first.
public enum Reaper {
    /// A command that will run when the test process ends, unless it is withdrawn before.
    public struct Duty: Sendable {
        fileprivate let number: Int
    }

    private struct State {
        var pipe: Int32 = -1
        var last = 0
    }

    private static let state = Mutex(State())

    private static let script = """
        trap '' INT TERM HUP
        declare -a due
        while IFS= read -r line; do
            number=${line%% *}; command=${line#* }
            if [ "$command" = - ]; then unset "due[$number]"; else due[$number]=$command; fi
        done
        numbers=(${!due[@]})
        for ((i = ${#numbers[@]} - 1; i >= 0; i--)); do eval "${due[${numbers[i]}]}" >/dev/null 2>&1; done
        """

    /// - Parameter shellCommand: one line; its output goes nowhere.
    public static func atEnd(_ shellCommand: String) -> Duty {
        state.withLock { state in
            if state.pipe < 0 { state.pipe = start() }
            state.last += 1
            send("\(state.last) \(shellCommand)\n", to: state.pipe)
            return Duty(number: state.last)
        }
    }

    /// The command is no longer needed.
    public static func withdraw(_ duty: Duty) {
        state.withLock { state in send("\(duty.number) -\n", to: state.pipe) }
    }

    private static func send(_ line: String, to pipe: Int32) {
        let bytes = Array(line.utf8)
        _ = bytes.withUnsafeBytes { Glibc.write(pipe, $0.baseAddress, $0.count) }
    }

    private static func start() -> Int32 {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        precondition(socketpair(AF_UNIX, kind, 0, &ends) == 0, "no pipe for the reaper")
        let arguments = ["/bin/bash", "-c", script]
        let pid = try? spawn(
            arguments, environment: ["PATH=/usr/bin:/bin:/usr/sbin:/sbin"], input: ends[0], output: nil, error: nil,
            ownSession: true)
        precondition(pid != nil, "the reaper does not start")
        close(ends[0])
        return ends[1]
    }
}

extension String {
    /// The string as one word of a shell command.
    public var shellQuoted: String {
        "'" + split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
}
