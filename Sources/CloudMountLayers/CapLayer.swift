public import CloudMountVFS
public import Logging
import Synchronization

/// What one mount, or all of one account, may not do at present because of a quota or a cap.
public final class Caps: Sendable {
    public struct Report: Sendable, Equatable {
        public var kind: CapMachine.Kind
        public var lasts: Duration
        /// Until a call of the kind is let through to try.
        public var nextTry: Duration
        public var reason: String
    }

    private let isCapped = Atomic(false)
    private let state = Mutex(CapMachine())
    private let logger: Logger
    private let environment: RetryEnvironment

    /// - Parameter logger: names the mount or the endpoint.
    public init(logger: Logger = Logger(label: "cloudmount.store"), environment: RetryEnvironment = .system) {
        self.logger = logger
        self.environment = environment
    }

    /// Empty while nothing is capped.
    public var current: [Report] {
        guard isCapped.load(ordering: .acquiring) else { return [] }
        let now = environment.now()
        let caps = state.withLock { $0.caps }
        return CapMachine.Kind.allCases.compactMap { kind in
            caps[kind].map {
                Report(
                    kind: kind, lasts: now - $0.since, nextTry: max(.zero, $0.nextTry - now),
                    reason: $0.error.description)
            }
        }
    }

    /// Why a write begun now would not be stored; nil when it may be. Costs one look when nothing is capped.
    public var writeRefusal: VFSError? {
        guard isCapped.load(ordering: .acquiring) else { return nil }
        let now = environment.now()
        return state.withLock { $0.refusal(.writes, now: now) }.map { refusal(.writes, $0, now) }
    }

    func admit(_ verb: Verb) throws(VFSError) {
        guard isCapped.load(ordering: .acquiring), let kind = verb.kind else { return }
        let time = time
        if let cap = state.withLock({ $0.admit(kind, time) }) { throw refusal(kind, cap, time.now) }
    }

    private var time: CapMachine.Time {
        let now = environment.now()
        return CapMachine.Time(now: now, midnight: now + environment.untilMidnight())
    }

    private func refusal(_ kind: CapMachine.Kind, _ cap: CapMachine.Cap, _ now: Duration) -> VFSError {
        let minutes = Int((cap.nextTry - now).components.seconds + 59) / 60
        var error = shown(kind, cap.error)
        error.message = "\(kind.rawValue) are capped, to be tried again in \(minutes) min: \(cap.error.message)"
        return error
    }

    /// A writer is told of the quota; to a reader it is a store that does not answer.
    private func shown(_ kind: CapMachine.Kind, _ error: VFSError) -> VFSError {
        VFSError(kind == .writes ? .quotaExceeded : .unavailable, error.message, wire: error.wire)
    }

    func worked(_ verb: Verb) {
        guard isCapped.load(ordering: .acquiring) else { return }
        let now = environment.now()
        guard let kind = verb.kind else {
            if verb == .delete { state.withLock { $0.madeRoom(now: now) } }
            return
        }
        let isNews = state.withLock { state in
            defer { isCapped.store(!state.caps.isEmpty, ordering: .releasing) }
            return state.worked(kind)
        }
        if isNews { logger.notice("\(kind.rawValue) work again") }
    }

    /// What the caller of `verb` is to be told of `error`.
    func failed(_ verb: Verb, _ error: VFSError) -> VFSError {
        guard let kind = verb.kind else { return error }
        if error.code != .quotaExceeded, !isCapped.load(ordering: .acquiring) { return error }
        let time = time
        guard error.code == .quotaExceeded else {
            state.withLock { $0.learntNothing(kind, now: time.now) }
            return error
        }
        let isNews = state.withLock { state in
            isCapped.store(true, ordering: .releasing)
            return state.capped(kind, error, time)
        }
        if isNews {
            logger.error(
                "\(kind.rawValue) are capped: one is tried every 15 minutes, and soon after midnight UTC",
                metadata: ["reason": "\(error.description)"])
        }
        return shown(kind, error)
    }
}

/// Keeps mounts from calling what their store has capped: see `CapMachine`. Outside the retry layer.
public struct CapLayer: ProviderLayer {
    public let inner: any ObjectProvider
    public let caps: Caps

    public init(_ inner: any ObjectProvider, caps: Caps) {
        self.inner = inner
        self.caps = caps
    }

    public func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        try caps.admit(call.verb)
        do throws(VFSError) {
            let value = try await body(inner)
            caps.worked(call.verb)
            return value
        } catch {
            throw caps.failed(call.verb, error)
        }
    }
}
