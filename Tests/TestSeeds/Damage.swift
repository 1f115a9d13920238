/// Damages good text in the ways that readers of it have stumbled over: the same texts for the same seed. What reads them must give an
/// error or a value; a trap would be the end of the test process.
public struct Damage: Sequence, IteratorProtocol {
    /// Around the limits of what numbers of 64 and 32 bits, and times, can hold.
    private static let numbers = [
        "9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551615",
        "922337203685477581",
        "4294967296", "2147483648", "-1", "-0", "00", "1e400", "0.9999999999", "1777777", "0x", "",
    ].map { Array($0.utf8) }

    private let samples: [[UInt8]]
    private let marks: [UInt8]
    private var left: Int
    private var random: SeededGenerator

    /// - Parameters:
    ///   - samples: good texts.
    ///   - marks: bytes that mean something to who reads them.
    public init(_ samples: [String], marks: String, count: Int, seed: UInt64 = 1) {
        self.init(bytes: samples.map { Array($0.utf8) }, marks: marks, count: count, seed: seed)
    }

    /// The same of what is no text.
    public init(bytes samples: [[UInt8]], marks: String = "", count: Int, seed: UInt64 = 1) {
        self.samples = samples
        self.marks = Array(marks.utf8) + [0, 0x1F, 0x7F, 0x80, 0xC0, 0xC3, 0xED, 0xF4, 0xFF]
        left = count
        random = SeededGenerator(seed: seed)
    }

    private mutating func below(_ count: Int) -> Int { Int.random(in: 0..<Swift.max(1, count), using: &random) }

    public mutating func next() -> [UInt8]? {
        guard left > 0 else { return nil }
        left -= 1
        var bytes = samples[below(samples.count)]
        for _ in 0...below(4) { damage(&bytes) }
        return bytes
    }

    private mutating func damage(_ bytes: inout [UInt8]) {
        let place = below(bytes.count)
        let end = Swift.min(bytes.count, place + 1 + below(below(4) == 0 ? 200 : 6))
        switch below(9) {
        case 0 where place < bytes.count: bytes[place] = marks[below(marks.count)]
        case 1 where place < bytes.count: bytes[place] = UInt8(below(256))
        case 2: bytes.insert(marks[below(marks.count)], at: place)
        case 3: bytes.removeSubrange(Swift.min(place, end)..<end)
        case 4: bytes.insert(contentsOf: Array(bytes[Swift.min(place, end)..<end]), at: place)
        case 5: bytes.removeSubrange(Swift.min(place, end)...)
        case 6:
            let other = samples[below(samples.count)]
            let from = below(other.count)
            bytes.insert(contentsOf: other[from..<Swift.min(other.count, from + below(40))], at: place)
        case 7: bytes.insert(contentsOf: [UInt8](repeating: marks[below(marks.count)], count: 1 + below(70)), at: place)
        default:
            // The number that comes next.
            guard let first = bytes[Swift.min(place, end)...].firstIndex(where: { $0 &- 0x30 < 10 }) else { return }
            let rest = bytes[first...].firstIndex { $0 &- 0x30 >= 10 } ?? bytes.count
            bytes.replaceSubrange(first..<rest, with: Self.numbers[below(Self.numbers.count)])
        }
    }
}
