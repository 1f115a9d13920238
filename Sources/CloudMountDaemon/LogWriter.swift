import CloudMountPlatform
import Glibc
import Synchronization

/// Lines on their way to a descriptor that may not take them: to a terminal that is held, a pipe that nobody reads, a disk that
/// hangs. Whoever writes a line never waits; one thread does. What the queue has no room for is counted, and told in its
/// place once writing works again.
final class LogWriter: Sendable {
    /// What is queued when the process exits has a moment to go out.
    static let standardError: LogWriter = {
        atexit { _ = LogWriter.standardError.flush(milliseconds: 1000) }
        return LogWriter(STDERR_FILENO)
    }()

    /// Says that so many lines are missing.
    typealias Notice = @Sendable (Int) -> String

    private struct Line {
        let text: String
        /// Lines that had no room just before it.
        let lost: Int
        let notice: Notice
    }

    private struct State {
        /// From `head` on.
        var lines: [Line] = []
        var head = 0
        var bytes = 0
        var lost = 0
        /// How the last line that had no room would have it told.
        var notice: Notice?
        var isWriting = false
        var flushers: [CloudMountPlatform.Semaphore] = []
    }

    private let descriptor: Int32
    private let limit: Int
    private let state = Mutex(State())
    private let pool = BlockingPool(name: "cm-log", width: 1)

    /// - Parameters:
    ///   - descriptor: stays open as long as the value lives.
    ///   - limit: bytes that may wait.
    init(_ descriptor: Int32, limit: Int = 1 << 20) {
        self.descriptor = descriptor
        self.limit = limit
    }

    /// Queues `text`, whole lines. Returns at once.
    func write(_ text: String, notice: @escaping Notice) {
        let starts = state.withLock { state in
            let count = text.utf8.count
            guard state.bytes + count <= limit else {
                state.lost += 1
                state.notice = notice
                return false
            }
            state.lines.append(Line(text: text, lost: state.lost, notice: notice))
            state.bytes += count
            state.lost = 0
            defer { state.isWriting = true }
            return !state.isWriting
        }
        if starts { pool.submit { self.drain() } }
    }

    /// Returns when all that was queued is written, or after `milliseconds`. Blocks.
    /// - Returns: whether all is written.
    func flush(milliseconds: Int) -> Bool {
        let done = CloudMountPlatform.Semaphore()
        let isDue = state.withLock { state in
            if state.isWriting { state.flushers.append(done) }
            return state.isWriting
        }
        return !isDue || done.wait(milliseconds: milliseconds)
    }

    private func drain() {
        // A pipe without a reader is an error here, not the end of the process.
        var signals = sigset_t()
        sigfillset(&signals)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        while let line = next() {
            if line.lost > 0 { put(line.notice(line.lost)) }
            put(line.text)
        }
    }

    /// Nil, and the turn of the thread is over, when nothing is left to be told.
    private func next() -> Line? {
        var flushers: [CloudMountPlatform.Semaphore] = []
        let line: Line? = state.withLock { state in
            if state.head < state.lines.count {
                let line = state.lines[state.head]
                state.head += 1
                state.bytes -= line.text.utf8.count
                if state.head > 1024, state.head * 2 > state.lines.count {
                    state.lines.removeFirst(state.head)
                    state.head = 0
                }
                return line
            }
            state.lines = []
            state.head = 0
            if state.lost > 0, let notice = state.notice {
                defer { state.lost = 0 }
                return Line(text: "", lost: state.lost, notice: notice)
            }
            state.isWriting = false
            swap(&flushers, &state.flushers)
            return nil
        }
        for flusher in flushers { flusher.signal() }
        return line
    }

    private func put(_ text: String) { Self.put(text, to: descriptor) }

    /// Writes all of `text`, by one `write(2)` where that takes all, so that lines of several processes do not mix. Waits; what
    /// an error keeps from being written is lost.
    static func put(_ text: String, to descriptor: Int32) {
        var text = text
        text.withUTF8 { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                if count > 0 {
                    done += count
                } else if count < 0, errno == EAGAIN {
                    var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = poll(&polled, 1, -1)
                } else if count == 0 || errno != EINTR {
                    return
                }
            }
        }
    }
}
