public import CloudMountConfig
import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS

/// What `cloudmount status --json` prints, in snake_case. Members are added to it, never renamed or taken away.
public struct StatusReport: Codable, Sendable, Equatable {
    /// Of this shape.
    public var version = 1
    public var pid: Int
    /// Absolute path of `mounts.yaml`.
    public var configuration: String
    /// Seconds since 1970.
    public var startedAt: Int
    public var isStopping: Bool
    public var memory: Budget
    public var staging: Staging
    public var mounts: [Mount]
    /// How many failed commits and leftovers are not named, for want of room.
    public var unnamed: Int?

    /// Bytes.
    public struct Budget: Codable, Sendable, Equatable {
        public var limit: Int
        public var used: Int
    }

    public struct Staging: Codable, Sendable, Equatable {
        public var directory: String
        /// Bytes.
        public var limit: Int
        public var used: Int
        /// Bytes that an earlier run could not store, or that were kept after a failed commit.
        public var leftovers: [Leftover]
    }

    public struct Leftover: Codable, Sendable, Equatable {
        public var path: String
        public var bytes: Int
    }

    public struct Mount: Codable, Sendable, Equatable {
        public enum State: String, Codable, Sendable { case starting, failed, mounted, draining, ended }

        public var name: String
        public var path: String
        public var provider: String
        public var bucket: String
        public var prefix: String
        public var readOnly: Bool
        /// Why it is so though the configuration does not ask for it.
        public var readOnlyReason: String?
        public var state: State
        /// Why it failed.
        public var reason: String?
        /// Until the next attempt.
        public var nextTrySeconds: Int?
        /// What a reload could not do yet because the mount is in use.
        public var pending: String?
        /// This one and the four that follow are nil (absent) while the mount does not tell them; `reason` says so then.
        public var openFiles: Int? = 0
        /// Files with bytes that the store does not have.
        public var dirtyFiles: Int? = 0
        public var dirtyBytes: Int? = 0
        /// Bytes of stored versions on local disk.
        public var keptBytes: Int? = 0
        /// Files and directories last shown past their time, because the store could not be reached.
        public var staleNodes: Int? = 0
        public var failedCommits: [FailedCommit] = []
        /// Keys that no path can name.
        public var hiddenKeys = 0
        public var hiddenKeyExamples: [String] = []
        /// By verb, in the order of the provider protocol.
        public var requests: [Requests] = []
        /// As the store's vendor bills them; empty where it bills none, or all alike.
        public var billedCalls: [Billed] = []
        /// Nil where they are what the configuration says.
        public var credentials: Credentials?
        public var endpoint: Endpoint?
        /// What a quota or an account's cap keeps the mount from doing.
        public var caps: [Cap] = []
        /// Nil where the policy has no `poll`.
        public var poll: Poll?
        /// Nil while the store may be asked.
        public var offline: Offline?
    }

    /// The store is asked nothing.
    public struct Offline: Codable, Sendable, Equatable {
        /// By `cloudmount offline`; else the store has not been reached since the start.
        public var byCommand: Bool
        public var reason: String
    }

    /// What `poll` does.
    public struct Poll: Codable, Sendable, Equatable {
        /// Folders in use.
        public var directories: Int
        /// Listings since the mount began; they are among its requests.
        public var requests: Int
        /// At most.
        public var requestsPerMinute: Int
        /// Names that came, went or changed.
        public var changes: Int
        /// How long ago the folder that waits longest was looked at.
        public var behindSeconds: Int
    }

    public struct Cap: Codable, Sendable, Equatable {
        /// `writes`, `reads`, `lookups` or `listings`.
        public var kind: String
        public var reason: String
        public var lastsSeconds: Int
        public var nextTrySeconds: Int
    }

    public struct FailedCommit: Codable, Sendable, Equatable {
        public var path: String
        public var stagedPath: String
        public var bytes: Int
        public var error: String
        /// Seconds since 1970.
        public var since: Int
    }

    public struct Requests: Codable, Sendable, Equatable {
        public var verb: String
        public var calls: Int
        public var errors: Int
        public var inFlight: Int
        public var bytesUp: Int
        public var bytesDown: Int
        public var meanMilliseconds: Double
        public var maxMilliseconds: Double
    }

    public struct Billed: Codable, Sendable, Equatable {
        public var group: String
        public var calls: Int
    }

    /// Whose name calls are made in.
    public struct Credentials: Codable, Sendable, Equatable {
        public enum State: String, Codable, Sendable {
            case valid
            /// They could not be renewed, and serve until the store refuses them.
            case unrenewed = "not-renewed"
            /// The store has refused them: calls fail until others can be had.
            case expired = "auth-expired"
        }

        public var source: String
        public var state: State
        /// Seconds since 1970; nil: they last.
        public var endsAt: Int?
        public var reason: String?
    }

    /// What the mounts of one store share.
    public struct Endpoint: Codable, Sendable, Equatable {
        public var name: String
        /// Calls allowed at a time, now.
        public var limit: Int
        public var inFlight: Int
        public var waiting: Int
        /// Nil while the endpoint answers.
        public var outage: Outage?
    }

    /// The endpoint does not answer: calls wait or fail until a probe is answered.
    public struct Outage: Codable, Sendable, Equatable {
        public var lastsSeconds: Int
        /// 0 while one is under way.
        public var nextProbeSeconds: Double
        public var probes: Int
        public var reason: String
    }
}

extension StatusReport.Mount {
    /// Why the mount does not do all that it should; nil when it does.
    public var complaint: String? {
        if state != .mounted { return state.rawValue + (reason.map { ": \($0)" } ?? "") }
        if let reason { return reason }
        if let credentials, credentials.state == .expired {
            return "credentials of \(credentials.source) have expired" + (credentials.reason.map { ": \($0)" } ?? "")
        }
        if let offline { return offline.reason }
        if let outage = endpoint?.outage { return "the store has not answered for \(outage.lastsSeconds) s" }
        if let failed = failedCommits.first { return "\(failed.path) is not stored: \(failed.error)" }
        if let cap = caps.first { return "\(cap.kind) are refused: \(cap.reason)" }
        if let readOnlyReason, readOnlyReason != Self.remounted { return "read only: \(readOnlyReason)" }
        return nil
    }
}

extension StatusReport {
    /// What an answer has room for.
    func fitted(to room: AnswerRoom = AnswerRoom()) -> StatusReport {
        var (fitted, room, unnamed) = (self, room, 0)
        func fit<Value: Encodable>(_ values: inout [Value]) {
            let named = room.first(of: values)
            unnamed += values.count - named.count
            values = named
        }
        for index in mounts.indices { fit(&fitted.mounts[index].failedCommits) }
        fit(&fitted.staging.leftovers)
        if unnamed > 0 { fitted.unnamed = unnamed }
        return fitted
    }
}

extension StatusReport.Mount {
    /// The reason that somebody who has asked for it knows.
    static let remounted = "mount -o remount,ro"

    /// What only the mount itself can tell is not known.
    mutating func forgetFigures() {
        (openFiles, dirtyFiles, dirtyBytes, keptBytes, staleNodes) = (nil, nil, nil, nil, nil)
        reason = "its figures are not to be had just now"
    }

    /// Without what only the mount itself can tell.
    init(_ look: MountLife.Look) {
        let mount = look.mount
        pending = look.pending
        name = mount.name
        path = mount.path
        provider = mount.provider.name
        bucket = mount.context.bucket
        prefix = mount.context.prefix
        readOnly = mount.readOnly || look.isReadOnly
        if look.isReadOnly, !mount.readOnly { readOnlyReason = Self.remounted }
        switch look.phase {
        case .starting: state = .starting
        case .failed(let error, let retryAt):
            state = .failed
            reason = error.description
            nextTrySeconds = max(0, Int((retryAt - .now).components.seconds))
        case .mounted: state = .mounted
        case .draining: state = .draining
        case .ended(let ending):
            state = .ended
            dirtyFiles = ending.dirtyFiles
            dirtyBytes = ending.dirtyBytes
        }
    }

    mutating func fill(_ running: any RunningMount) {
        let statistics = running.statistics()
        openFiles = statistics.openFiles
        dirtyFiles = statistics.dirtyFiles
        dirtyBytes = statistics.dirtyBytes
        keptBytes = statistics.keptBytes
        staleNodes = statistics.staleNodes
        failedCommits = statistics.failedCommits.map {
            StatusReport.FailedCommit(
                path: $0.path, stagedPath: $0.stagedPath, bytes: $0.bytes, error: $0.error, since: $0.since.seconds)
        }
        hiddenKeys = statistics.hiddenKeys
        hiddenKeyExamples = statistics.hiddenKeyExamples
        poll = statistics.poll.map { poll in
            StatusReport.Poll(
                directories: poll.directories, requests: poll.requests, requestsPerMinute: poll.mostRequests,
                changes: poll.changes, behindSeconds: Int(poll.behind.components.seconds))
        }
        let measured = running.requests()
        requests = Verb.allCases.compactMap { verb in
            measured[verb].map { StatusReport.Requests(verb, $0) }
        }
        billedCalls = running.billedCalls().map { StatusReport.Billed(group: $0.group, calls: $0.calls) }
        credentials = running.credentials().map { report in
            StatusReport.Credentials(
                source: report.source,
                state: report.isRefused ? .expired : report.problem == nil ? .valid : .unrenewed,
                endsAt: report.end?.seconds, reason: report.problem)
        }
        if !readOnly, let reason = running.readOnlyReason() {
            readOnly = true
            readOnlyReason = reason
        }
        offline = StatusReport.Offline(running.reach)
        let load = running.endpoint()
        endpoint = StatusReport.Endpoint(
            name: load.name, limit: load.limit, inFlight: load.inFlight, waiting: load.waiting,
            outage: running.outage().map { outage in
                StatusReport.Outage(
                    lastsSeconds: Int(outage.lasts.components.seconds),
                    nextProbeSeconds: (outage.nextProbe / .milliseconds(100)).rounded() / 10, probes: outage.probes,
                    reason: outage.reason)
            })
        caps = running.caps().map { cap in
            StatusReport.Cap(
                kind: cap.kind.rawValue, reason: cap.reason, lastsSeconds: Int(cap.lasts.components.seconds),
                nextTrySeconds: Int(cap.nextTry.components.seconds))
        }
    }
}

extension StatusReport.Offline {
    /// Nil while the store may be asked.
    init?(_ reach: Reach) {
        if reach.isOffline {
            self.init(byCommand: true, reason: "offline by command")
            return
        }
        switch reach.contact {
        case .made: return nil
        case .awaited: self.init(byCommand: false, reason: "the store has not been reached since the start")
        case .failed(let error): self.init(byCommand: false, reason: error.message)
        }
    }
}

extension StatusReport.Requests {
    init(_ verb: Verb, _ measured: VerbMeasurement) {
        func milliseconds(_ duration: Duration) -> Double {
            let (seconds, attoseconds) = duration.components
            return Double(seconds * 1_000_000 + attoseconds / 1_000_000_000_000) / 1_000
        }
        self.init(
            verb: verb.rawValue, calls: measured.calls, errors: measured.errors, inFlight: measured.inFlight,
            bytesUp: measured.bytesUp, bytesDown: measured.bytesDown,
            meanMilliseconds: milliseconds(measured.latencyMean), maxMilliseconds: milliseconds(measured.latencyMax))
    }
}

extension Configuration.Mount {
    /// Of `StatusReport.Endpoint`.
    var endpointName: String {
        get throws(VFSError) { "\(provider.name) \(try provider.endpoint(context))" }
    }

    /// What `StatusReport.Endpoint.name` will be; nil: the configuration names no endpoint.
    public var expectedEndpoint: String? { try? endpointName }
}
