import CXML2

/// A name or a text of a document, as bytes that are dead after the callback that they were given to.
public struct XMLText {
    public let bytes: UnsafeBufferPointer<UInt8>

    public init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    init(_ start: UnsafePointer<UInt8>?, _ count: Int) { bytes = UnsafeBufferPointer(start: start, count: count) }

    /// A copy; invalid UTF-8, which libxml2 does not let through, would be repaired.
    public var string: String { String(decoding: bytes, as: UTF8.self) }

    /// The whole text as a decimal number without sign; nil for anything else, also for one too large.
    public var integer: Int? {
        guard !bytes.isEmpty else { return nil }
        var value = 0
        for byte in bytes {
            let (product, tooLarge) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflow) = product.addingReportingOverflow(Int(byte &- 0x30))
            guard byte &- 0x30 < 10, !tooLarge, !overflow else { return nil }
            value = sum
        }
        return value
    }

    public static func == (text: XMLText, literal: StaticString) -> Bool {
        guard text.bytes.count == literal.utf8CodeUnitCount else { return false }
        guard let base = text.bytes.baseAddress else { return true }
        return memcmp(base, literal.utf8Start, text.bytes.count) == 0
    }

    public static func != (text: XMLText, literal: StaticString) -> Bool { !(text == literal) }

    /// For `switch name { case "Key": … }`.
    public static func ~= (literal: StaticString, text: XMLText) -> Bool { text == literal }
}
