import CloudMountVFS

/// An ETag of the form that S3 stores give most objects: 32 lower-case hexadecimal digits, as numbers.
struct CompactTag: Equatable {
    let high: UInt64
    let low: UInt64

    init(_ high: UInt64, _ low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Nil for an ETag of another form.
    init?(_ etag: ETag) {
        var numbers: (UInt64, UInt64) = (0, 0)
        var index = 0
        for byte in etag.value.utf8 {
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
            index += 1
        }
        guard index == 32 else { return nil }
        (high, low) = numbers
    }

    var etag: ETag {
        func digits(_ value: UInt64) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: 16 - text.utf8.count) + text
        }
        return ETag(digits(high) + digits(low))
    }
}
