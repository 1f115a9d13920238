/// The name of an object within its bucket: UTF-8 of 1 to 1,024 bytes at most stores, without a leading separator.
///
/// Two keys are equal when their bytes are. Swift's `String` calls the composed and the decomposed "é" equal, while a
/// store keeps both; so a key is never compared, hashed or ordered as a `String`.
public struct ObjectKey: Sendable {
    public let string: String

    public init(_ string: String) {
        var string = string
        string.makeContiguousUTF8()
        self.string = string
    }

    /// Nil when the bytes are not UTF-8.
    public init?(validating bytes: some Collection<UInt8>) {
        guard let string = String(validating: bytes, as: UTF8.self) else { return nil }
        self.init(string)
    }

    public var utf8: String.UTF8View { string.utf8 }
    public var byteCount: Int { string.utf8.count }
    public var isEmpty: Bool { string.utf8.isEmpty }

    public func hasPrefix(_ prefix: ObjectKey) -> Bool { string.utf8.starts(with: prefix.string.utf8) }
    public var endsWithSlash: Bool { string.utf8.last == UInt8(ascii: "/") }

    // By bytes: a combining character after a slash, or one before it that goes with what follows, is one `Character` with it.

    /// What stands between slashes, empty pieces left out.
    public var names: [String] { utf8.split(separator: UInt8(ascii: "/")).map { String(Substring($0)) } }

    /// Without the slash at its end, if it has one.
    public var withoutSlash: ObjectKey { endsWithSlash ? ObjectKey(String(Substring(utf8.dropLast()))) : self }

    public static func + (left: ObjectKey, right: ObjectKey) -> ObjectKey { ObjectKey(left.string + right.string) }

    /// The key without its first `count` bytes, which must end on a character boundary.
    public func dropping(_ count: Int) -> ObjectKey {
        ObjectKey(String(string[string.utf8.index(string.startIndex, offsetBy: count)...]))
    }
}

extension ObjectKey: Hashable {
    public static func == (left: ObjectKey, right: ObjectKey) -> Bool {
        let a = left.string.utf8
        let b = right.string.utf8
        return a.count == b.count && a.elementsEqual(b)
    }

    public func hash(into hasher: inout Hasher) {
        var string = string
        string.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}

extension ObjectKey: Comparable {
    /// By bytes, as S3 and B2 order their listings.
    public static func < (left: ObjectKey, right: ObjectKey) -> Bool {
        left.string.utf8.lexicographicallyPrecedes(right.string.utf8)
    }
}

extension ObjectKey: ExpressibleByStringLiteral, CustomStringConvertible {
    public init(stringLiteral value: String) { self.init(value) }
    public var description: String { string }
}

extension ObjectKey: Codable {
    public init(from decoder: any Decoder) throws {
        self.init(try decoder.singleValueContainer().decode(String.self))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(string)
    }
}
