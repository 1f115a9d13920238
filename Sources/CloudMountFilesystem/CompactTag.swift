import CloudMountVFS

/// An ETag in little memory: of the form that S3 stores give most of theirs, as numbers.
enum CompactTag: Equatable {
    case none
    /// 32 lower-case hexadecimal digits, then `-` and the number of parts unless that is 0.
    case digest(UInt64, UInt64, UInt16)
    case other(String)

    init(_ etag: ETag?) {
        guard let etag else {
            self = .none
            return
        }
        self = CompactTag.digest(etag.value) ?? .other(etag.value)
    }

    var etag: ETag? {
        switch self {
        case .none: return nil
        case .other(let text): return ETag(text)
        case .digest(let high, let low, let parts):
            func digits(_ value: UInt64) -> String {
                let text = String(value, radix: 16)
                return String(repeating: "0", count: 16 - text.utf8.count) + text
            }
            return ETag(digits(high) + digits(low) + (parts == 0 ? "" : "-\(parts)"))
        }
    }

    private static func digest(_ text: String) -> CompactTag? {
        var numbers: (UInt64, UInt64) = (0, 0)
        var parts: UInt16 = 0
        var index = 0
        for byte in text.utf8 {
            defer { index += 1 }
            if index == 32 {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            if index > 32 {
                // No leading zero: the text must come out again as it was.
                guard (0x30...0x39).contains(byte), index > 33 || byte != 0x30, parts < 6000 else { return nil }
                parts = parts * 10 + UInt16(byte - 0x30)
                continue
            }
            let digit: UInt8
            switch byte {
            case 0x30...0x39: digit = byte - 0x30
            case 0x61...0x66: digit = byte - 0x61 + 10
            default: return nil
            }
            if index < 16 {
                numbers.0 = numbers.0 << 4 | UInt64(digit)
            } else {
                numbers.1 = numbers.1 << 4 | UInt64(digit)
            }
        }
        guard index == 32 || index > 33 else { return nil }
        return .digest(numbers.0, numbers.1, parts)
    }
}
