import CloudMountPlatform

/// Percent-encoding of RFC 3986 over bytes: everything but unreserved characters (`A-Z a-z 0-9 - . _ ~`) is escaped, with
/// upper-case digits, as AWS Signature Version 4 wants it.
public enum PercentEncoding {
    /// - Parameter keepSlash: leaves `/` as it is, for whole paths.
    public static func encode(_ string: String, keepSlash: Bool) -> String {
        var string = string
        return string.withUTF8 { encode($0, keepSlash: keepSlash) }
    }

    /// The same for bytes that need not be UTF-8.
    public static func encode(_ bytes: [UInt8], keepSlash: Bool) -> String {
        bytes.withUnsafeBufferPointer { encode($0, keepSlash: keepSlash) }
    }

    /// The same, behind what `output` holds.
    public static func append(_ string: String, keepSlash: Bool, to output: inout [UInt8]) {
        var string = string
        string.withUTF8 { bytes in
            for byte in bytes {
                if isPlain(byte, keepSlash) {
                    output.append(byte)
                } else {
                    output.append(UInt8(ascii: "%"))
                    output.append(digit(byte >> 4))
                    output.append(digit(byte & 15))
                }
            }
        }
    }

    private static func encode(_ bytes: UnsafeBufferPointer<UInt8>, keepSlash: Bool) -> String {
        var escaped = 0
        for byte in bytes where !isPlain(byte, keepSlash) { escaped += 1 }
        return String(unsafeUninitializedCapacity: bytes.count + 2 * escaped) { output in
            var end = 0
            for byte in bytes {
                if isPlain(byte, keepSlash) {
                    output[end] = byte
                    end += 1
                } else {
                    output[end] = UInt8(ascii: "%")
                    output[end + 1] = digit(byte >> 4)
                    output[end + 2] = digit(byte & 15)
                    end += 3
                }
            }
            return end
        }
    }

    /// Undoes `encode`; nil when an escape is malformed or the result is not UTF-8.
    /// - Parameter plusIsSpace: reads `+` as a space, as in queries and in `encoding-type=url` listings.
    public static func decode(_ string: String, plusIsSpace: Bool) -> String? {
        guard let bytes = decodeBytes(string, plusIsSpace: plusIsSpace) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }

    /// Undoes `encode`; nil when an escape is malformed.
    public static func decodeBytes(_ string: String, plusIsSpace: Bool) -> [UInt8]? {
        var string = string
        return string.withUTF8 { input in
            var wellFormed = true
            let bytes = [UInt8](unsafeUninitializedCapacity: input.count) { output, count in
                var index = 0
                while index < input.count {
                    var byte = input[index]
                    index += 1
                    if byte == UInt8(ascii: "%") {
                        guard index + 1 < input.count, let high = Hex.value(input[index]),
                            let low = Hex.value(input[index + 1])
                        else {
                            wellFormed = false
                            return
                        }
                        byte = high << 4 | low
                        index += 2
                    } else if byte == UInt8(ascii: "+"), plusIsSpace {
                        byte = UInt8(ascii: " ")
                    }
                    output[count] = byte
                    count += 1
                }
            }
            return wellFormed ? bytes : nil
        }
    }

    @inline(__always)
    private static func isPlain(_ byte: UInt8, _ keepSlash: Bool) -> Bool {
        switch byte {
        case 0x61...0x7A, 0x41...0x5A, 0x30...0x39, 0x2D, 0x2E, 0x5F, 0x7E: true
        case 0x2F: keepSlash
        default: false
        }
    }

    @inline(__always)
    private static func digit(_ nibble: UInt8) -> UInt8 { nibble < 10 ? nibble + 0x30 : nibble + 0x37 }
}
