/// A point in time since 1970-01-01 00:00:00 UTC, as `struct timespec` has it. Times more than some 34,000 years away,
/// which callers and stores may name, become the furthest that there is: sums and products of times never overflow.
public struct Timestamp: Hashable, Sendable, Codable {
    /// Of `seconds`, either way.
    public static let limit = 1 << 40

    public let seconds: Int
    /// 0 to 999,999,999, also before 1970.
    public let nanoseconds: Int

    public init(seconds: Int, nanoseconds: Int = 0) {
        let (carry, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        let whole = max(-Self.limit, min(seconds, Self.limit)) + carry - (rest < 0 ? 1 : 0)
        self.seconds = max(-Self.limit, min(whole, Self.limit))
        self.nanoseconds = rest < 0 ? rest + 1_000_000_000 : rest
    }

    private enum CodingKeys: CodingKey { case seconds, nanoseconds }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            seconds: try fields.decode(Int.self, forKey: .seconds),
            nanoseconds: try fields.decode(Int.self, forKey: .nanoseconds))
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

extension Timestamp {
    /// `1595002920.123456789`: whole seconds, or all nine digits, since s3fs takes the fraction for a count of
    /// nanoseconds.
    public var decimalSeconds: String {
        // Nanoseconds count up from the second below, also before 1970.
        let negative = seconds < 0 && nanoseconds > 0
        let whole = negative ? seconds + 1 : seconds
        let rest = negative ? 1_000_000_000 - nanoseconds : nanoseconds
        guard rest > 0 else { return "\(whole)" }
        var digits = String(rest)
        digits = String(repeating: "0", count: 9 - digits.utf8.count) + digits
        return "\(negative && whole == 0 ? "-0" : "\(whole)").\(digits)"
    }

    /// Reads `decimalSeconds`, with any number of decimals; nil when the text is something else.
    public init?(decimalSeconds text: String) {
        var bytes = text.utf8[...]
        let negative = bytes.first == 0x2D
        if negative { bytes.removeFirst() }
        let whole = bytes.prefix { $0 &- 0x30 < 10 }
        guard !whole.isEmpty, let seconds = Int(Substring(whole)) else { return nil }
        bytes.removeFirst(whole.count)
        var nanoseconds = 0
        if bytes.first == 0x2E {
            bytes.removeFirst()
            var unit = 100_000_000
            for byte in bytes {
                guard byte &- 0x30 < 10 else { return nil }
                nanoseconds += Int(byte &- 0x30) * unit
                unit /= 10
            }
        } else if !bytes.isEmpty {
            return nil
        }
        self.init(seconds: negative ? -seconds : seconds, nanoseconds: negative ? -nanoseconds : nanoseconds)
    }
}
