import ArgumentParser
import CloudMountDaemon
import CloudMountVFS

struct ReloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload",
        abstract: "Makes the running daemon go by its file as it is now.",
        discussion: """
            A file that is wrong changes nothing, and what is wrong with it is told. Policies, credentials, owners and limits \
            change while the mounts are in use. Another path, bucket, prefix, option of the store, read_only or allow_other \
            needs a remount, which is done as soon as nobody uses the mount; so is the removal of a mount. A mount that was \
            unmounted and is still in the file is mounted again.
            """)

    @OptionGroup var source: ConfigurationFile
    @Flag(help: "Remount and remove also what is in use; programs keep the files that they have open.")
    var force = false
    @Flag(help: "Only tell what would be done.")
    var dryRun = false
    @Flag(help: "As JSON.")
    var json = false

    func run() throws {
        try Self.tell(try source.ask(ControlRequest(.reload, force: force, dryRun: dryRun)), json: json)
    }

    /// - Throws: what the answer's exit code is.
    static func tell(_ answer: ControlAnswer, json: Bool = false) throws {
        if let report = answer.reload {
            for warning in report.warnings { TerminalLog.write("\(warning.printable) (warning)\n") }
            print(json ? try ControlJSON.pretty(report) + "\n" : report.text, terminator: "")
        }
        if answer.isWrongConfiguration == true { throw ExitStatus.configuration.error(answer.error) }
        if !answer.ok { throw ExitStatus.failure.error(answer.error) }
    }
}
