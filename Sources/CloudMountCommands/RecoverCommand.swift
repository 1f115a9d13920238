import ArgumentParser
import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS
import Glibc

struct RecoverCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recover",
        abstract: "Names what is kept of files that are never stored by themselves, and gives it back.",
        discussion: """
            Such are files that somebody else changed meanwhile, so that theirs and ours could not both be kept; what was \
            written to another bucket than the mount has now; what a mount that is not in the file has left; and bytes \
            that no record names. What only waits for its store is not listed: it is stored by itself, and \
            'cloudmount status' tells of it. Works also while no daemon runs.

              cloudmount recover                                  names all
              cloudmount recover photos                           those of one mount
              cloudmount recover photos NAME --to /tmp/rescued    copies the bytes to a new file
              cloudmount recover photos NAME --discard            takes them away for good
            """)

    @OptionGroup var source: ConfigurationFile
    @Option(help: ArgumentHelp("Copy the bytes to this file, which must not exist yet.", valueName: "file"))
    var to: String?
    @Flag(help: "Take the bytes away, for good, after asking.")
    var discard = false
    @Flag(help: "Do not ask.")
    var yes = false
    @Flag(help: "As JSON.")
    var json = false
    @Argument(help: "Name of the mount. (default: all)")
    var mount: String?
    @Argument(help: "Name of what is kept, or its path in the mount.")
    var name: String?

    func validate() throws {
        if to != nil || discard, name == nil { throw ValidationError("Give the mount and the name of what is kept.") }
        if to != nil, discard { throw ValidationError("Copy first, and discard when you have seen the copy.") }
        if json, to != nil || discard { throw ValidationError("--json only tells.") }
        if yes, !discard { throw ValidationError("--yes belongs to --discard.") }
    }

    func run() throws {
        let offline = Offline(source)
        defer { offline.close() }
        let kept = try ask(ControlRequest(.recover, target: mount, name: name), offline)
        if json { return print(try ControlJSON.pretty(kept)) }
        if let to, let file = kept.first { return try copy(file, to) }
        if discard, let file = kept.first { return try discard(file, offline) }
        if kept.isEmpty { return }
        print(kept.map(Self.text).joined(separator: "\n"))
    }

    private func copy(_ file: KeptFile, _ path: String) throws {
        do throws(VFSError) {
            print(Self.text(try file.copy(to: path), file, path))
        } catch {
            throw ExitStatus.failure.error(error.message)
        }
    }

    private func discard(_ file: KeptFile, _ offline: Offline) throws {
        if !yes {
            guard isatty(STDIN_FILENO) == 1 else {
                throw ExitStatus.usage.error("nobody can be asked; --yes does not ask")
            }
            TerminalLog.write("\(Self.text(file))\nTake it away, for good? [y/N] ")
            guard ["y", "yes"].contains(readLine()?.lowercased()) else {
                throw ExitStatus.failure.error("nothing was done")
            }
        }
        // By what it is called, which nothing else ever is.
        let request = ControlRequest(.recover, target: mount, name: file.name, discard: true)
        _ = try ask(request, offline)
    }

    private func ask(_ request: ControlRequest, _ offline: Offline) throws -> [KeptFile] {
        let answer = try offline.answer(request)
        guard answer.ok, let kept = answer.kept else { throw ExitStatus.failure.error(answer.error ?? "refused") }
        return kept
    }

    /// The daemon, or what it would say where there is none.
    private final class Offline {
        private let source: ConfigurationFile
        private var recovery: OfflineRecovery?

        init(_ source: ConfigurationFile) { self.source = source }

        func answer(_ request: ControlRequest) throws -> ControlAnswer {
            if let recovery { return recovery.ask(request) }
            if let answer = try source.askIfRunning(request) { return answer }
            let configuration = try source.load(quietly: true)
            do throws(VFSError) {
                guard let opened = try OfflineRecovery(configuration) else {
                    let isKnown =
                        request.target.map { name in configuration.mounts.contains { $0.name == name } } ?? true
                    if isKnown, request.name == nil { return ControlAnswer(kept: []) }
                    return ControlAnswer(ok: false, error: "nothing is kept in \(configuration.cache.directory)")
                }
                recovery = opened
                if let warning = opened.warning { TerminalLog.write("\(warning.printable) (warning)\n") }
                return opened.ask(request)
            } catch {
                throw ExitStatus.failure.error(error.message)
            }
        }

        func close() { recovery?.close() }
    }

    // MARK: Words

    static func text(_ file: KeptFile) -> String {
        var facts = ["kept \(Units.rounded(bytes: file.bytes))"]
        if let size = file.size { facts.insert("\(Units.rounded(bytes: size)) as written", at: 0) }
        if file.isWhole == false { facts.append("not all of it") }
        let since = file.since == 0 ? "" : " since \(file.sinceText)"
        let what = file.key.map { $0.isEmpty ? "?" : $0 } ?? "?"
        let lines = [
            "\(file.name)",
            "    \(file.mount.isEmpty ? "?" : file.mount): \(what) (\(facts.joined(separator: ", ")))\(since)",
            "    \(file.reason)", file.place.isEmpty ? "" : "    \(file.place)",
        ]
        return lines.filter { !$0.isEmpty }.map(\.printable).joined(separator: "\n")
    }

    static func text(_ copied: KeptFile.Copied, _ file: KeptFile, _ path: String) -> String {
        if file.isWhole == true { return "\(path.printable) is the whole file as it was written, \(copied.size) bytes" }
        let count = copied.ranges.reduce(0) { $0 + $1.count }
        let some = copied.ranges.prefix(20).map { "\($0.lowerBound)-\($0.upperBound - 1)" }.joined(separator: ", ")
        let more = copied.ranges.count > 20 ? " and \(copied.ranges.count - 20) more" : ""
        let rest = file.isWhole == nil ? "what it was part of is not known" : "the rest was never here and is zeros"
        return "\(path.printable) has \(count) of \(copied.size) bytes, at \(some)\(more); \(rest)"
    }
}
