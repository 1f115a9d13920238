import CloudMountConfig
import CloudMountPlatform
import CloudMountVFS
import Glibc
public import Logging
import Synchronization

/// What all loggers of the process go by; may change at any time.
public final class LogOutput: Sendable {
    private let state: Mutex<(level: Logger.Level, format: TerminalLog.Format)>
    /// Lines begin with `<N>`, the priority as syslog has it; lines of text have no time then, which the journal knows itself.
    public let isJournal: Bool

    public init(level: Logger.Level, format: TerminalLog.Format, isJournal: Bool = false) {
        state = Mutex((level, format))
        self.isJournal = isJournal
    }

    /// Whether standard error is a stream of the journal, by what it says it has given the process.
    public static func isJournal(environment: [String: String]) -> Bool {
        var status = stat()
        guard let stream = environment["JOURNAL_STREAM"], fstat(STDERR_FILENO, &status) == 0 else { return false }
        return stream == "\(status.st_dev):\(status.st_ino)"
    }

    public var level: Logger.Level { state.withLock { $0.level } }
    public var format: TerminalLog.Format { state.withLock { $0.format } }

    func set(_ log: Configuration.Log) {
        state.withLock { state in
            state.level = Logger.Level(rawValue: log.level) ?? state.level
            state.format = TerminalLog.Format(rawValue: log.format.rawValue) ?? state.format
        }
    }
}

/// Log lines on standard error, for people or for machines.
public struct TerminalLog: LogHandler {
    public enum Format: String, Sendable, CaseIterable { case text, json }

    /// Of this logger alone; nil: as the process has it.
    private var ownLevel: Logger.Level?
    public var metadata: Logger.Metadata = [:]
    public var metadataProvider: Logger.MetadataProvider?
    private let label: String
    private let output: LogOutput

    public init(label: String, output: LogOutput) {
        self.label = label
        self.output = output
    }

    /// With a level and a format that stay.
    public init(label: String, level: Logger.Level, format: Format) {
        self.init(label: label, output: LogOutput(level: level, format: format))
    }

    public var logLevel: Logger.Level {
        get { ownLevel ?? output.level }
        set { ownLevel = newValue }
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        var all = metadata
        if let more = metadataProvider?.get() { all.merge(more) { _, new in new } }
        if let more = event.metadata { all.merge(more) { _, new in new } }
        let line = line(SystemClock.now(), event.level, event.message.description, all)
        LogWriter.standardError.write(line + "\n") { [self] count in
            self.line(SystemClock.now(), .warning, Self.missing(count), [:]) + "\n"
        }
    }

    /// Writes to standard error and waits until it is taken: for commands that a person waits for, not for a daemon.
    public static func write(_ text: String) { LogWriter.put(text, to: STDERR_FILENO) }

    /// As `write`, in turn with the lines of the log, without waiting.
    public static func post(_ text: String) {
        LogWriter.standardError.write(text) { missing($0) + "\n" }
    }

    private static func missing(_ count: Int) -> String {
        "\(count) \(count == 1 ? "line is" : "lines are") missing here: the log was not taken in time"
    }

    func line(_ time: Timestamp, _ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata) -> String {
        let sorted = metadata.sorted { $0.key < $1.key }.map { ($0.key, $0.value.description) }
        let priority = output.isJournal ? "<\(Self.priority(level))>" : ""
        switch output.format {
        case .text:
            let fields = sorted.map { " \($0)=\(Self.quotedIfNeeded($1))" }.joined()
            let start = output.isJournal ? priority : "\(Self.utc(time)) \(level.rawValue.uppercased()) "
            return "\(start)\(Self.printable(message))\(fields)"
        case .json:
            let members =
                [("time", Self.utc(time)), ("level", level.rawValue), ("label", label), ("message", message)] + sorted
            return priority + "{" + members.map { "\(Self.json($0)):\(Self.json($1))" }.joined(separator: ",") + "}"
        }
    }

    /// As syslog(3) has them.
    private static func priority(_ level: Logger.Level) -> Int {
        switch level {
        case .critical: 2
        case .error: 3
        case .warning: 4
        case .notice: 5
        case .info: 6
        case .debug, .trace: 7
        }
    }

    /// RFC 3339, milliseconds.
    static func utc(_ time: Timestamp) -> String {
        var seconds = time_t(time.seconds)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func padded(_ number: Int, _ width: Int = 2) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
        }
        let day =
            "\(padded(Int(parts.tm_year) + 1900, 4))-\(padded(Int(parts.tm_mon) + 1))-\(padded(Int(parts.tm_mday)))"
        let clock = "\(padded(Int(parts.tm_hour))):\(padded(Int(parts.tm_min))):\(padded(Int(parts.tm_sec)))"
        return "\(day)T\(clock).\(padded(time.nanoseconds / 1_000_000, 3))Z"
    }

    private static func quotedIfNeeded(_ text: String) -> String {
        let plain =
            !text.isEmpty
            && text.unicodeScalars.allSatisfy { $0.isPrintable && $0 != " " && $0 != "\"" && $0 != "=" }
        return plain ? text : json(text)
    }

    /// Control characters of strangers reach no terminal.
    private static func printable(_ text: String) -> String {
        text.unicodeScalars.allSatisfy(\.isPrintable) ? text : String(json(text).dropFirst().dropLast())
    }

    private static func json(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            default:
                if !scalar.isPrintable {
                    let hex = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - hex.utf8.count) + hex
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        return result + "\""
    }
}
