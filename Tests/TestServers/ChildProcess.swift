import Glibc
import Synchronization

/// A program started by a test: killed with its whole process group when it is stopped, when the last reference goes, and
/// when the test process ends.
///
/// Standard output and error go to files, so that nothing has to be read while it runs.
public final class ChildProcess: Sendable {
    public enum Exit: Sendable, Equatable, CustomStringConvertible {
        case code(Int32)
        case signal(Int32)
        /// It was killed because its time was over.
        case timedOut

        public var description: String {
            switch self {
            case .code(let code): "exit code \(code)"
            case .signal(let signal): "signal \(signal)"
            case .timedOut: "out of time"
            }
        }
    }

    public let pid: Int32
    private let outputPath: String
    private let errorPath: String
    private let folder: TemporaryFolder
    private let duty: Reaper.Duty
    private let exit = Mutex<Exit?>(nil)

    /// - Parameters:
    ///   - arguments: the program (looked up in PATH) and its arguments.
    ///   - environment: added to the environment of this process.
    /// - Throws: `TestSupportError` when it does not start.
    public init(
        _ arguments: [String], environment: [String: String] = [:], directory: String? = nil, input: String = ""
    ) throws {
        folder = try TemporaryFolder("child")
        outputPath = folder.path + "/stdout"
        errorPath = folder.path + "/stderr"
        let inputPath = folder.path + "/stdin"
        try writeFile(inputPath, Array(input.utf8))
        let descriptors = [
            open(inputPath, O_RDONLY | O_CLOEXEC),
            open(outputPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600),
            open(errorPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600),
        ]
        defer { for descriptor in descriptors { close(descriptor) } }
        let merged = inheritedEnvironment().merging(environment) { $1 }.map { "\($0)=\($1)" }
        pid = try spawn(
            (directory.map { ["/usr/bin/env", "-C", $0] } ?? []) + arguments, environment: merged,
            input: descriptors[0], output: descriptors[1], error: descriptors[2])
        duty = Reaper.atEnd("kill -CONT -\(pid); kill -KILL -\(pid)")
    }

    deinit { stop() }

    public var output: String { readFile(outputPath) }
    public var errors: String { readFile(errorPath) }
    /// Both streams, for messages.
    public var transcript: String { output + errors }

    /// How it ended; nil while it runs. Never waits.
    public func poll() -> Exit? {
        exit.withLock { exit in
            if let exit { return exit }
            var status: Int32 = 0
            guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
            let signal = status & 0x7f
            let end: Exit = signal == 0 ? .code((status >> 8) & 0xff) : .signal(signal)
            exit = end
            Reaper.withdraw(duty)
            return end
        }
    }

    /// Waits for its end without holding a thread; kills it when the time is over.
    public func wait(seconds: Double = 120) async -> Exit {
        if let end = await waitOnly(seconds: seconds) { return end }
        stop()
        return .timedOut
    }

    /// Waits for its end, and lets it run on when the time is over (nil).
    public func waitOnly(seconds: Double) async -> Exit? {
        let deadline = ContinuousClock.now + .seconds(seconds)
        var pause = 2
        while true {
            if let end = poll() { return end }
            if ContinuousClock.now >= deadline { return nil }
            try? await Task.sleep(for: .milliseconds(pause))
            if Task.isCancelled { usleep(2_000) }
            pause = min(pause * 2, 50)
        }
    }

    /// Sends a signal to the process alone.
    public func signal(_ number: Int32) {
        if poll() == nil { kill(pid, number) }
    }

    /// SIGSTOP and SIGCONT to its process group: a server that hangs.
    public func pause() { signalGroup(SIGSTOP) }
    public func resume() { signalGroup(SIGCONT) }

    /// Kills the process group and waits (five seconds at most) until the process is gone.
    public func stop() {
        guard poll() == nil else { return }
        signalGroup(SIGCONT)
        signalGroup(SIGKILL)
        for _ in 0..<5_000 where poll() == nil { usleep(1_000) }
    }

    private func signalGroup(_ number: Int32) {
        if poll() == nil { kill(-pid, number) }
    }
}

extension ChildProcess {
    public struct Result: Sendable {
        public let exit: Exit
        public let output: String
        public let errors: String
        public var succeeded: Bool { exit == .code(0) }
    }

    /// Runs a program to its end.
    public static func run(
        _ arguments: [String], environment: [String: String] = [:], directory: String? = nil, input: String = "",
        seconds: Double = 120
    ) async throws -> Result {
        let child = try ChildProcess(arguments, environment: environment, directory: directory, input: input)
        let exit = await child.wait(seconds: seconds)
        return Result(exit: exit, output: child.output, errors: child.errors)
    }

    /// Runs a program to its end and gives its output.
    /// - Throws: `TestSupportError` with what it printed when it does not exit with 0.
    @discardableResult
    public static func output(
        of arguments: [String], environment: [String: String] = [:], directory: String? = nil, input: String = "",
        seconds: Double = 120
    ) async throws -> String {
        let result = try await run(
            arguments, environment: environment, directory: directory, input: input, seconds: seconds)
        guard result.succeeded else {
            throw TestSupportError(
                "\(arguments.joined(separator: " ").prefix(400)): \(result.exit)\n\(result.output)\(result.errors)")
        }
        return result.output
    }
}
