import Synchronization

/// How a call tells whoever bounds it that it still moves: the transport that carries the call counts into the meter of
/// its task, and who made the meter looks at it.
///
/// A call without a transport (a local folder, memory) leaves it untouched: nothing is known of it.
public final class TransferMeter: Sendable {
    /// Bytes a second that a transfer must move to count as moving: less is a connection that is kept open for nothing.
    /// A slow line that a hundred transfers share gives each more.
    public static let leastBytesPerSecond = 100

    /// The meter of the call that this task works for.
    @TaskLocal public static var current: TransferMeter?

    private let isTaken = Atomic(false)
    private let bytes = Atomic(0)
    private let holds = Atomic(0)
    private let late = Atomic(false)
    private let transfers = Mutex<(first: (any Expirable)?, more: [any Expirable])>((nil, []))

    /// A transfer that counts into a meter, and ends when the time of the call is over.
    public protocol Expirable: AnyObject, Sendable {
        /// Returns at once; the transfer then ends as cancelled.
        func expire()
    }

    public init() {}

    /// `transfer` begins to count, until `leave`.
    public func enter(_ transfer: any Expirable) {
        isTaken.store(true, ordering: .releasing)
        // Nearly always there is one.
        transfers.withLock { if $0.first == nil { $0.first = transfer } else { $0.more.append(transfer) } }
        if isLate { transfer.expire() }
    }

    public func leave(_ transfer: any Expirable) {
        transfers.withLock { all in
            if all.first === transfer { all.first = all.more.popLast() } else { all.more.removeAll { $0 === transfer } }
        }
    }

    /// Bytes moved, either way, or were acknowledged.
    public func add(_ count: Int) { if count > 0 { bytes.add(count, ordering: .relaxed) } }

    /// The time until now does not count: it is the receiver that has no room.
    public func hold() { holds.add(1, ordering: .relaxed) }

    /// What there is to see; nil while no transport counts.
    public var reading: (bytes: Int, holds: Int)? {
        guard isTaken.load(ordering: .acquiring) else { return nil }
        return (bytes.load(ordering: .relaxed), holds.load(ordering: .relaxed))
    }

    /// The time of the call was over; its error says `cancelled`.
    public var isLate: Bool { late.load(ordering: .acquiring) }

    /// Ends the transfers of the call, and those that it begins from now on.
    public func expire() {
        late.store(true, ordering: .releasing)
        let ending = transfers.withLock { all in all.more + (all.first.map { [$0] } ?? []) }
        for transfer in ending { transfer.expire() }
    }
}
