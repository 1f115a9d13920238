import ArgumentParser
import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS
import Glibc

struct SyncCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sync", abstract: "Waits until the store has what was written.",
        discussion: """
            What files at or below the paths hold and their store does not have is stored now, without the pause of \
            write_delay, also what could not be stored before. Exits with 1, and names each file and the reason, when something is \
            not stored in the end: without --timeout after one attempt, which lasts for as long as the policy's deadline; \
            with it, what the store could not be reached for is tried again until then. What is not stored stays as safe \
            as it was and is tried again by itself.
            """)

    @OptionGroup var source: ConfigurationFile
    @Option(help: ArgumentHelp("Wait no longer than this.", valueName: "30s"))
    var timeout: String?
    @Flag(help: "As JSON.")
    var json = false
    @Argument(
        help: "Names of mounts, or paths in mounts (./name for one of the current folder). (default: all mounts)")
    var targets: [String] = []

    func validate() throws {
        if let timeout, Units.time(timeout) == nil {
            throw ValidationError("--timeout takes a duration such as 30s or 2m, not '\(timeout)'.")
        }
    }

    func run() throws {
        let limit = timeout.flatMap(Units.time)
        let start = ContinuousClock.now
        let onTerminal = isatty(STDERR_FILENO) == 1 && !json
        let answers = try source.askAll(targets) { words in
            var request = try ConfigurationFile.request(.sync, at: words)
            request.limit = limit.map { max(.zero, $0 - (.now - start)) }
            return request
        } progress: { progress in
            guard onTerminal, let report = progress.sync else { return }
            TerminalLog.write("\r\u{1B}[K\(Self.line(report))")
        }
        if onTerminal { TerminalLog.write("\r\u{1B}[K") }
        let reports = answers.compactMap(\.sync)
        let report = reports.reduce(into: SyncReport()) { $0.add($1) }
        if json, !reports.isEmpty { print(try ControlJSON.pretty(report)) }
        guard let failed = answers.first(where: { !$0.ok }) else { return }
        let faults = answers.filter { $0.sync == nil }.map { $0.error ?? "refused" }
        let lines = faults + [Self.failures(report)].filter { !$0.isEmpty }
        throw ExitStatus.failure.error(lines.isEmpty ? failed.error : lines.joined(separator: "\n"))
    }

    static func line(_ report: SyncReport) -> String {
        "\(report.storedFiles) of \(report.files) files (\(Units.rounded(bytes: report.storedBytes)) of "
            + "\(Units.rounded(bytes: report.bytes))) are stored, \(Units.rounded(bytes: report.sentBytes)) sent"
    }

    static func failures(_ report: SyncReport) -> String {
        var lines = report.unstored.map { file in
            "\(file.mount): \(file.path) (\(Units.rounded(bytes: file.bytes))) is not stored: \(file.error)"
                + (file.stagedPath.isEmpty ? "" : "; its bytes are in \(file.stagedPath)")
        }
        if report.unnamed > 0 { lines.append("\(report.unnamed) more files are not stored") }
        if report.isTimedOut { lines.append("the time is over") }
        return lines.joined(separator: "\n")
    }
}
