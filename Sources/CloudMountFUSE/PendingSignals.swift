import CloudMountPlatform
import Glibc

/// The signals that have been sent to a thread and that it will take as soon as its system call returns.
struct PendingSignals: Equatable, Sendable {
    /// Bit `n - 1` for signal `n`, as in proc_pid_status(5).
    var mask: UInt64

    init(mask: UInt64) { self.mask = mask }

    /// - Parameter text: `/proc/THREAD/status`.
    init?(status text: some StringProtocol) {
        var masks: [Substring: UInt64] = [:]
        for line in text.split(separator: "\n") where line.hasPrefix("S") {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            masks[Substring(parts[0])] = UInt64(parts[1].drop { $0 == "\t" || $0 == " " }, radix: 16)
        }
        guard let thread = masks["SigPnd"], let process = masks["ShdPnd"] else { return nil }
        mask = (thread | process) & ~(masks["SigBlk"] ?? 0) & ~(masks["SigIgn"] ?? 0)
    }

    /// Nil when the system does not tell.
    init?(thread: Int32) {
        guard thread > 0 else { return nil }
        let raw = open("/proc/\(thread)/status", O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return nil }
        let descriptor = Descriptor(owning: raw)
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = bytes.withUnsafeMutableBytes { read(descriptor.raw, $0.baseAddress, $0.count) }
        guard count > 0 else { return nil }
        self.init(status: String(decoding: bytes.prefix(count), as: UTF8.self))
    }

    private func contains(_ signals: [Int32]) -> Bool { signals.contains { mask & (1 << UInt64($0 - 1)) != 0 } }

    /// Whether who has waited so long for an answer should get EINTR instead. Somebody wants the program to end: at once. A
    /// timer that the program has set: when it is the wait that takes long. News (a child's end, urgent data, a
    /// window's size) can wait, and so can a thread without signals, which the kernel wakes for reasons of its own.
    func endWait(after waited: Duration) -> Bool {
        if contains([SIGKILL, SIGINT, SIGTERM, SIGHUP, SIGQUIT]) { return true }
        let news = [SIGURG, SIGCHLD, SIGWINCH, SIGPROF, SIGVTALRM, SIGIO, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGSTOP]
        let others = (1...64).map { Int32($0) }.filter { !news.contains($0) }
        return waited > .seconds(3) && contains(others)
    }
}
