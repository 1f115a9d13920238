import ArgumentParser
import CloudMountDaemon
public import CloudMountVFS
import Glibc
import Synchronization

/// The program `cloudmount`, with the providers that it is given. A program with one more kind of store is
///
/// ```swift
/// import BuiltinProviders
/// import CloudMountCommands
/// import TapeProvider
///
/// @main enum Program {
///     static func main() { CloudMountProgram.run(providers: CloudMountProgram.providers + [TapeProvider.descriptor]) }
/// }
/// ```
public enum CloudMountProgram {
    private static let given = Mutex<[ProviderDescriptor]>([])
    private static let spoken = Mutex<[String]>([])

    /// What may stand after `provider:` in `mounts.yaml`.
    static var providers: [ProviderDescriptor] { given.withLock { $0 } }

    /// What was asked for, by the command line or by mount(8), without the program's name.
    static var words: [String] {
        get { spoken.withLock { $0 } }
        set { spoken.withLock { $0 = newValue } }
    }

    /// Does what the command line says, and ends the process.
    /// - Parameter providers: each with a name of its own.
    public static func run(providers: [ProviderDescriptor]) -> Never {
        given.withLock { $0 = providers }
        // Inherited as ignored, nobody would hear how the programs end that a command starts.
        signal(SIGCHLD, SIG_DFL)
        CloudMount.main()
        Glibc.exit(0)
    }
}

struct CloudMount: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cloudmount",
        abstract: "Mounts the buckets of one mounts.yaml.",
        discussion: """
            Without -f the configuration is $CLOUDMOUNT_CONFIG, else ~/.config/cloudmount/mounts.yaml, else \
            /etc/cloudmount/mounts.yaml.

            Exit codes: 0 all is well; 1 something failed; 2 wrong usage; 3 no daemon is running; 78 wrong configuration. \
            'status' exits with 1 when a mount does not do all that it should.
            """,
        version: buildVersion,
        subcommands: [
            MountCommand.self, UnmountCommand.self, AddCommand.self, RemoveCommand.self, EditCommand.self,
            ReloadCommand.self, StatusCommand.self, WaitCommand.self, SyncCommand.self, RefreshCommand.self,
            OfflineCommand.self, RecoverCommand.self, DoctorCommand.self, CheckCommand.self,
            SchemaCommand.self, ProvidersCommand.self,
            VersionCommand.self,
        ])

    /// As mount(8) has it: 0, 1 for wrong words, 32 for what could not be mounted.
    private static func serve(_ program: MountProgram) -> Never {
        func end(_ status: Int32, _ message: String?) -> Never {
            if let message { TerminalLog.write(printable(message) + "\n") }
            Glibc.exit(status)
        }
        if program.isRemount {
            let (status, message) = program.run(environment: ConfigurationFile.environment)
            end(status, message)
        }
        let helper = FstabMount(program)
        do throws(FstabMount.Fault) { CloudMountProgram.words = try helper.words() } catch { end(1, error.message) }
        if program.isFake { end(0, nil) }
        do {
            var command = try parseAsRoot(CloudMountProgram.words)
            try command.run()
        } catch {
            if exitCode(for: error) == .validationFailure { end(1, fullMessage(for: error)) }
            end(32, nil)
        }
        end(0, nil)
    }

    /// Of several lines.
    static func printable(_ message: String) -> String {
        message.split(separator: "\n", omittingEmptySubsequences: false).map(\.printable).joined(separator: "\n")
    }

    /// As the package's own, but wrong usage exits with 2.
    static func main() {
        if let helper = MountProgram(arguments: CommandLine.arguments) { serve(helper) }
        do {
            CloudMountProgram.words = Array(CommandLine.arguments.dropFirst())
            var command = try parseAsRoot(CloudMountProgram.words)
            try command.run()
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
    /// Ends the command with this status, after `message` on standard error. It may have several lines.
    func error(_ message: String? = nil) -> any Error {
        if let message {
            TerminalLog.write(CloudMount.printable(message) + "\n")
        }
        return ExitCode(rawValue)
    }
}
