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

    public init() {}

    /// A transport begins to count.
    public func take() { isTaken.store(true, ordering: .releasing) }

    /// Bytes moved, either way, or were acknowledged.
    public func add(_ count: Int) { if count > 0 { bytes.add(count, ordering: .relaxed) } }

    /// The time until now does not count: it is the receiver that has no room.
    public func hold() { holds.add(1, ordering: .relaxed) }

    /// What there is to see; nil while no transport counts.
    public var reading: (bytes: Int, holds: Int)? {
        guard isTaken.load(ordering: .acquiring) else { return nil }
        return (bytes.load(ordering: .relaxed), holds.load(ordering: .relaxed))
    }

    /// The call was ended because its time was over; its error says `cancelled`.
    public var isLate: Bool { late.load(ordering: .acquiring) }
    public func expire() { late.store(true, ordering: .releasing) }
}
