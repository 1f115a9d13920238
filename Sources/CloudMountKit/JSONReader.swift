import CloudMountPlatform
import Glibc

/// What JSON a reader does not take: bytes that are none, or a value of another kind than was asked for.
public struct JSONError: Error, Sendable {
    public init() {}
}

/// Reads JSON from front to back without building a tree of it: a page of 10,000 files is some megabytes, and most of
/// its fields are of no interest.
///
/// Every value is read by exactly one call: of its kind, or `skip`.
public struct JSONReader: ~Copyable {
    /// A member's name as it stands in the text, for `switch`.
    public struct Name {
        let bytes: UnsafeBufferPointer<UInt8>

        public static func ~= (pattern: StaticString, name: Name) -> Bool {
            pattern.utf8CodeUnitCount == name.bytes.count
                && memcmp(pattern.utf8Start, name.bytes.baseAddress ?? pattern.utf8Start, name.bytes.count) == 0
        }
    }

    /// Deeper than any answer nests.
    private static let maxDepth = 64
    /// Elements of all arrays of one text that are read, not skipped: B2 has no longer pages. Two bytes of text may become hundreds in
    /// memory.
    public static let mostElements = 10_000
    /// Members of one object that is read as strings.
    public static let mostStrings = 100

    private let bytes: UnsafeBufferPointer<UInt8>
    private var index = 0
    private var depth = 0
    private var elements = 0

    private init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    /// - Returns: nil when the bytes are not one JSON value of the kind that `body` reads.
    public static func read<Value>(
        _ bytes: [UInt8], _ body: (inout JSONReader) throws(JSONError) -> Value
    ) -> Value? {
        bytes.withUnsafeBufferPointer { buffer in
            var reader = JSONReader(buffer)
            guard let value = try? body(&reader), reader.peek() == nil else { return nil }
            return value
        }
    }

    // MARK: Composite values

    /// Calls `member` for each member; it must read or skip the value.
    public mutating func object(
        _ member: (inout JSONReader, Name) throws(JSONError) -> Void
    ) throws(JSONError) {
        try open(UInt8(ascii: "{"))
        if try close(UInt8(ascii: "}")) { return }
        repeat {
            guard peek() == UInt8(ascii: "\"") else { throw JSONError() }
            let (range, _) = try text()
            guard peek() == UInt8(ascii: ":") else { throw JSONError() }
            index += 1
            try member(&self, Name(bytes: UnsafeBufferPointer(rebasing: bytes[range])))
        } while try goesOn(until: UInt8(ascii: "}"))
    }

    /// Calls `element` for each element; it must read or skip the value. Beyond `mostElements` the text is an error.
    public mutating func array(_ element: (inout JSONReader) throws(JSONError) -> Void) throws(JSONError) {
        try eachElement { reader throws(JSONError) in
            reader.elements += 1
            guard reader.elements <= Self.mostElements else { throw JSONError() }
            try element(&reader)
        }
    }

    private mutating func eachElement(
        _ element: (inout JSONReader) throws(JSONError) -> Void
    ) throws(JSONError) {
        try open(UInt8(ascii: "["))
        if try close(UInt8(ascii: "]")) { return }
        repeat { try element(&self) } while try goesOn(until: UInt8(ascii: "]"))
    }

    /// An object whose values are strings; those that are not are left out. More than `mostStrings` are an error.
    public mutating func strings() throws(JSONError) -> [String: String] {
        var result: [String: String] = [:]
        try object { reader, name throws(JSONError) in
            guard reader.peek() == UInt8(ascii: "\"") else { return try reader.skip() }
            guard result.count < Self.mostStrings else { throw JSONError() }
            result[try Self.decoded(name.bytes, isEscaped: name.bytes.contains(0x5C))] = try reader.string()
        }
        return result
    }

    // MARK: Plain values

    public enum Kind: Sendable {
        case object, array, string, number, boolean, null
    }

    /// Of the next value, which is not read by this; nil at the end, and where no value can begin.
    public mutating func kind() -> Kind? {
        guard let byte = peek() else { return nil }
        return switch byte {
        case UInt8(ascii: "{"): .object
        case UInt8(ascii: "["): .array
        case UInt8(ascii: "\""): .string
        case UInt8(ascii: "t"), UInt8(ascii: "f"): .boolean
        case UInt8(ascii: "n"): .null
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): .number
        default: nil
        }
    }

    /// With its escapes resolved; what is not UTF-8, and half a surrogate, is an error.
    public mutating func string() throws(JSONError) -> String {
        guard peek() == UInt8(ascii: "\"") else { throw JSONError() }
        let (range, isEscaped) = try text()
        return try Self.decoded(UnsafeBufferPointer(rebasing: bytes[range]), isEscaped: isEscaped)
    }

    /// Nil for `null`.
    public mutating func optionalString() throws(JSONError) -> String? { try null() ? nil : try string() }

    /// Nil for `null`.
    public mutating func optionalInteger() throws(JSONError) -> Int? { try null() ? nil : try integer() }

    /// Without a fraction or an exponent, and not beyond 64 bits.
    public mutating func integer() throws(JSONError) -> Int {
        _ = peek()
        var negative = false
        if index < bytes.count, bytes[index] == UInt8(ascii: "-") {
            negative = true
            index += 1
        }
        let start = index
        var value = 0
        while index < bytes.count, bytes[index] &- 0x30 < 10 {
            let (product, tooLarge) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflow) = product.addingReportingOverflow(Int(bytes[index] &- 0x30))
            guard !tooLarge, !overflow else { throw JSONError() }
            value = sum
            index += 1
        }
        guard index > start, index == bytes.count || !Self.isNumberTail(bytes[index]) else { throw JSONError() }
        return negative ? -value : value
    }

    /// `true` or `false`.
    public mutating func boolean() throws(JSONError) -> Bool {
        let isTrue = peek() == UInt8(ascii: "t")
        try word(isTrue ? "true" : "false")
        return isTrue
    }

    /// Whether the next value is `null`, which is then read.
    public mutating func null() throws(JSONError) -> Bool {
        guard peek() == UInt8(ascii: "n") else { return false }
        try word("null")
        return true
    }

    /// Reads past one value of any kind.
    public mutating func skip() throws(JSONError) {
        switch peek() {
        case UInt8(ascii: "{"): try object { reader, _ throws(JSONError) in try reader.skip() }
        case UInt8(ascii: "["): try eachElement { reader throws(JSONError) in try reader.skip() }
        case UInt8(ascii: "\""): _ = try text()
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        case UInt8(ascii: "n"): try word("null")
        case nil: throw JSONError()
        default:
            let start = index
            while index < bytes.count, bytes[index] &- 0x30 < 10 || Self.isNumberTail(bytes[index]) { index += 1 }
            guard index > start else { throw JSONError() }
        }
    }

    // MARK: The text

    private static func isNumberTail(_ byte: UInt8) -> Bool {
        byte == 0x2E || byte == 0x2D || byte == 0x2B || byte | 0x20 == 0x65
    }

    /// The next byte that is no white space.
    private mutating func peek() -> UInt8? {
        while index < bytes.count {
            let byte = bytes[index]
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return byte }
            index += 1
        }
        return nil
    }

    private mutating func open(_ bracket: UInt8) throws(JSONError) {
        guard peek() == bracket, depth < Self.maxDepth else { throw JSONError() }
        depth += 1
        index += 1
    }

    private mutating func close(_ bracket: UInt8) throws(JSONError) -> Bool {
        guard peek() == bracket else { return false }
        depth -= 1
        index += 1
        return true
    }

    private mutating func goesOn(until bracket: UInt8) throws(JSONError) -> Bool {
        if try close(bracket) { return false }
        guard peek() == UInt8(ascii: ",") else { throw JSONError() }
        index += 1
        return true
    }

    private mutating func word(_ word: StaticString) throws(JSONError) {
        let count = word.utf8CodeUnitCount
        guard index + count <= bytes.count, let start = bytes.baseAddress,
            memcmp(start + index, word.utf8Start, count) == 0
        else { throw JSONError() }
        index += count
    }

    /// Where the text of the string at `index` lies, between its quotes.
    private mutating func text() throws(JSONError) -> (Range<Int>, isEscaped: Bool) {
        index += 1
        let start = index
        var isEscaped = false
        while index < bytes.count {
            switch bytes[index] {
            case UInt8(ascii: "\""):
                index += 1
                return (start..<index - 1, isEscaped)
            case UInt8(ascii: "\\"):
                isEscaped = true
                index += 2
            default: index += 1
            }
        }
        throw JSONError()
    }

    private static func decoded(
        _ text: UnsafeBufferPointer<UInt8>, isEscaped: Bool
    ) throws(JSONError) -> String {
        guard isEscaped else {
            guard let string = String(validating: text, as: UTF8.self) else { throw JSONError() }
            return string
        }
        var output: [UInt8] = []
        output.reserveCapacity(text.count)
        var index = 0
        while index < text.count {
            guard text[index] == UInt8(ascii: "\\") else {
                output.append(text[index])
                index += 1
                continue
            }
            guard index + 1 < text.count else { throw JSONError() }
            index += 2
            switch text[index - 1] {
            case UInt8(ascii: "n"): output.append(0x0A)
            case UInt8(ascii: "t"): output.append(0x09)
            case UInt8(ascii: "r"): output.append(0x0D)
            case UInt8(ascii: "b"): output.append(0x08)
            case UInt8(ascii: "f"): output.append(0x0C)
            case UInt8(ascii: "u"):
                var unit = try hex(text, &index)
                if 0xD800..<0xDC00 ~= unit, index + 1 < text.count, text[index] == 0x5C, text[index + 1] == 0x75 {
                    index += 2
                    let low = try hex(text, &index)
                    guard 0xDC00..<0xE000 ~= low else { throw JSONError() }
                    unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
                }
                guard let scalar = Unicode.Scalar(unit) else { throw JSONError() }
                output += Array(String(Character(scalar)).utf8)
            case let other where other == 0x22 || other == 0x5C || other == 0x2F: output.append(other)
            default: throw JSONError()
            }
        }
        guard let string = String(validating: output, as: UTF8.self) else { throw JSONError() }
        return string
    }

    private static func hex(_ text: UnsafeBufferPointer<UInt8>, _ index: inout Int) throws(JSONError) -> UInt32 {
        guard index + 4 <= text.count else { throw JSONError() }
        var value: UInt32 = 0
        for byte in text[index..<index + 4] {
            guard let digit = Hex.value(byte) else { throw JSONError() }
            value = value << 4 | UInt32(digit)
        }
        index += 4
        return value
    }
}
