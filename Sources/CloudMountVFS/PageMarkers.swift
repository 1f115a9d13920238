/// Ends a walk over pages that a store lets go round, or on, for ever.
public struct PageMarkers: Sendable {
    /// More pages than any list has that is kept whole in memory.
    private static let most = 1000
    /// Hashes of those so far.
    private var seen: Set<Int> = []

    public init() {}

    /// Notes where the next page begins. False when a page has begun there before, or when there have been too many.
    public mutating func goOn(at marker: String) -> Bool {
        seen.count < Self.most && seen.insert(marker.hashValue).inserted
    }
}

extension UploadedPart {
    /// Parts of one upload that any store takes; their numbers go as far.
    public static let most = 10_000
}

extension ObjectVersion {
    /// Versions of one key that are looked at: all of them are kept in memory.
    public static let most = 50_000
}
