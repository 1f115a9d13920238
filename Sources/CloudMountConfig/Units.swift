/// Sizes and durations as people write them.
public enum Units {
    static let sizes: [(name: String, bytes: Int)] = [
        ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("KB", 1_000),
        ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000),
    ]
    static let durations: [(name: String, milliseconds: Int)] = [
        ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]

    static let sizePattern = "^(0|[0-9]+(\\.[0-9]+)?(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB))$"
    static let durationPattern = "^(0|([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+)$"

    struct Fault: Error, Equatable { var message: String }

    /// Bytes of `64MiB`, `1.5GB` or `0`.
    static func size(_ text: String) throws(Fault) -> Int {
        if text == "0" { return 0 }
        var rest = Substring(text)
        guard let number = takeNumber(&rest) else {
            throw Fault(message: "is not a size such as 64MiB")
        }
        guard let unit = sizes.first(where: { $0.name == rest }) else {
            throw Fault(message: unitFault(number.text, rest, sizes.map(\.name), example: "64MiB", fallback: "MiB"))
        }
        let bytes = number.value * Double(unit.bytes)
        guard bytes < 0x1p62 else { throw Fault(message: "is too large") }
        return Int(bytes)
    }

    /// Of `30s`, `1m30s`, `500ms` or `0`.
    static func duration(_ text: String) throws(Fault) -> Duration {
        if text == "0" { return .zero }
        var rest = Substring(text)
        var milliseconds = 0.0
        repeat {
            guard let number = takeNumber(&rest) else {
                throw Fault(message: "is not a duration such as 30s")
            }
            let name = rest.prefix { $0.isLetter }
            guard let unit = durations.first(where: { $0.name == name }) else {
                throw Fault(
                    message: unitFault(number.text, rest, durations.map(\.name), example: "30s", fallback: "s"))
            }
            rest = rest.dropFirst(name.count)
            milliseconds += number.value * Double(unit.milliseconds)
        } while !rest.isEmpty
        guard milliseconds <= 1e12 else { throw Fault(message: "is too long") }
        return .milliseconds(Int64(milliseconds))
    }

    /// As `mounts.yaml` has durations; nil when it is none.
    public static func time(_ text: String) -> Duration? {
        do throws(Fault) { return try duration(text) } catch { return nil }
    }

    private static func takeNumber(_ text: inout Substring) -> (value: Double, text: Substring)? {
        let whole = text.prefix { $0.isASCII && $0.isNumber }
        guard !whole.isEmpty else { return nil }
        var number = whole
        let rest = text.dropFirst(whole.count)
        if rest.first == "." {
            let fraction = rest.dropFirst().prefix { $0.isASCII && $0.isNumber }
            if !fraction.isEmpty { number = text.prefix(whole.count + 1 + fraction.count) }
        }
        guard let value = Double(number) else { return nil }
        text = text.dropFirst(number.count)
        return (value, number)
    }

    private static func unitFault(
        _ number: Substring, _ unit: Substring, _ units: [String], example: String, fallback: String
    ) -> String {
        let known = units.joined(separator: ", ")
        let word = String(unit.drop(while: { $0 == " " }))
        guard !word.isEmpty else { return "has no unit (\(known)); did you mean '\(number)\(fallback)'?" }
        let near =
            units.first { $0.lowercased() == word.lowercased() }
            ?? units.first { $0.count == 3 && $0.lowercased().first == word.lowercased().first && word.count == 1 }
            ?? NearestWord.to(word, among: units)
        let hint = near.map { "; did you mean '\(number)\($0)'?" } ?? ", such as \(example)"
        return "has the unknown unit '\(word)' (known: \(known))\(hint)"
    }

    /// Shortest exact text of a size, such as `64MiB`.
    public static func text(bytes: Int) -> String {
        for unit in sizes[...4].reversed() where bytes != 0 && bytes % unit.bytes == 0 {
            return "\(bytes / unit.bytes)\(unit.name)"
        }
        return "\(bytes)"
    }

    /// About, for people.
    public static func rounded(bytes: Int) -> String {
        var value = Double(bytes)
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if value < 1024 { return unit == "B" ? "\(bytes) B" : "\((value * 10).rounded() / 10) \(unit)" }
            value /= 1024
        }
        return "\((value * 10).rounded() / 10) TiB"
    }

    /// Shortest exact text of a duration, to the millisecond, such as `10m`.
    public static func text(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        let milliseconds = seconds * 1_000 + attoseconds / 1_000_000_000_000_000
        if milliseconds == 0 { return "0s" }
        for unit in durations.reversed() where milliseconds % Int64(unit.milliseconds) == 0 {
            return "\(milliseconds / Int64(unit.milliseconds))\(unit.name)"
        }
        return "\(milliseconds)ms"
    }
}
