import CloudMountVFS

/// What a quota or an account's cap keeps mounts from doing, kind by kind. A value: no clock, no I/O.
///
/// A store that says "cap exceeded" says so to every further call of that kind until somebody pays, deletes, or the day
/// is over. So the kind is not tried again for a while; then one call tries.
public struct CapMachine: Sendable {
    /// Stores cap and bill these apart.
    public enum Kind: String, Sendable, CaseIterable {
        case writes, reads, lookups, listings
    }

    struct Cap: Sendable {
        var since: Duration
        var nextTry: Duration
        var error: VFSError
    }

    /// A point in time, and the next midnight in Greenwich, when daily caps end.
    struct Time: Sendable {
        var now: Duration
        var midnight: Duration

        /// When to try again.
        fileprivate var next: Duration { min(now + CapMachine.pause, midnight + CapMachine.afterMidnight) }
    }

    /// Between attempts.
    static let pause: Duration = .seconds(15 * 60)
    /// Clocks differ.
    static let afterMidnight: Duration = .seconds(30)
    /// After an attempt that said nothing about the cap.
    static let shortPause: Duration = .seconds(60)

    private(set) var caps: [Kind: Cap] = [:]

    /// Why a call of `kind` would be refused now; nil when it may go.
    func refusal(_ kind: Kind, now: Duration) -> Cap? { caps[kind].flatMap { now < $0.nextTry ? $0 : nil } }

    /// Nil: the call may go; when the kind is capped it is the one that tries, and the next one waits again.
    mutating func admit(_ kind: Kind, _ time: Time) -> Cap? {
        guard let cap = caps[kind] else { return nil }
        if time.now < cap.nextTry { return cap }
        caps[kind]?.nextTry = time.next
        return nil
    }

    /// True when that is news.
    mutating func capped(_ kind: Kind, _ error: VFSError, _ time: Time) -> Bool {
        let since = caps[kind]?.since
        caps[kind] = Cap(since: since ?? time.now, nextTry: time.next, error: error)
        return since == nil
    }

    /// A call of `kind` has succeeded. True when that is news.
    mutating func worked(_ kind: Kind) -> Bool { caps.removeValue(forKey: kind) != nil }

    /// The call that tried met something else.
    mutating func learntNothing(_ kind: Kind, now: Duration) {
        guard let cap = caps[kind] else { return }
        caps[kind]?.nextTry = min(cap.nextTry, now + Self.shortPause)
    }

    /// Something was deleted: there may be room for the next write.
    mutating func madeRoom(now: Duration) { caps[.writes]?.nextTry = now }
}

extension Verb {
    /// Nil: never capped.
    var kind: CapMachine.Kind? {
        switch self {
        case .put, .copy, .beginUpload, .uploadPart, .copyPart, .completeUpload: .writes
        case .read: .reads
        case .head: .lookups
        case .list, .listParts, .versions: .listings
        case .prepare, .move, .delete, .abortUpload, .space: nil
        }
    }
}
