/// A point in time since 1970-01-01 00:00:00 UTC, as `struct timespec` has it.
public struct Timestamp: Hashable, Sendable {
    public var seconds: Int
    /// 0 to 999,999,999, also before 1970.
    public var nanoseconds: Int

    public init(seconds: Int, nanoseconds: Int = 0) {
        let (carry, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        self.seconds = seconds + carry - (rest < 0 ? 1 : 0)
        self.nanoseconds = rest < 0 ? rest + 1_000_000_000 : rest
    }

    public init(milliseconds: Int) {
        let (seconds, rest) = milliseconds.quotientAndRemainder(dividingBy: 1000)
        self.init(seconds: seconds, nanoseconds: rest * 1_000_000)
    }

    /// Rounded down, also before 1970.
    public var milliseconds: Int { seconds * 1000 + nanoseconds / 1_000_000 }
}

extension Timestamp: Comparable {
    public static func < (left: Timestamp, right: Timestamp) -> Bool {
        (left.seconds, left.nanoseconds) < (right.seconds, right.nanoseconds)
    }
}
