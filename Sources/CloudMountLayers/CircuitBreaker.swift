import CloudMountVFS
public import Logging
import Synchronization

/// What an outage looks like from outside.
public struct OutageReport: Sendable, Equatable {
    /// Since the start of the first call that failed.
    public var lasts: Duration
    /// Until the next probe; zero while one is under way.
    public var nextProbe: Duration
    public var isProbing: Bool
    public var probes: Int
    /// What the last failed call met.
    public var reason: String
}

/// Keeps a dead endpoint from being hammered, for all mounts that share it. The rules are in `BreakerMachine`.
///
/// While it is open one task probes the endpoint, also when nobody asks for anything, so that calls go through within
/// seconds of its return. The first probe that is answered, or any call that was still under way, closes it.
public final class CircuitBreaker: Sendable {
    /// No probe lasts longer.
    static let probeLimit: Duration = .seconds(5)

    private struct State {
        var machine = BreakerMachine()
        var reason = VFSError(.unavailable, "")
        var sources: [WeakSource] = []
        var isProbing = false
    }

    private struct WeakSource {
        weak var source: ProbeSource?
    }

    /// False lets every call pass with one look.
    private let isTroubled = Atomic(false)
    private let state = Mutex(State())
    /// For the end of the outage.
    private let waiters = Waiters()
    private let name: String
    private let logger: Logger
    private let environment: RetryEnvironment
    private let watchdog = Watchdog()
    private let opened: @Sendable () -> Void

    /// - Parameters:
    ///   - name: of the endpoint, for the log and for errors.
    ///   - opened: called at each opening, without a lock.
    public init(
        _ name: String, logger: Logger = Logger(label: "cloudmount.store"), environment: RetryEnvironment = .system,
        opened: @escaping @Sendable () -> Void = {}
    ) {
        self.name = name
        self.logger = logger
        self.environment = environment
        self.opened = opened
    }

    /// The outage that keeps calls from the endpoint; nil when there is none.
    public var outage: OutageReport? {
        guard isTroubled.load(ordering: .acquiring) else { return nil }
        let now = environment.now()
        return state.withLock { state in
            state.machine.outage.map {
                OutageReport(
                    lasts: now - $0.began, nextProbe: $0.isProbing ? .zero : max(.zero, $0.nextProbe - now),
                    isProbing: $0.isProbing, probes: $0.probes, reason: state.reason.description)
            }
        }
    }

    /// It keeps calls from the endpoint.
    public var isOpen: Bool {
        isTroubled.load(ordering: .acquiring) && state.withLock { $0.machine.outage != nil }
    }

    /// Returns when the endpoint may be called.
    /// - Throws: `unavailable` when the outage has lasted for `patience`; `cancelled`.
    func admit(_ patience: Duration, _ source: ProbeSource) async throws(VFSError) {
        while isTroubled.load(ordering: .acquiring) {
            let now = environment.now()
            let admission = state.withLock { $0.machine.admit(now: now, patience: patience) }
            switch admission {
            case .go: return
            case .refuse:
                probe(with: source)
                throw refusal(now)
            case .wait(let until):
                probe(with: source)
                _ = await watchdog.run(for: until - now, on: nil) {
                    await self.waiters.wait { self.state.withLock { $0.machine.outage == nil } }
                }
                if Task.isCancelled { throw .cancelled }
            }
        }
    }

    private func refusal(_ now: Duration) -> VFSError {
        let (reason, began) = state.withLock { ($0.reason, $0.machine.outage?.began ?? now) }
        let seconds = max(0, Int((now - began).components.seconds))
        return VFSError(
            .unavailable, "\(name) has not answered for \(seconds) s: \(reason.message)",
            wire: VFSError.Wire(operation: VFSError.refusedCall, endpoint: name))
    }

    /// When a call starts, for `ended`.
    var now: Duration { environment.now() }

    /// A call has ended well.
    func answered() {
        guard isTroubled.load(ordering: .acquiring) else { return }
        let now = environment.now()
        note(state.withLock { $0.machine.record(.answered, start: now, now: now) }, nil)
    }

    /// A call that began at `start` has ended with `error`.
    func failed(_ error: VFSError, verdict: BreakerMachine.Verdict, start: Duration, _ source: ProbeSource) {
        guard verdict != .nothing else { return }
        if verdict == .answered { return answered() }
        let now = environment.now()
        let change = state.withLock { state in
            if verdict == .failed { state.reason = error }
            defer { isTroubled.store(!state.machine.isUntroubled, ordering: .releasing) }
            return state.machine.record(verdict, start: start, now: now)
        }
        note(change, source)
    }

    private func note(_ change: BreakerMachine.Change?, _ source: ProbeSource?) {
        switch change {
        case .opened:
            let reason = state.withLock { $0.reason.description }
            logger.error(
                "\(name) does not answer; calls wait or fail until it does", metadata: ["reason": "\(reason)"])
            opened()
            if let source { probe(with: source) }
        case .closed(let time):
            let seconds = Int(time.components.seconds)
            logger.notice("\(name) answers again, after \(seconds) s")
            state.withLock { isTroubled.store(!$0.machine.isUntroubled, ordering: .releasing) }
            waiters.resume()
        case nil:
            state.withLock { isTroubled.store(!$0.machine.isUntroubled, ordering: .releasing) }
        }
    }

    // MARK: Probing

    /// Has `source` among those that probe, and sees that somebody does.
    private func probe(with source: ProbeSource) {
        let starts = state.withLock { state in
            state.sources.removeAll { $0.source == nil }
            if !state.sources.contains(where: { $0.source === source }) {
                state.sources.append(WeakSource(source: source))
            }
            guard !state.isProbing, state.machine.outage != nil else { return false }
            state.isProbing = true
            return true
        }
        if starts { Task { await self.probeUntilAnswered() } }
    }

    private func probeUntilAnswered() async {
        while true {
            let now = environment.now()
            let (pause, source): (Duration, ProbeSource?) = state.withLock { state in
                // Each in turn: one mount's credentials or bucket may be what is wrong.
                let alive = state.sources.compactMap(\.source)
                guard let outage = state.machine.outage, !alive.isEmpty else {
                    state.isProbing = false
                    return (.zero, nil)
                }
                return (outage.nextProbe - now, alive[outage.probes % alive.count])
            }
            // Mounts that go take their sources with them; the next caller brings another.
            guard let source else { return }
            if pause > .zero { await environment.sleep(pause) }
            let starts = environment.now()
            guard state.withLock({ $0.machine.beginProbe(now: starts) }) else { continue }
            let (verdict, expired) = await watchdog.run(for: Self.probeLimit, on: source.executor) {
                await source.probe()
            }
            let ends = environment.now()
            note(
                state.withLock { $0.machine.endProbe(expired && verdict == .nothing ? .failed : verdict, now: ends) },
                nil)
        }
    }
}

/// A way to ask an endpoint something harmless; goes with the mount that it belongs to.
final class ProbeSource: Sendable {
    private let provider: any ObjectProvider
    private let prefix: ObjectKey

    private let reach: Reach

    /// - Parameters:
    ///   - prefix: below which the provider may be asked.
    ///   - reach: whether it may be asked now.
    init(_ provider: any ObjectProvider, prefix: ObjectKey, reach: Reach = Reach()) {
        self.provider = provider
        self.prefix = prefix
        self.reach = reach
    }

    var executor: (any TaskExecutor)? { provider.executor }

    func probe() async -> BreakerMachine.Verdict {
        if reach.isCutOff { return .nothing }
        do throws(VFSError) {
            _ = try await provider.list(ListRequest(prefix: prefix, delimited: false, limit: 1, takesUnreadable: true))
            return .answered
        } catch {
            return error.verdict
        }
    }
}
