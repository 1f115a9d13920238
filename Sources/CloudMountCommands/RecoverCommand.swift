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
            'cloudmount status' tells of it. Daemons that mounts by URL or fstab have for themselves are asked too, and the \
            caches of daemons that do not run are looked at.

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
    /// For the package: exits with 0 when this cache has nothing that no store has, and no daemon holds it.
    @Option(help: .hidden)
    var empty: String?
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
        if let empty {
            do throws(VFSError) {
                if try OfflineRecovery.isEmpty(ConfigurationFile.absolute(empty)) { return }
            } catch { throw ExitStatus.failure.error(error.message) }
            throw ExitStatus.failure.error("\(empty.printable) has what no store has")
        }
        let request = ControlRequest(.recover, target: mount, name: name)
        let answer = try ask(request)
        let kept = answer.kept ?? []
        if json {
            print(try ControlJSON.pretty(kept))
        } else if let to, let file = kept.first {
            try copy(file, to, request)
        } else if discard, let file = kept.first {
            try discard(file)
        } else if !kept.isEmpty {
            print(kept.map(Self.text).joined(separator: "\n"))
        }
        if let unnamed = answer.unnamed {
            TerminalLog.write("\(unnamed) more are kept, too many to be named at a time\n")
        }
    }

    private func copy(_ file: KeptFile, _ path: String, _ request: ControlRequest) throws {
        let copied: KeptFile.Copied
        do throws(VFSError) { copied = try file.copy(to: path) } catch {
            throw ExitStatus.failure.error(error.message)
        }
        // Nobody held it meanwhile: a mount that came up may have taken it, and written to it.
        let now: KeptFile?
        do { now = try ask(request).kept?.first } catch {
            TerminalLog.write("\(path.printable) was written; whether it is what was kept is not known:\n")
            throw error
        }
        guard let now, now.place == file.place, now.size == file.size, now.ranges == file.ranges else {
            unlink(path)
            throw ExitStatus.failure.error("it has changed meanwhile, so nothing is copied")
        }
        print(Self.text(copied, file, path))
    }

    private func discard(_ file: KeptFile) throws {
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
        _ = try ask(ControlRequest(.recover, target: mount, name: file.name, discard: true))
    }

    private func ask(_ request: ControlRequest) throws -> ControlAnswer { try RecoverySources(source).ask(request) }

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
