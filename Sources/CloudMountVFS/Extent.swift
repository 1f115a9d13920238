/// A half-open range of bytes, `lowerBound ..< upperBound`, counted from the start of an object.
public struct Extent: Hashable, Sendable, Codable {
    public var lowerBound: Int
    public var upperBound: Int

    /// - Precondition: `0 <= lowerBound <= upperBound`, which the caller has checked on anything that came from outside.
    public init(_ lowerBound: Int, _ upperBound: Int) {
        self.lowerBound = lowerBound
        self.upperBound = max(lowerBound, upperBound)
    }

    private enum CodingKeys: CodingKey { case lowerBound, upperBound }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            max(0, try fields.decode(Int.self, forKey: .lowerBound)),
            max(0, try fields.decode(Int.self, forKey: .upperBound)))
    }

    public init(offset: Int, count: Int) { self.init(offset, offset + count) }

    public var count: Int { upperBound - lowerBound }
    public var isEmpty: Bool { upperBound <= lowerBound }

    public func contains(_ other: Extent) -> Bool {
        lowerBound <= other.lowerBound && other.upperBound <= upperBound
    }

    public func overlaps(_ other: Extent) -> Bool {
        lowerBound < other.upperBound && other.lowerBound < upperBound
    }

    /// The bytes that both extents hold; empty, at `lowerBound`, when there are none.
    public func intersection(_ other: Extent) -> Extent {
        let low = max(lowerBound, other.lowerBound)
        return Extent(low, max(low, min(upperBound, other.upperBound)))
    }
}

extension Extent: CustomStringConvertible {
    public var description: String { "[\(lowerBound), \(upperBound))" }
}
