import ArgumentParser
import CloudMountDaemon
import Glibc

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows what the daemon is doing.",
        discussion: """
            Exits with 0 when all mounts meant do what they should, with 1 when one is not mounted, its store does not answer \
            or refuses, files could not be stored, or a mount does not tell its figures; with 3 when no daemon runs. With --json as one stable document: members are \
            added to it, never renamed or taken away.
            """)

    @OptionGroup var source: ConfigurationFile
    @Flag(help: "As JSON.")
    var json = false
    @Flag(help: "Again every second.")
    var watch = false
    @Argument(help: "Name or path of the mount. (default: all)")
    var target: String?

    func run() throws {
        while true {
            let target = target.map(ConfigurationFile.nameOrPath)
            let answer = try source.ask(ControlRequest(.status), of: target)
            guard var status = answer.status else { throw ExitStatus.failure.error(answer.error ?? "refused") }
            if let target { status.mounts = try MountReadiness.chosen([target], of: status) }
            let text = json ? try ControlJSON.pretty(status) + "\n" : StatusTable.text(status)
            // Home and clear, on a terminal.
            let clear = watch && !json && isatty(STDOUT_FILENO) == 1 ? "\u{1B}[H\u{1B}[2J" : ""
            print(clear + text, terminator: "")
            guard watch else {
                let isWell = status.mounts.allSatisfy { $0.complaint == nil }
                if !isWell { throw ExitStatus.failure.error() }
                return
            }
            fflush(nil)
            sleep(1)
        }
    }
}
