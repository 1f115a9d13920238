import ArgumentParser
import CloudMountDaemon
import Glibc

@main
struct CloudMount: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cloudmount",
        abstract: "Mounts the buckets of one mounts.yaml.",
        discussion: """
            Without -f the configuration is $CLOUDMOUNT_CONFIG, else ~/.config/cloudmount/mounts.yaml, else \
            /etc/cloudmount/mounts.yaml.

            Exit codes: 0 all is well; 1 something failed; 2 wrong usage; 3 no daemon is running; 78 wrong configuration.
            """,
        version: buildVersion,
        subcommands: [
            MountCommand.self, UnmountCommand.self, StatusCommand.self, CheckCommand.self, SchemaCommand.self,
            ProvidersCommand.self, VersionCommand.self,
        ])

    /// Own entry: `mount` blocks signals while the process has one thread, and wrong usage exits with 2.
    @MainActor
    static func main() async {
        do {
            var command = try parseAsRoot()
            if command is MountCommand { SignalStream.block() }
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            if Self.exitCode(for: error) == .validationFailure {
                TerminalLog.write(fullMessage(for: error) + "\n")
                Glibc.exit(ExitStatus.usage.rawValue)
            }
            exit(withError: error)
        }
    }
}

/// Version of this program.
let buildVersion = "0.1.0"

extension ExitStatus {
    /// Ends the command with this status, after `message` on standard error.
    func error(_ message: String? = nil) -> any Error {
        if let message { TerminalLog.write(message + "\n") }
        return ExitCode(rawValue)
    }
}
