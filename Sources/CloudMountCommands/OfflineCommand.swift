import ArgumentParser
import CloudMountDaemon
import CloudMountVFS

struct OfflineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "offline", abstract: "Has a mount work as if its store could not be reached, or ends that.",
        discussion: """
            While it is on the store is asked nothing: with offline: serve what is known is shown and written back as in an outage, the \
            rest is an error at once. 'status' shows it. It ends with 'off', and when the mount or the daemon is started again.
            """)

    enum Switch: String, ExpressibleByArgument, CaseIterable { case on, off }

    @OptionGroup var source: ConfigurationFile
    @Argument(help: "Name of a mount, or a path in it.")
    var target: String
    @Argument(help: "on or off.")
    var to: Switch

    func run() throws {
        var request = try ConfigurationFile.request(.offline, at: [target])
        request.offline = to == .on
        let answer = try source.ask(request, of: ConfigurationFile.nameOrPath(target))
        if !answer.ok { throw ExitStatus.failure.error(answer.error ?? "refused") }
        for remark in answer.remarks ?? [] { print(remark.printable) }
    }
}
