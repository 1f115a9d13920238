import CloudMountConfig
import CloudMountVFS

/// `cloudmount status` for people.
public enum StatusTable {
    public static func text(_ report: StatusReport) -> String {
        var rows = [["MOUNT", "STATE", "PATH", "STORE", "OPEN", "NOT STORED", "REQUESTS", "ERRORS", "MEAN"]]
        for mount in report.mounts { rows.append(row(mount)) }
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        var lines = rows.map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            return trimmed(cells.joined(separator: "  "))
        }
        for mount in report.mounts { lines += notes(mount) }
        lines += outages(report)
        for leftover in report.staging.leftovers {
            lines.append("! an earlier run could not store \(size(leftover.bytes)), kept in \(leftover.path.printable)")
        }
        if let unnamed = report.unnamed {
            lines.append("! \(unnamed) more are not stored, too many to be named here")
        }
        if report.isStopping { lines.append("the daemon is stopping") }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func row(_ mount: StatusReport.Mount) -> [String] {
        let calls = mount.requests.reduce(0) { $0 + $1.calls }
        let errors = mount.requests.reduce(0) { $0 + $1.errors }
        let time = mount.requests.reduce(0.0) { $0 + $1.meanMilliseconds * Double($1.calls) }
        let dirty = mount.dirtyFiles.map { $0 == 0 ? "-" : "\($0) (\(size(mount.dirtyBytes ?? 0)))" } ?? "?"
        let store = mount.provider + " " + mount.bucket + (mount.prefix.isEmpty ? "" : "/\(mount.prefix)")
        let state = mount.state.rawValue + remark(mount)
        return [
            mount.name.printable, state, mount.path.printable, store.printable, mount.openFiles.map(String.init) ?? "?",
            dirty,
            String(calls), String(errors), calls == 0 ? "-" : milliseconds(time / Double(calls)),
        ]
    }

    private static func remark(_ mount: StatusReport.Mount) -> String {
        guard mount.state == .mounted else { return "" }
        var words: [String] = []
        if mount.readOnly { words.append("read only") }
        if mount.offline != nil { words.append("offline") }
        if mount.endpoint?.outage != nil { words.append("unreachable") }
        if !mount.caps.isEmpty { words.append("capped") }
        if mount.credentials?.state == .expired { words.append("auth-expired") }
        return words.isEmpty ? "" : " (\(words.joined(separator: ", ")))"
    }

    /// Once per endpoint, however many mounts it has.
    private static func outages(_ report: StatusReport) -> [String] {
        var lines: [String: String] = [:]
        for endpoint in report.mounts.compactMap(\.endpoint) {
            guard let outage = endpoint.outage else { continue }
            let next =
                outage.nextProbeSeconds > 0 ? "next probe in \(outage.nextProbeSeconds) s" : "a probe is under way"
            let line = "! \(endpoint.name) has not answered for \(outage.lastsSeconds) s; \(next): \(outage.reason)"
            lines[endpoint.name] = line.printable
        }
        return lines.sorted { $0.key < $1.key }.map(\.value)
    }

    private static func notes(_ mount: StatusReport.Mount) -> [String] {
        var notes: [String] = []
        if let reason = mount.reason {
            let next = mount.nextTrySeconds.map { "; next attempt in \($0) s" } ?? ""
            notes.append("! \(mount.name): \(reason)\(next)")
        }
        if let pending = mount.pending { notes.append("! \(mount.name): \(pending)") }
        if let offline = mount.offline {
            notes.append("! \(mount.name): \(offline.reason); what is known is shown, and the store asked nothing")
        }
        if let stale = mount.staleNodes, stale > 0 {
            notes.append(
                "! \(mount.name): the store cannot be reached; \(stale) names were shown as last known")
        }
        if let reason = mount.readOnlyReason { notes.append("! \(mount.name): read only: \(reason)") }
        if let kept = mount.keptBytes, kept > 0 { notes.append("\(mount.name): \(size(kept)) are kept on local disk") }
        if let poll = mount.poll {
            let behind = poll.behindSeconds > 0 ? ", the longest unseen for \(poll.behindSeconds) s" : ""
            notes.append(
                "\(mount.name): \(poll.directories) folders are polled\(behind); \(poll.requests) requests so far, "
                    + "\(poll.requestsPerMinute) a minute at most; \(poll.changes) changes seen")
        }
        if !mount.billedCalls.isEmpty {
            let calls = mount.billedCalls.map { "\($0.group) \($0.calls)" }.joined(separator: ", ")
            notes.append("\(mount.name): billed calls: \(calls)")
        }
        if let credentials = mount.credentials { notes.append(note(mount, credentials)) }
        for commit in mount.failedCommits {
            let place = commit.stagedPath.isEmpty ? "memory" : commit.stagedPath
            notes.append(
                "! \(mount.name): \(commit.path) (\(size(commit.bytes))) is not stored: \(commit.error)"
                    + (commit.bytes == 0 ? "" : "; its bytes are in \(place)"))
        }
        for cap in mount.caps {
            notes.append(
                "! \(mount.name): \(cap.kind) are capped for \(cap.lastsSeconds / 60) min; next attempt in "
                    + "\((cap.nextTrySeconds + 59) / 60) min: \(cap.reason)")
        }
        if mount.hiddenKeys > 0 {
            let examples = mount.hiddenKeyExamples.map { "'\($0)'" }.joined(separator: ", ")
            notes.append("! \(mount.name): \(mount.hiddenKeys) keys cannot be shown as paths, such as \(examples)")
        }
        return notes.map(\.printable)
    }

    private static func note(_ mount: StatusReport.Mount, _ credentials: StatusReport.Credentials) -> String {
        let reason = credentials.reason.map { ": \($0)" } ?? ""
        let end = credentials.endsAt.map { " until \(TerminalLog.utc(Timestamp(seconds: $0)))" } ?? ""
        return switch credentials.state {
        case .valid: "\(mount.name): credentials of \(credentials.source)\(end)"
        case .unrenewed:
            "! \(mount.name): credentials of \(credentials.source)\(end) cannot be renewed, and serve until the store refuses "
                + "them\(reason)"
        case .expired: "! \(mount.name): credentials of \(credentials.source) have expired\(reason)"
        }
    }

    private static func size(_ bytes: Int) -> String { Units.rounded(bytes: bytes) }

    private static func milliseconds(_ value: Double) -> String { "\((value * 10).rounded() / 10) ms" }

    private static func trimmed(_ text: String) -> String {
        String(text.reversed().drop { $0 == " " }.reversed())
    }
}
