public import CloudMountVFS

extension ETag {
    /// From the field `ETag`, without its quotes; a weak one (some proxies make them so) without its mark.
    /// - Returns: nil when nothing is left.
    public init?(header: String) {
        var text = header
        let value = text.withUTF8 { Self.unquoted($0) }
        guard !value.isEmpty else { return nil }
        self.init(value)
    }

    /// The same for bytes of a document; what is left may be empty.
    public static func unquoted(_ text: UnsafeBufferPointer<UInt8>) -> String {
        var text = text[...]
        if text.count > 3, text.first == UInt8(ascii: "W"), text.dropFirst().first == UInt8(ascii: "/") {
            text = text.dropFirst(2)
        }
        if text.count >= 2, text.first == 0x22, text.last == 0x22 { text = text.dropFirst().dropLast() }
        return String(decoding: text, as: UTF8.self)
    }

    /// As `If-Match` and `If-None-Match` want it.
    public var quoted: String { "\"\(value)\"" }
}
