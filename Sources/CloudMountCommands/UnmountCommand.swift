import ArgumentParser
import CloudMountDaemon
import CloudMountVFS

struct UnmountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unmount", abstract: "Stores what is not stored yet and unmounts.",
        discussion: "The daemon ends when its last mount has been unmounted.")

    @OptionGroup var source: ConfigurationFile
    @Flag(help: "All mounts.")
    var all = false
    @Flag(help: "Also while files are open: the mount vanishes now and ends when they are closed.")
    var lazy = false
    @Argument(help: "Name or path of the mount.")
    var target: String?

    func validate() throws {
        if all == (target != nil) { throw ValidationError("Give the name or path of one mount, or --all.") }
    }

    func run() throws {
        let target = target.map(ConfigurationFile.nameOrPath)
        let answer = try source.ask(ControlRequest(.unmount, target: target, lazy: lazy), of: target)
        if !answer.ok { throw ExitStatus.failure.error(answer.error ?? "refused") }
        for remark in answer.remarks ?? [] { print(remark.printable) }
    }
}
