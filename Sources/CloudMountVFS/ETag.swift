/// The name of one version of an object's bytes, opaque: an S3 entity tag without its quotes, a B2 file id.
///
/// Equal tags of one key mean equal bytes. Nothing else may be read from it; it is no checksum.
public struct ETag: Hashable, Sendable, CustomStringConvertible {
    public let value: String

    public init(_ value: String) { self.value = value }

    public var description: String { value }
}

extension ETag: Codable {
    public init(from decoder: any Decoder) throws {
        self.init(try decoder.singleValueContainer().decode(String.self))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(value)
    }
}
