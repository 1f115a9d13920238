import CloudMountPlatform

/// Extended attributes as s3fs keeps them: all in one value, a JSON object of base64 texts, percent-encoded.
extension AttributeCodec {
    static func xattrText(_ xattrs: [String: [UInt8]]) -> String {
        let pairs = xattrs.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }.map { name, value in
            "\"" + jsonEscaped(name) + "\":\"" + Base64.encode(value) + "\""
        }
        return percentEncoded(("{" + pairs.joined(separator: ",") + "}").utf8, keeping: isUnreserved)
    }

    /// Nil when the value is not of that form.
    static func parseXattrs(_ text: String) -> [String: [UInt8]]? {
        guard let decoded = percentDecoded(text) else { return nil }
        var rest = Array(decoded.utf8)[...]
        func skipSpace() { rest = rest.drop { $0 == 0x20 || (0x09...0x0D).contains($0) } }
        func accept(_ character: Unicode.Scalar) -> Bool {
            skipSpace()
            guard rest.first == UInt8(ascii: character) else { return false }
            rest = rest.dropFirst()
            return true
        }
        func codeUnit() -> UInt32? {
            defer { rest = rest.dropFirst(4) }
            return UInt32(String(decoding: rest.prefix(4), as: UTF8.self), radix: 16)
        }
        func escapedScalar() -> Unicode.Scalar? {
            guard let first = codeUnit() else { return nil }
            guard 0xD800..<0xDC00 ~= first else { return Unicode.Scalar(first) }
            guard rest.starts(with: "\\u".utf8) else { return nil }
            rest = rest.dropFirst(2)
            guard let second = codeUnit(), 0xDC00..<0xE000 ~= second else { return nil }
            return Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + second - 0xDC00)
        }
        func string() -> String? {
            guard accept("\"") else { return nil }
            var bytes: [UInt8] = []
            while let byte = rest.popFirst() {
                if byte == UInt8(ascii: "\"") { return String(validating: bytes, as: UTF8.self) }
                guard byte == UInt8(ascii: "\\") else {
                    bytes.append(byte)
                    continue
                }
                guard let escaped = rest.popFirst() else { return nil }
                if escaped == UInt8(ascii: "u") {
                    guard let scalar = escapedScalar() else { return nil }
                    bytes += Array(String(scalar).utf8)
                } else {
                    bytes.append(escaped)
                }
            }
            return nil
        }
        var xattrs: [String: [UInt8]] = [:]
        guard accept("{") else { return nil }
        if !accept("}") {
            repeat {
                guard let name = string(), accept(":"), let value = string().flatMap(Base64.decode) else { return nil }
                xattrs[name] = value
            } while accept(",")
            guard accept("}") else { return nil }
        }
        skipSpace()
        return rest.isEmpty ? xattrs : nil
    }

    /// Quotes and backslashes escaped, and what is not printable ASCII: no provider then has to encode it once more.
    private static func jsonEscaped(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            if (0x20...0x7E).contains(scalar.value) {
                if scalar == "\"" || scalar == "\\" { escaped += "\\" }
                escaped.unicodeScalars.append(scalar)
            } else {
                for unit in String(scalar).utf16 {
                    let digits = String(unit, radix: 16)
                    escaped += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
                }
            }
        }
        return escaped
    }

    // MARK: Percent-encoding

    static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"): true
        default: false
        }
    }

    /// What geesefs leaves as it is in metadata, as far as it is ASCII.
    static func isPlainInTarget(_ byte: UInt8) -> Bool { (0x21...0x7E).contains(byte) && byte != UInt8(ascii: "%") }

    static func percentEncoded(_ bytes: some Sequence<UInt8>, keeping: (UInt8) -> Bool) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var encoded: [UInt8] = []
        for byte in bytes {
            if keeping(byte) {
                encoded.append(byte)
            } else {
                encoded += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: encoded, as: UTF8.self)
    }

    /// Nil when a percent sign is not followed by two digits, or the result is not UTF-8.
    static func percentDecoded(_ text: String) -> String? {
        var decoded: [UInt8] = []
        var bytes = text.utf8.makeIterator()
        func digit() -> UInt8? { bytes.next().flatMap { Character(UnicodeScalar($0)).hexDigitValue }.map(UInt8.init) }
        while let byte = bytes.next() {
            if byte == UInt8(ascii: "%") {
                guard let high = digit(), let low = digit() else { return nil }
                decoded.append(high << 4 | low)
            } else {
                decoded.append(byte)
            }
        }
        return String(validating: decoded, as: UTF8.self)
    }
}
