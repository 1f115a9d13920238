public import CloudMountVFS

/// The ways in which stores write a point in time, read and written byte by byte.
public enum WireDate {
    /// `2026-11-05T10:10:10.123Z`, also with `+hh:mm` or without a fraction. Nil for anything else.
    public static func iso8601(_ text: UnsafeBufferPointer<UInt8>) -> Timestamp? {
        guard text.count >= 19, text[4] == 0x2D, text[7] == 0x2D, text[13] == 0x3A, text[16] == 0x3A,
            text[10] == 0x54 || text[10] == 0x20 || text[10] == 0x74,
            let year = number(text, 0, 4), let month = number(text, 5, 2), let day = number(text, 8, 2),
            let hour = number(text, 11, 2), let minute = number(text, 14, 2), let second = number(text, 17, 2),
            1...12 ~= month, 1...31 ~= day, hour < 24, minute < 60, second <= 60
        else { return nil }
        var index = 19
        var nanoseconds = 0
        if index < text.count, text[index] == 0x2E {
            index += 1
            var unit = 100_000_000
            while index < text.count, text[index] &- 0x30 < 10 {
                nanoseconds += Int(text[index] &- 0x30) * unit
                unit /= 10
                index += 1
            }
        }
        var offset = 0
        if index < text.count {
            switch text[index] {
            case 0x5A, 0x7A:
                guard index + 1 == text.count else { return nil }
            case 0x2B, 0x2D:
                guard index + 6 == text.count, text[index + 3] == 0x3A, let hours = number(text, index + 1, 2),
                    let minutes = number(text, index + 4, 2)
                else { return nil }
                offset = (hours * 60 + minutes) * (text[index] == 0x2B ? 60 : -60)
            default: return nil
            }
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
        return Timestamp(seconds: seconds - offset, nanoseconds: nanoseconds)
    }

    public static func iso8601(_ text: String) -> Timestamp? {
        var text = text
        return text.withUTF8 { iso8601($0) }
    }

    /// `Wed, 21 Oct 2015 07:28:00 GMT` (RFC 9110, IMF-fixdate). Nil for anything else.
    public static func http(_ text: UnsafeBufferPointer<UInt8>) -> Timestamp? {
        guard text.count == 29, text[3] == 0x2C, let day = number(text, 5, 2), let year = number(text, 12, 4),
            let hour = number(text, 17, 2), let minute = number(text, 20, 2), let second = number(text, 23, 2),
            1...31 ~= day, hour < 24, minute < 60, second <= 60
        else { return nil }
        let name = text[8..<11]
        guard let month = months.firstIndex(where: { name.elementsEqual($0.utf8) }) else { return nil }
        return Timestamp(seconds: days(year, month + 1, day) * 86_400 + hour * 3600 + minute * 60 + second)
    }

    public static func http(_ text: String) -> Timestamp? {
        var text = text
        return text.withUTF8 { http($0) }
    }

    /// The same form of a point in time, as a header has it.
    /// - Parameter seconds: since 1970; of the years 0 to 9999.
    public static func httpText(_ seconds: Int) -> String {
        let (day, rest) = floorDivide(seconds, 86_400)
        let (year, month, dayOfMonth) = civil(day)
        // 1970 began on a Thursday.
        let weekday = weekdays[floorDivide(day + 4, 7).1]
        return "\(weekday), \(padded(dayOfMonth, 2)) \(months[month - 1]) \(padded(year, 4)) "
            + "\(padded(rest / 3600, 2)):\(padded(rest / 60 % 60, 2)):\(padded(rest % 60, 2)) GMT"
    }

    /// `20130524T000000Z`, as signatures of AWS have it; the first eight bytes are the day.
    /// - Parameter seconds: since 1970; of the years 0 to 9999.
    public static func basic(_ seconds: Int) -> String {
        let (day, rest) = floorDivide(seconds, 86_400)
        let (year, month, dayOfMonth) = civil(day)
        return String(unsafeUninitializedCapacity: 16) { output in
            put(output, 0, 4, year)
            put(output, 4, 2, month)
            put(output, 6, 2, dayOfMonth)
            output[8] = 0x54
            put(output, 9, 2, rest / 3600)
            put(output, 11, 2, rest / 60 % 60)
            put(output, 13, 2, rest % 60)
            output[15] = 0x5A
            return 16
        }
    }

    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    private static let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]

    private static func padded(_ value: Int, _ width: Int) -> String {
        let digits = String(value)
        return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }

    private static func put(_ output: UnsafeMutableBufferPointer<UInt8>, _ start: Int, _ width: Int, _ value: Int) {
        var value = value
        for index in stride(from: start + width - 1, through: start, by: -1) {
            output[index] = UInt8(0x30 + value % 10)
            value /= 10
        }
    }

    private static func number(_ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ width: Int) -> Int? {
        guard start + width <= text.count else { return nil }
        var value = 0
        for index in start..<start + width {
            let digit = text[index] &- 0x30
            guard digit < 10 else { return nil }
            value = value * 10 + Int(digit)
        }
        return value
    }

    private static func floorDivide(_ value: Int, _ by: Int) -> (Int, Int) {
        let (quotient, rest) = value.quotientAndRemainder(dividingBy: by)
        return rest < 0 ? (quotient - 1, rest + by) : (quotient, rest)
    }

    /// Days since 1970-01-01 in the proleptic Gregorian calendar.
    private static func days(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let (era, yearOfEra) = floorDivide(shifted, 400)
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func civil(_ days: Int) -> (year: Int, month: Int, day: Int) {
        let (era, dayOfEra) = floorDivide(days + 719_468, 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
    }
}
