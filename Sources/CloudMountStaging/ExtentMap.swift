public import CloudMountVFS

/// A set of bytes as sorted, disjoint extents; neighbours that touch are one.
///
/// A search is logarithmic, a change moves the extents behind it. Empty extents change and match nothing.
public struct ExtentMap: Sendable, Equatable, Codable {
    /// In order, never empty, never touching.
    public private(set) var extents: [Extent] = []
    /// Bytes in all.
    public private(set) var total = 0

    public init() {}

    public init(_ extents: some Sequence<Extent>) {
        for extent in extents { insert(extent) }
    }

    public var isEmpty: Bool { extents.isEmpty }
    /// Where the last extent ends; 0 when there is none.
    public var upperBound: Int { extents.last?.upperBound ?? 0 }

    /// - Returns: how many bytes were not there before.
    @discardableResult
    public mutating func insert(_ extent: Extent) -> Int {
        guard !extent.isEmpty else { return 0 }
        if let last = extents.last, last.upperBound >= extent.lowerBound, last.lowerBound <= extent.lowerBound {
            // The sequential writer.
            let added = max(0, extent.upperBound - last.upperBound)
            extents[extents.count - 1].upperBound += added
            total += added
            return added
        }
        let first = firstIndex { $0.upperBound >= extent.lowerBound }
        var end = first
        var merged = extent
        var present = 0
        while end < extents.count, extents[end].lowerBound <= extent.upperBound {
            merged.lowerBound = min(merged.lowerBound, extents[end].lowerBound)
            merged.upperBound = max(merged.upperBound, extents[end].upperBound)
            present += extents[end].count
            end += 1
        }
        extents.replaceSubrange(first..<end, with: CollectionOfOne(merged))
        total += merged.count - present
        return merged.count - present
    }

    /// - Returns: how many bytes were there before.
    @discardableResult
    public mutating func remove(_ extent: Extent) -> Int {
        guard !extent.isEmpty else { return 0 }
        let first = firstIndex { $0.upperBound > extent.lowerBound }
        var end = first
        var removed = 0
        var rest: [Extent] = []
        while end < extents.count, extents[end].lowerBound < extent.upperBound {
            let old = extents[end]
            removed += old.intersection(extent).count
            if old.lowerBound < extent.lowerBound { rest.append(Extent(old.lowerBound, extent.lowerBound)) }
            if old.upperBound > extent.upperBound { rest.append(Extent(extent.upperBound, old.upperBound)) }
            end += 1
        }
        extents.replaceSubrange(first..<end, with: rest)
        total -= removed
        return removed
    }

    /// - Returns: how many bytes were at `offset` or beyond.
    @discardableResult
    public mutating func removeAll(from offset: Int) -> Int {
        remove(Extent(offset, max(offset, upperBound)))
    }

    public mutating func removeAll() {
        extents.removeAll()
        total = 0
    }

    public func contains(_ extent: Extent) -> Bool {
        guard !extent.isEmpty else { return true }
        return first(at: extent.lowerBound)?.contains(extent) ?? false
    }

    public func contains(_ offset: Int) -> Bool { contains(Extent(offset: offset, count: 1)) }

    public func overlaps(_ extent: Extent) -> Bool {
        guard !extent.isEmpty else { return false }
        return first(at: extent.lowerBound).map { $0.lowerBound < extent.upperBound } ?? false
    }

    /// The extent that holds `offset`, else the next one after it.
    public func first(at offset: Int) -> Extent? {
        let index = firstIndex { $0.upperBound > offset }
        return index < extents.count ? extents[index] : nil
    }

    /// What of `extent` is there, in order.
    public func intersections(in extent: Extent) -> [Extent] {
        var found: [Extent] = []
        var index = firstIndex { $0.upperBound > extent.lowerBound }
        while index < extents.count, extents[index].lowerBound < extent.upperBound {
            found.append(extents[index].intersection(extent))
            index += 1
        }
        return extent.isEmpty ? [] : found
    }

    /// What of `extent` is not there, in order.
    public func gaps(in extent: Extent) -> [Extent] {
        var gaps: [Extent] = []
        var offset = extent.lowerBound
        for present in intersections(in: extent) {
            if present.lowerBound > offset { gaps.append(Extent(offset, present.lowerBound)) }
            offset = present.upperBound
        }
        if offset < extent.upperBound { gaps.append(Extent(offset, extent.upperBound)) }
        return gaps
    }

    /// The first place after `offset` where an extent begins or ends; nil when there is none.
    public func nextBoundary(after offset: Int) -> Int? {
        guard let next = first(at: offset) else { return nil }
        return next.lowerBound > offset ? next.lowerBound : next.upperBound
    }

    /// The index of the first extent for which `matches`, which holds for all after it too.
    private func firstIndex(where matches: (Extent) -> Bool) -> Int {
        var low = 0
        var high = extents.count
        while low < high {
            let middle = (low + high) / 2
            if matches(extents[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
