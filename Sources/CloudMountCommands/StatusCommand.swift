import ArgumentParser
import CloudMountDaemon
import Glibc

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows what the daemon is doing.",
        discussion: "With --json as one stable document: members are added to it, never renamed or taken away.")

    @OptionGroup var source: ConfigurationFile
    @Flag(help: "As JSON.")
    var json = false
    @Flag(help: "Again every second.")
    var watch = false

    func run() throws {
        while true {
            let answer = try source.ask(ControlRequest(.status))
            guard let status = answer.status else { throw ExitStatus.failure.error(answer.error ?? "refused") }
            let text = json ? try ControlJSON.pretty(status) + "\n" : StatusTable.text(status)
            // Home and clear, on a terminal.
            let clear = watch && !json && isatty(STDOUT_FILENO) == 1 ? "\u{1B}[H\u{1B}[2J" : ""
            print(clear + text, terminator: "")
            guard watch else { return }
            fflush(nil)
            sleep(1)
        }
    }
}
