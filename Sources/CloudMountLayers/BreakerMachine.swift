import CloudMountVFS

/// Whether an endpoint is worth calling: closed (it is), open (it is not: calls wait or are refused), half-open (one probe
/// is under way). A value: no clock, no I/O; times are those of any clock that never steps back.
struct BreakerMachine: Sendable {
    /// What the end of a call says about the endpoint.
    enum Verdict: Sendable, Equatable {
        /// It answered, be it with a refusal.
        case answered
        /// It asked for less.
        case throttled
        /// No answer, a broken one, or one that says that the store is out of order.
        case failed
        /// Nothing: the caller gave up, or nobody was asked.
        case nothing
    }

    enum Admission: Equatable {
        case go
        /// Not now; the outage may end before the time given.
        case wait(until: Duration)
        case refuse
    }

    enum Change: Sendable, Equatable {
        case opened
        case closed(after: Duration)
    }

    struct Outage: Sendable {
        /// The start of the first call that failed.
        var began: Duration
        /// Probes so far.
        var probes = 0
        var nextProbe: Duration
        var isProbing = false
    }

    /// So many failures in a row open it.
    static let failures = 5
    /// Or two in a row, when nothing was heard for so long: calls that time out are few.
    static let silence: Duration = .seconds(10)
    /// Throttling is an answer; nothing but throttling, so often and for so long, is none.
    static let throttles = 10
    static let throttledFor: Duration = .seconds(30)
    /// Between the starts of probes; the last one holds for all further ones.
    static let intervals: [Duration] = [
        .milliseconds(250), .milliseconds(500), .seconds(1), .seconds(2), .seconds(4), .seconds(5),
    ]

    private var failed = 0
    private var throttled = 0
    /// The start of the first call of the run of failures.
    private var began: Duration?
    private(set) var outage: Outage?

    /// Nothing has gone wrong since the last good answer.
    var isUntroubled: Bool { began == nil && outage == nil }

    /// - Parameter patience: how long after the beginning of an outage a caller would rather wait than fail.
    func admit(now: Duration, patience: Duration) -> Admission {
        guard let outage else { return .go }
        let until = outage.began + patience
        return now < until ? .wait(until: until) : .refuse
    }

    /// A call that began at `start` has ended.
    mutating func record(_ verdict: Verdict, start: Duration, now: Duration) -> Change? {
        switch verdict {
        case .nothing: return nil
        case .answered: return close(now)
        case .throttled: throttled += 1
        case .failed: failed += 1
        }
        let first = min(began ?? start, start)
        began = first
        guard outage == nil else { return nil }
        let opens =
            failed >= Self.failures || failed >= 2 && now - first >= Self.silence
            || failed + throttled >= Self.throttles && now - first >= Self.throttledFor
        guard opens else { return nil }
        outage = Outage(began: first, nextProbe: now + Self.intervals[0])
        return .opened
    }

    /// Half-open, when it is open, the time has come and no probe is under way.
    mutating func beginProbe(now: Duration) -> Bool {
        guard var open = outage, !open.isProbing, now >= open.nextProbe else { return false }
        open.isProbing = true
        open.probes += 1
        open.nextProbe = now + Self.intervals[min(open.probes, Self.intervals.count - 1)]
        outage = open
        return true
    }

    mutating func endProbe(_ verdict: Verdict, now: Duration) -> Change? {
        outage?.isProbing = false
        // Who can ask for less is there.
        return verdict == .answered || verdict == .throttled ? close(now) : nil
    }

    private mutating func close(_ now: Duration) -> Change? {
        let ended = outage
        self = BreakerMachine()
        return ended.map { .closed(after: now - $0.began) }
    }
}

extension VFSError {
    /// What an error says about the endpoint. Whatever the store itself said proves it alive, but for 5xx.
    var verdict: BreakerMachine.Verdict {
        switch code {
        // A kept-alive connection that had died: the next one tells.
        case .connectionFailed where retry == .immediately: .nothing
        // What will come again is the store's own odd answer to one question, not an endpoint that is out of order.
        case .malformedResponse where retry == .never: .answered
        case .timedOut, .connectionFailed, .unavailable, .malformedResponse: .failed
        // Cut short on the way; with a status it is the store's word about bytes that it got.
        case .corrupted: (wire?.status ?? 0) == 0 ? .failed : .answered
        case .throttled: .throttled
        case .cancelled: .nothing
        default: wire == nil ? .nothing : .answered
        }
    }
}
