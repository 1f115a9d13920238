import CloudMountPlatform
/// A program that reads one file of an order after the other, perhaps by several threads that overtake each other. A value: no clock (time
/// comes from outside, in monotonic nanoseconds), no I/O.
struct FileWalk {
    /// Most files ahead of the reader.
    static let widest = 64
    /// How far ahead of the first reader another one may be.
    private static let leap = 16
    /// No file is fetched so many nanoseconds before it will be read, at the pace at which they are.
    private static let horizon: UInt64 = 4_000_000_000
    /// How many files must have been read before anything is fetched ahead.
    private static let first = 3

    /// The furthest place that was read.
    private(set) var front: Int
    /// Files read.
    private(set) var count = 1
    /// Bit i: the file i places before the front was read.
    private var read: UInt64 = 1
    /// Places from the first file to the front, as far as `read` reaches back.
    private var span = 1
    private var window = 0
    /// What lies before this has been handed out.
    private var frontier: Int
    private let isTrusted: Bool
    private var lastRead: UInt64
    /// Nanoseconds from one file to the next.
    private var pace: UInt64 = 0

    /// - Parameter isTrusted: whoever reads has gone through another directory in the same order, to its end.
    init(at place: Int, now: UInt64, isTrusted: Bool = false) {
        front = place
        lastRead = now
        frontier = place + 1
        self.isTrusted = isTrusted
        if isTrusted { window = 8 }
    }

    /// How far a place is from the front; nil when this walk does not lead there, or has passed it.
    func distance(_ place: Int) -> Int? {
        if place > front { return place <= front + Self.leap ? place - front : nil }
        let back = front - place
        return back < UInt64.bitWidth && read >> back & 1 == 0 ? back : nil
    }

    /// Whether nearly all files so far were read, and no others.
    var isSure: Bool {
        let found = read.nonzeroBitCount
        return (count >= Self.first || isTrusted) && (span - found) * 4 <= found
    }

    /// The file at a place to which the walk leads has been read.
    mutating func pass(_ place: Int, now: UInt64) {
        if place > front {
            read = read << (place - front) | 1
            span = min(UInt64.bitWidth, span + place - front)
            front = place
        } else {
            read |= 1 << (front - place)
            span = max(span, front - place + 1)
        }
        let step = min(now.elapsed(since: lastRead), 1 << 40)
        pace = count == 1 ? step : (3 * pace + step) / 4
        lastRead = now
        count += 1
        frontier = max(frontier, front + 1)
        window = isSure ? min(Self.widest, max(2, window * 2)) : 0
    }

    /// The places that are to be fetched now, and have not been handed out; several at a time, once the window is wide.
    /// - Parameters:
    ///   - end: how many files there are.
    ///   - isCautious: much was fetched for nothing: no more than a tenth of what this one has read.
    mutating func ahead(of end: Int, isCautious: Bool) -> Range<Int> {
        guard isSure else { return front..<front }
        let reach = min(window, Int(Self.horizon / max(1, pace)) + 1)
        let width = isCautious ? min(reach, count / 10) : reach
        let low = max(frontier, front + 1)
        let high = min(end, front + 1 + width)
        guard low < high, low - front - 1 <= width / 4 * 3 else { return front..<front }
        frontier = high
        return low..<high
    }
}
