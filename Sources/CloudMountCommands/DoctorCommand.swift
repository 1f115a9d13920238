import ArgumentParser
import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS
import Glibc
import Synchronization

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Looks at what mounting needs, on this machine and at the stores, and names a cure for each fault.",
        discussion: """
            Looks at the kernel, /dev/fuse, fusermount3, limits and the cache's disk; then for each mount at the store's name, whether the \
            credentials may list, write, read and delete (a key '.cloudmount-doctor-…' below the prefix is written and \
            removed again; not with read_only), how long each took, and the clocks. No daemon is asked. Exits with 1 when there is a fault.
            """)

    @OptionGroup var source: ConfigurationFile
    @OptionGroup(title: "One bucket by its URL") var store: StoreOptions
    @Flag(help: "As JSON.")
    var json = false
    @Argument(help: "Name of a mount, or a URL. (default: all mounts)")
    var target: String?

    func validate() throws {
        if target.flatMap({ StoreURL($0) }) == nil, store.isGiven {
            throw ValidationError("Such options are for a bucket by its URL.")
        }
    }

    func run() throws {
        let configuration = try chosen()
        let findings = Findings()
        let json = json
        let checkup = Checkup(configuration) { finding in
            findings.all.withLock { $0.append(finding) }
            if !json { print(Self.text(finding)) }
        }
        ForegroundProcess.run { signals in
            let work = Task {
                checkup.machine()
                await checkup.stores()
            }
            // The first signal ends it as soon as nothing of its own is left in a store, a second one at once.
            Task {
                for await signal in signals {
                    if work.isCancelled { Glibc.exit(128 + signal) }
                    TerminalLog.write("stopping: what was written to try the store is being removed\n")
                    work.cancel()
                }
            }
            await work.value
            let all = findings.all.withLock { $0 }
            if json, let text = try? ControlJSON.pretty(all) { print(text) }
            return work.isCancelled || all.contains { $0.state == .fault } ? .failure : .success
        }
    }

    private final class Findings: Sendable {
        let all = Mutex<[Checkup.Finding]>([])
    }

    private func chosen() throws -> Configuration {
        let file = ConfigurationFile.absolute(source.path)
        do {
            if let target, StoreURL(target) != nil {
                let entry = try store.entry(target, at: "/nowhere/\(getpid())", name: nil)
                return try MountChoice(file: file, names: [entry.name], entry: entry).load()
            }
            let configuration = try MountChoice(file: file, names: target.map { [$0] } ?? []).load()
            guard !configuration.mounts.isEmpty else {
                throw ExitStatus.usage.error("there is no mount '\(target ?? "")' in \(file)")
            }
            return configuration
        } catch let error as ConfigurationError {
            throw ExitStatus.configuration.error(error.description)
        } catch let error as MountEntry.Fault {
            throw ExitStatus.usage.error(error.message)
        }
    }

    static func text(_ finding: Checkup.Finding) -> String {
        let mark =
            switch finding.state {
            case .good: "ok   "
            case .note: "note "
            case .fault: "FAULT"
            }
        return "\(mark) \(finding.of): \(finding.what)".printable
            + (finding.cure.map { "\n      -> \($0)".printableLines } ?? "")
    }
}

extension String {
    fileprivate var printableLines: String {
        split(separator: "\n", omittingEmptySubsequences: false).map(\.printable).joined(separator: "\n")
    }
}
