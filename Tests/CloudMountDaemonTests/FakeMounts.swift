import CloudMountFUSE
import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

@testable import CloudMountConfig
@testable import CloudMountDaemon
@testable import CloudMountLayers

/// Mounts without a kernel: what is done to them is written down, and tests say how they behave.
final class FakeEngine: MountEngine {
    private struct State {
        var failures: [String: [VFSError]] = [:]
        var started: [String: Int] = [:]
        var mounts: [String: FakeMount] = [:]
        var hanging: Set<String> = []
        var deaf: Set<String> = []
        var changed: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    /// The next attempts for `name` fail so.
    func fail(_ name: String, with errors: [VFSError]) { state.withLock { $0.failures[name] = errors } }
    /// Attempts for `name` last until they are cancelled.
    func hang(_ name: String) { state.withLock { _ = $0.hanging.insert(name) } }
    /// Attempts for `name` last, cancelled or not, as long as this says so.
    func hang(_ name: String, deaf: Bool) {
        state.withLock { state in
            if deaf { state.deaf.insert(name) } else { state.deaf.remove(name) }
        }
    }
    func attempts(_ name: String) -> Int { state.withLock { $0.started[name] ?? 0 } }

    func begin(_ mount: Configuration.Mount) async throws(VFSError) -> any RunningMount {
        let (failure, hangs) = state.withLock { state -> (VFSError?, Bool) in
            state.started[mount.name, default: 0] += 1
            let hangs = state.hanging.contains(mount.name)
            guard var errors = state.failures[mount.name], !errors.isEmpty else { return (nil, hangs) }
            let error = errors.removeFirst()
            state.failures[mount.name] = errors
            return (error, hangs)
        }
        if hangs {
            wake()
            while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) }
            throw .cancelled
        }
        if let failure { throw failure }
        while state.withLock({ $0.deaf.contains(mount.name) }) {
            await withCheckedContinuation { continuation in
                Task.detached {
                    try? await Task.sleep(for: .milliseconds(1))
                    continuation.resume()
                }
            }
        }
        let made = FakeMount()
        state.withLock { $0.mounts[mount.name] = made }
        wake()
        return made
    }

    private func wake() {
        let waiting = state.withLock { state in
            defer { state.changed = [] }
            return state.changed
        }
        for continuation in waiting { continuation.resume() }
    }

    /// The mount, as soon as it has been made.
    func mount(_ name: String) async -> FakeMount {
        while true {
            if let mount = state.withLock({ $0.mounts[name] }) { return mount }
            await withCheckedContinuation { continuation in
                let isThere = state.withLock { state in
                    if state.mounts[name] != nil { return true }
                    state.changed.append(continuation)
                    return false
                }
                if isThere { continuation.resume() }
            }
        }
    }
}

final class FakeMount: RunningMount {
    struct State {
        var steps: [String] = []
        var busy = false
        /// What is open keeps a lazily unmounted mount alive.
        var staysOpen = false
        var isClosed = false
        var drainHangs = false
        var callsUnderWay = 0
        /// `statistics` waits for it.
        var statisticsHang = false
        var statisticsAsked = 0
        var uses = MountUses()
        var isInPlace = true
        var statistics = MountStatistics()
        /// Of new credentials.
        var refusal: VFSError?
        var rotates = true
        var billedCalls: [BilledCalls] = []
        var credentials: CredentialReport?
        var readOnlyReason: String?
        var outage: OutageReport?
        var caps: [Caps.Report] = []
        var closing: [CheckedContinuation<Void, Never>] = []
        var device = ""
        var pulse = ServingPulse()
        /// What a sync waits for, and what it cannot store.
        var dirty: [MountStatistics.FailedCommit] = []
        var lost: [MountStatistics.FailedCommit] = []
        var syncHangs = false
        /// Asked for what is kept, in place of `lost`.
        var bucket: MountedBucket?
    }

    let state = Mutex(State())
    let reach = Reach()
    private let outdated = Mutex<(@Sendable () -> Void)?>(nil)
    func whenOutdated(_ tell: @escaping @Sendable () -> Void) { outdated.withLock { $0 = tell } }
    /// The store can do other things by now.
    func outdate() { outdated.withLock { $0 }?() }

    func kept() -> [MountStatistics.FailedCommit] {
        state.withLock { $0.bucket }?.upkeep.kept() ?? state.withLock { $0.lost }
    }

    func discard(_ kept: MountStatistics.FailedCommit) async throws(VFSError) {
        if let bucket = state.withLock({ $0.bucket }) { return try await bucket.upkeep.discard(kept) }
        note("discard '\(kept.path)'")
        state.withLock { $0.lost.removeAll { $0.path == kept.path } }
    }

    var device: String { state.withLock { $0.device } }
    var servingPulse: ServingPulse { state.withLock { $0.pulse } }
    var executor: (any TaskExecutor)? { nil }

    func sync(_ paths: [ObjectKey], retries: Bool, _ progress: SyncProgress) async {
        note("sync '\(paths.map(\.string).joined(separator: " "))'" + (retries ? " patiently" : ""))
        let (dirty, lost) = state.withLock { ($0.dirty, $0.lost) }
        progress.begin(dirty.enumerated().map { (UInt64($0.offset), $0.element) })
        while state.withLock({ $0.syncHangs }), !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) }
        if Task.isCancelled { return note("cancelled") }
        progress.end(lost: lost)
    }

    var steps: [String] { state.withLock { $0.steps } }

    private func note(_ step: String) { state.withLock { $0.steps.append(step) } }

    func drain() async {
        note("drain")
        while state.withLock({ $0.drainHangs }) { try? await Task.sleep(for: .milliseconds(1)) }
    }

    func isInPlace() async -> Bool { state.withLock { $0.isInPlace } }
    func uses() async -> MountUses { state.withLock { $0.uses } }
    func setReadOnly(_ on: Bool) { note(on ? "read-only" : "read-write") }

    func unmount(lazy: Bool) async throws(VFSError) {
        note(lazy ? "unmount lazily" : "unmount")
        let (busy, stays) = state.withLock { ($0.busy, $0.staysOpen) }
        if busy, !lazy { throw VFSError(.busy, "busy") }
        if !stays { close() }
    }

    /// As `fusermount3 -u` from outside.
    func close() {
        let waiting = state.withLock { state in
            state.isClosed = true
            defer { state.closing = [] }
            return state.closing
        }
        for continuation in waiting { continuation.resume() }
    }

    func waitUntilClosed() async {
        await withCheckedContinuation { continuation in
            let isClosed = state.withLock { state in
                if !state.isClosed { state.closing.append(continuation) }
                return state.isClosed
            }
            if isClosed { continuation.resume() }
        }
    }

    func apply(_ mount: Configuration.Mount) { note("apply \(mount.policy.prefetch)") }

    func rotateCredentials(_ mount: Configuration.Mount) async throws(VFSError) -> Bool {
        note("rotate")
        let (refusal, rotates) = state.withLock { ($0.refusal, $0.rotates) }
        if let refusal { throw refusal }
        return rotates
    }

    func saveNames() async {}
    func refresh(_ path: ObjectKey) async { note("refresh '\(path)'") }
    func cleanUp() async { note("clean up") }
    func statistics() -> MountStatistics {
        state.withLock { $0.statisticsAsked += 1 }
        while state.withLock({ $0.statisticsHang }) { usleep(1000) }
        return state.withLock { $0.statistics }
    }
    func requests() -> [Verb: VerbMeasurement] {
        var reads = VerbMeasurement()
        reads.calls = 2
        reads.errors = 1
        reads.bytesDown = 4096
        reads.latencySum = .milliseconds(3)
        reads.latencyMax = .milliseconds(2)
        reads.inFlight = state.withLock { $0.callsUnderWay }
        return [.read: reads]
    }
    func billedCalls() -> [BilledCalls] { state.withLock { $0.billedCalls } }
    func credentials() -> CredentialReport? { state.withLock { $0.credentials } }
    func readOnlyReason() -> String? { state.withLock { $0.readOnlyReason } }
    func outage() -> OutageReport? { state.withLock { $0.outage } }
    func caps() -> [Caps.Report] { state.withLock { $0.caps } }
    func endpoint() -> (name: String, limit: Int, inFlight: Int, waiting: Int) { ("fake", 96, 1, 0) }
}

extension StatusReport.Mount {
    /// As `status` has it.
    init(_ mount: Configuration.Mount, _ phase: MountLife.Phase) {
        self.init(MountLife.Look(id: 0, mount: mount, phase: phase, pending: nil, isReadOnly: false))
        if case .mounted(let running) = phase { fill(running) }
    }
}

enum Fixtures {
    static let provider = ProviderDescriptor(
        name: "fake", summary: "nothing", bucketMeaning: "any",
        options: [OptionDescriptor("endpoint", .url, "anywhere")],
        credentials: [OptionDescriptor("key", .string, "a key", secret: true)],
        make: { _ throws(VFSError) in throw VFSError(.notSupported, "a fixture") })

    /// `text` after the line with the version.
    static func parse(_ text: String) throws(ConfigurationError) -> Configuration {
        try Configuration.parse(
            Array("version: 1\n\(text)".utf8), file: "m.yaml", providers: [provider],
            places: UserPlaces(environment: [:], uid: 0, gid: 0))
    }

    static func configuration(_ names: [String]) throws -> Configuration {
        let mounts = names.map { "  - {name: \($0), path: /mnt/\($0), provider: fake, bucket: bucket-\($0)}\n" }
        return try parse("mounts:\n\(mounts.joined())")
    }
}

/// Collects lines.
final class Lines: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
}

final class Flag: Sendable {
    private let state = Mutex(false)
    var isSet: Bool { state.withLock { $0 } }
    func set() { state.withLock { $0 = true } }
}
