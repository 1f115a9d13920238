import ArgumentParser
import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS
import Glibc

/// Whether mounts are up, by what their daemon says again and again.
struct MountReadiness {
    private static let pause: UInt32 = 50_000

    private let client: ControlClient
    /// Names or paths; empty: all.
    private let targets: [String]

    init(_ client: ControlClient, _ targets: [String]) {
        self.client = client
        self.targets = targets
    }

    /// The mounts meant, as they are: one more of a name that is on its way out is left out.
    /// - Returns: nil when no daemon is running.
    /// - Throws: what the daemon is asked for and has not, and what is wrong with it.
    func look() throws -> [StatusReport.Mount]? {
        let report: StatusReport
        do throws(VFSError) {
            let answer = try client.ask(ControlRequest(.status))
            guard let status = answer.status else { throw VFSError(.io, answer.error ?? "refused") }
            report = status
        } catch {
            // One that is just ending, or just beginning.
            if error.code == .notFound || error.code == .connectionFailed { return nil }
            throw ExitStatus.failure.error(error.message)
        }
        return try Self.chosen(targets, of: report)
    }

    /// - Parameter targets: names or paths; empty: all.
    static func chosen(_ targets: [String], of report: StatusReport) throws -> [StatusReport.Mount] {
        var mounts = report.mounts
        for target in targets where !mounts.contains(where: { $0.name == target || $0.path == target }) {
            let known = mounts.map(\.name).joined(separator: ", ")
            throw ExitStatus.failure.error("there is no mount '\(target)'; there are \(known)")
        }
        if !targets.isEmpty { mounts.removeAll { !targets.contains($0.name) && !targets.contains($0.path) } }
        var last: [String: Int] = [:]
        for (index, mount) in mounts.enumerated() { last[mount.name] = index }
        return mounts.enumerated().filter { last[$1.name] == $0 }.map(\.element)
    }

    /// Returns when each came up or failed once, which may have been before.
    /// - Parameter isHopeless: nothing is to be waited for any more.
    /// - Returns: nil when it is hopeless.
    func waitUntilTried(unless isHopeless: () -> Bool = { false }) throws -> [StatusReport.Mount]? {
        var tried: [String: StatusReport.Mount] = [:]
        var lastSeen = ContinuousClock.now
        while true {
            // A daemon that has been gone for so long does not come any more.
            let isLast = isHopeless() || .now - lastSeen > .seconds(60)
            if let mounts = try look() {
                lastSeen = .now
                // A failed one is tried again at once or later: what it failed for counts.
                for mount in mounts where mount.state != .starting { tried[mount.name] = mount }
                let all = mounts.compactMap { tried[$0.name] }
                if all.count == mounts.count { return all }
            }
            if isLast { return nil }
            usleep(Self.pause)
        }
    }

    /// Returns when all are up.
    /// - Returns: those that are not when the time is over; nil when no daemon runs then.
    func waitUntilMounted(until deadline: ContinuousClock.Instant) throws -> [StatusReport.Mount]? {
        while true {
            let waiting = try look()?.filter { $0.state != .mounted }
            if let waiting, waiting.isEmpty { return waiting }
            if .now >= deadline { return waiting }
            usleep(Self.pause)
        }
    }

    /// One line for each.
    static func text(_ mounts: [StatusReport.Mount]) -> String {
        mounts.map { "\($0.name): \($0.complaint ?? "mounted")" }.joined(separator: "\n")
    }
}

struct WaitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wait", abstract: "Waits until mounts are up.",
        discussion: """
            Also for a daemon that is just starting. When the time is over it exits with 1 and says which mounts are not up and \
            why, or with 3 when no daemon runs.
            """)

    @OptionGroup var source: ConfigurationFile
    @Option(help: ArgumentHelp("Wait no longer than this.", valueName: "30s"))
    var timeout = "1m"
    @Argument(help: "Name or path of the mount. (default: all)")
    var target: String?

    func validate() throws {
        if Units.time(timeout) == nil {
            throw ValidationError("--timeout takes a duration such as 30s or 2m, not '\(timeout)'.")
        }
    }

    func run() throws {
        let deadline = ContinuousClock.now + (Units.time(timeout) ?? .zero)
        let target = target.map(ConfigurationFile.nameOrPath)
        let readiness = MountReadiness(try source.client(of: target), target.map { [$0] } ?? [])
        guard let waiting = try readiness.waitUntilMounted(until: deadline) else {
            throw ExitStatus.noDaemon.error("no cloudmount daemon is running")
        }
        if !waiting.isEmpty { throw ExitStatus.failure.error(MountReadiness.text(waiting)) }
    }
}
