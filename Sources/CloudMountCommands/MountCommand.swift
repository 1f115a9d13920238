public import ArgumentParser
import CloudMountConfig
public import CloudMountDaemon
import CloudMountVFS
import Glibc
public import Logging

struct MountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mount", abstract: "Mounts, and serves until everything is unmounted (in the foreground).",
        discussion: """
            SIGTERM and SIGINT store what is not stored yet and unmount; a second one gives that up. A mount that fails \
            is tried again while the others serve. When every mount has been unmounted the command ends. SIGHUP reads the \
            file again, as 'cloudmount reload' does.
            """)

    @OptionGroup var source: ConfigurationFile
    @Option(help: "trace, debug, info, notice, warning, error or critical. (default: what the file says, or notice)")
    var logLevel: Logger.Level?
    @Option(help: "text or json. (default: what the file says, or text)")
    var logFormat: TerminalLog.Format?
    @Argument(help: "Only these mounts. (default: all)")
    var names: [String] = []

    func run() throws {
        let configuration = try source.load(quietly: true)
        for name in names where !configuration.mounts.contains(where: { $0.name == name }) {
            let known = configuration.mounts.map(\.name).joined(separator: ", ")
            throw ExitStatus.usage.error("there is no mount '\(name)' in \(configuration.file); there are \(known)")
        }
        let chosen = chosen(of: configuration)
        let output = LogOutput(
            level: Logger.Level(rawValue: chosen.log.level) ?? .notice,
            format: TerminalLog.Format(rawValue: chosen.log.format.rawValue) ?? .text,
            isJournal: LogOutput.isJournal(environment: ConfigurationFile.environment))
        LoggingSystem.bootstrap { TerminalLog(label: $0, output: output) }
        let onTerminal = isatty(STDERR_FILENO) == 1
        let logger = Logger(label: "cloudmount")
        for warning in chosen.warnings {
            if chosen.log.format == .json || output.isJournal {
                logger.warning("\(warning.description)")
            } else {
                TerminalLog.write("\(warning.description.printable) (warning)\n")
            }
        }
        let (path, environment) = (source.path, ConfigurationFile.environment)
        let notices = ServiceNotices(environment: environment)
        // They are for this process alone, not for the programs that it starts.
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] { unsetenv(name) }
        let daemon = Daemon(
            configuration: chosen, logger: logger, output: output, notices: notices,
            load: { [self] () throws(ConfigurationError) in
                self.chosen(
                    of: try Configuration.load(
                        file: path, providers: CloudMountProgram.providers, environment: environment))
            },
            announce: { line in
                if onTerminal { TerminalLog.post(line.printable + "\n") } else { logger.notice("\(line)") }
            })
        ForegroundProcess.run { signals in await daemon.run(signals: signals) }
    }

    /// What the command line makes of a file.
    private func chosen(of file: Configuration) -> Configuration {
        var configuration = file
        if !names.isEmpty { configuration.mounts.removeAll { !names.contains($0.name) } }
        if let logLevel { configuration.log.level = logLevel.rawValue }
        if let logFormat { configuration.log.format = Configuration.Log.Format(rawValue: logFormat.rawValue) ?? .text }
        return configuration
    }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}
extension TerminalLog.Format: ExpressibleByArgument {}
