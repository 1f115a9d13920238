import CloudMountDaemon
import Glibc
import Testing

@Suite("Signals")
struct SignalTests {
    @Test("Where children were inherited as ignored, how they end is heard all the same")
    func children() async {
        await #expect(processExitsWith: .exitCode(ExitStatus.noDaemon.rawValue)) {
            signal(SIGCHLD, SIG_IGN)
            ForegroundProcess.run { _ in
                var child = pid_t()
                var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
                guard posix_spawnp(&child, "true", nil, nil, &arguments, environ) == 0 else { return .usage }
                usleep(200_000)
                var status: Int32 = -1
                return waitpid(child, &status, 0) == child && status == 0 ? .noDaemon : .failure
            }
        }
    }

    @Test("No signal that tells of nothing wrong here ends the daemon")
    func ignored() async {
        await #expect(processExitsWith: .exitCode(ExitStatus.noDaemon.rawValue)) {
            ForegroundProcess.run { _ in
                let own: Set = [SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT]
                let faults: Set = [SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGTRAP, SIGSYS]
                let taken: Set = [SIGTERM, SIGINT, SIGQUIT, SIGHUP]
                for number in 1...SIGSYS + 33 where !own.union(faults).union(taken).contains(number) {
                    // 32 and 33 are the C library's own.
                    if number < 32 || number > 33 { kill(getpid(), number) }
                }
                return .noDaemon
            }
        }
    }
}
