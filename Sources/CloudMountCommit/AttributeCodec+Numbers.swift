import CloudMountVFS

/// Modes, device numbers and times, as the tools write them.
extension AttributeCodec {
    /// A leading zero means octal (DataSync, us), its absence decimal (s3fs, geesefs). What makes no sense in decimal
    /// but does in octal is rclone's, which writes no zero: `100644` is beyond any mode, and `40755` would have no
    /// known type.
    static func parseMode(_ text: String) -> UInt32? {
        if text.utf8.first == UInt8(ascii: "0") { return saneMode(text, radix: 8) }
        return saneMode(text, radix: 10) ?? saneMode(text, radix: 8)
    }

    /// Sixteen bits whose type is one that exists, or none.
    static func saneMode(_ text: String, radix: Int) -> UInt32? {
        guard let mode = UInt32(text, radix: radix), mode <= 0o177777 else { return nil }
        let type = mode & 0o170000
        return type == 0 || FileKind(rawValue: type) != nil ? mode : nil
    }

    /// Decimal (geesefs), or hexadecimal after `0x` (us) or by its digits (rclone).
    static func parseDevice(_ text: String) -> UInt32? {
        if text.utf8.starts(with: "0x".utf8) { return UInt32(text.dropFirst(2), radix: 16) }
        return UInt32(text) ?? UInt32(text, radix: 16)
    }

    /// Seconds with or without a fraction (s3fs, rclone, geesefs, gsutil), nanoseconds marked `ns` (DataSync), or RFC
    /// 3339 (gcsfuse, and rclone's `atime` and `btime`).
    static func parseTime(_ text: String) -> Timestamp? {
        let bytes = text.utf8
        if bytes.contains(UInt8(ascii: "T")) { return parseRFC3339(text) }
        if bytes.count > 2, bytes.suffix(2).elementsEqual("ns".utf8) {
            guard let count = Int(text.dropLast(2)) else { return nil }
            let (seconds, nanoseconds) = count.quotientAndRemainder(dividingBy: 1_000_000_000)
            return Timestamp(seconds: seconds, nanoseconds: nanoseconds)
        }
        let isNegative = bytes.first == UInt8(ascii: "-")
        let parts = text.dropFirst(isNegative ? 1 : 0).split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2, let seconds = digits(parts[0]), seconds <= 1 << 40 else { return nil }
        guard let nanoseconds = parts.count == 1 ? 0 : fraction(parts[1]) else { return nil }
        return isNegative
            ? Timestamp(seconds: -seconds, nanoseconds: -nanoseconds)
            : Timestamp(seconds: seconds, nanoseconds: nanoseconds)
    }

    /// As s3fs writes it: nine digits after the point or none, because s3fs takes what follows the point for a number
    /// of nanoseconds.
    static func decimalText(_ time: Timestamp) -> String {
        // Before 1970 the fraction counts away from zero in this notation, while a timestamp's counts forward.
        var seconds = time.seconds
        var nanoseconds = time.nanoseconds
        let isNegative = seconds < 0
        if isNegative, nanoseconds > 0 {
            seconds += 1
            nanoseconds = 1_000_000_000 - nanoseconds
        }
        let whole = (isNegative ? "-" : "") + String(seconds.magnitude)
        return nanoseconds == 0 ? whole : whole + "." + padded(nanoseconds, 9)
    }

    /// `2006-01-02T15:04:05.999999999Z`, any number of fraction digits, or with an offset for the Z.
    static func parseRFC3339(_ text: String) -> Timestamp? {
        let bytes = Array(text.utf8)
        func number(_ range: Range<Int>) -> Int? {
            guard range.upperBound <= bytes.count else { return nil }
            return digits(String(decoding: bytes[range], as: UTF8.self))
        }
        let marks: [(Int, Unicode.Scalar)] = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")]
        guard bytes.count > 19, marks.allSatisfy({ bytes[$0] == UInt8(ascii: $1) }) else { return nil }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
            let minute = number(14..<16), let second = number(17..<19), (1...12).contains(month),
            (1...31).contains(day),
            hour < 24, minute < 60, second < 61
        else { return nil }
        var index = 19
        var nanoseconds = 0
        if index < bytes.count, bytes[index] == UInt8(ascii: ".") {
            let end = bytes[(index + 1)...].firstIndex { !(0x30...0x39).contains($0) } ?? bytes.count
            guard let value = fraction(String(decoding: bytes[(index + 1)..<end], as: UTF8.self)) else { return nil }
            nanoseconds = value
            index = end
        }
        var offset = 0
        guard index < bytes.count else { return nil }
        switch bytes[index] {
        case UInt8(ascii: "Z"): break
        case UInt8(ascii: "+"), UInt8(ascii: "-"):
            guard let hours = number(index + 1..<index + 3), let minutes = number(index + 4..<index + 6) else {
                return nil
            }
            offset = (hours * 60 + minutes) * 60 * (bytes[index] == UInt8(ascii: "-") ? -1 : 1)
        default: return nil
        }
        let seconds = days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
        return Timestamp(seconds: seconds, nanoseconds: nanoseconds)
    }

    static func rfc3339Text(_ time: Timestamp) -> String {
        let day = time.seconds >= 0 ? time.seconds / 86400 : (time.seconds - 86399) / 86400
        let rest = time.seconds - day * 86400
        let (year, month, date) = civil(day)
        var text = padded(year, 4) + "-" + padded(month, 2) + "-" + padded(date, 2)
        text += "T" + padded(rest / 3600, 2) + ":" + padded(rest / 60 % 60, 2) + ":" + padded(rest % 60, 2)
        if time.nanoseconds != 0 { text += "." + padded(time.nanoseconds, 9) }
        return text + "Z"
    }

    private static func digits(_ text: some StringProtocol) -> Int? {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) : nil
    }

    /// The digits after a point as nanoseconds; beyond nine they are cut off.
    private static func fraction(_ text: some StringProtocol) -> Int? {
        guard digits(text.prefix(9)) != nil || text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        let nine = text.prefix(9)
        return Int(nine + String(repeating: "0", count: 9 - nine.count))
    }

    private static func padded(_ value: Int, _ width: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
    }

    /// Days since 1970-01-01 of a date of the Gregorian calendar; years are counted from March, so that leap days end
    /// them.
    private static func days(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let year = month <= 2 ? year - 1 : year
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let era = (year >= 0 ? year : year - 399) / 400
        let yearOfEra = year - era * 400
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func civil(_ days: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let month = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * month + 2) / 5 + 1
        let calendarMonth = month < 10 ? month + 3 : month - 9
        return (yearOfEra + era * 400 + (calendarMonth <= 2 ? 1 : 0), calendarMonth, day)
    }
}
