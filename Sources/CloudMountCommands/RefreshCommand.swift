import ArgumentParser
import CloudMountDaemon
import CloudMountVFS

struct RefreshCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "refresh", abstract: "Has what changed elsewhere seen at once.",
        discussion: """
            What is believed of names and attributes at or below the paths is dropped, whatever metadata_ttl says: who looks next \
            asks the store. What is open stays the version that it is, and nothing that is not stored is lost. A name that has just been \
            found absent may be so for ten seconds more; of a path that is not there yet, name the folder above.
            """)

    @OptionGroup var source: ConfigurationFile
    @Argument(
        help: "Names of mounts, or paths in mounts (./name for one of the current folder). (default: all mounts)")
    var targets: [String] = []

    func run() throws {
        let answers = try source.askAll(targets) { try ConfigurationFile.request(.refresh, at: $0) }
        let faults = answers.filter { !$0.ok }.map { $0.error ?? "refused" }
        if !faults.isEmpty { throw ExitStatus.failure.error(faults.joined(separator: "\n")) }
    }
}
