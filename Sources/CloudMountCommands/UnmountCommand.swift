import ArgumentParser
import CloudMountDaemon
import CloudMountVFS
import Glibc

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
        let answer = try source.ask(ControlRequest(.unmount, target: target.map(absolute), lazy: lazy))
        if !answer.ok { throw ExitStatus.failure.error(answer.error ?? "refused") }
        for remark in answer.remarks ?? [] { print(remark.printable) }
    }

    /// A path as the daemon knows it: absolute, without a slash at its end. The file system is not asked.
    private func absolute(_ target: String) -> String {
        guard target.utf8.contains(UInt8(ascii: "/")) || target == "." else { return target }
        var path = target
        if path.utf8.first != UInt8(ascii: "/"), let here = getcwd(nil, 0) {
            path = String(cString: here) + "/" + path
            free(here)
        }
        var components: [Substring] = []
        for component in path.utf8.split(separator: UInt8(ascii: "/")).map(Substring.init) where component != "." {
            if component == ".." { _ = components.popLast() } else { components.append(component) }
        }
        return "/" + components.joined(separator: "/")
    }
}
