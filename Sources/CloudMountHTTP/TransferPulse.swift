/// Whether a transfer still moves: a value, without a clock of its own.
///
/// Counts what passes libcurl's callbacks and, while nothing does, what the peer acknowledges of the bytes that wait in
/// the socket: on a slow line those of a whole part may take longer than the patience.
struct TransferPulse {
    /// Bytes that passed, either way.
    var moved = 0
    private var acknowledged = 0
    private var told = 0
    private var lastMoved = 0
    private var lastUnsent: Int?
    private var start: UInt64?
    private var startTotal = 0
    private var answering: UInt64?
    private let patience: UInt64
    private let answerPatience: UInt64
    private let wholePatience: UInt64?
    private var begun: UInt64?
    private let rate: Double

    init(_ options: HTTPOptions = HTTPOptions()) {
        patience = UInt64(options.stallTimeout.milliseconds) * 1_000_000
        answerPatience = UInt64(options.answerTimeout.milliseconds) * 1_000_000
        wholePatience = options.wholeTimeout.map { UInt64(max(0, $0.milliseconds)) * 1_000_000 }
        rate = Double(options.stallBytesPerSecond)
    }

    /// The time until the next look does not count: the transfer connects, or its receiver has no room.
    mutating func hold() { start = nil }

    /// Bytes that have moved since this was last asked.
    mutating func news() -> Int {
        defer { told = moved + acknowledged }
        return moved + acknowledged - told
    }

    /// Whether an answer that is being collected takes too long, however it moves. To be asked every now and then while it comes.
    mutating func isOverdue(at now: UInt64) -> Bool {
        guard let answering else {
            self.answering = now
            return false
        }
        return now &- answering >= answerPatience
    }

    /// Whether all of it takes too long. To be asked every now and then, whatever the transfer waits for.
    mutating func isOver(at now: UInt64) -> Bool {
        guard let wholePatience else { return false }
        guard let begun else {
            self.begun = now
            return false
        }
        return now &- begun >= wholePatience
    }

    /// To be asked every now and then.
    /// - Parameters:
    ///   - now: nanoseconds of a clock that never steps back.
    ///   - unsent: the bytes waiting in the socket.
    mutating func isStalled(at now: UInt64, unsent: () -> Int?) -> Bool {
        if moved == lastMoved {
            let left = unsent()
            if let left, let lastUnsent, left < lastUnsent { acknowledged += lastUnsent - left }
            lastUnsent = left
        } else {
            lastMoved = moved
            lastUnsent = nil
        }
        let total = moved + acknowledged
        guard let start else {
            self.start = now
            startTotal = total
            return false
        }
        let elapsed = now &- start
        if Double(total - startTotal) >= max(1, rate * Double(elapsed) / 1e9) {
            self.start = now
            startTotal = total
            return false
        }
        return elapsed >= patience
    }
}
