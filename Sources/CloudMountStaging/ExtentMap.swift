public import CloudMountVFS

/// A set of bytes as sorted, disjoint extents; neighbours that touch are one.
///
/// The extents lie in chunks. A search is logarithmic; a change moves the extents of one chunk, or of two, and drops the
/// chunks that it covers. A copy shares all chunks with its original until one of them changes, and then all but the
/// changed ones. Empty extents change and match nothing.
public struct ExtentMap: Sendable {
    /// The most extents of a chunk.
    static let chunkLimit = 256

    /// In order; no chunk is empty, no extent is empty or touches the next.
    private var chunks: [[Extent]] = []
    /// Where the first extent of each chunk begins.
    private var starts: [Int] = []
    /// Bytes in all.
    public private(set) var total = 0
    /// How many extents there are.
    public private(set) var count = 0

    public init() {}

    /// In linear time when `extents` are in order.
    public init(_ extents: some Sequence<Extent>) {
        for extent in extents { insert(extent) }
    }

    public var isEmpty: Bool { count == 0 }
    /// All extents, in order. An array made anew: linear. See `extents(from:)`.
    public var extents: [Extent] { Array(chunks.joined()) }
    public var last: Extent? { chunks.last?.last }
    /// Where the last extent ends; 0 when there is none.
    public var upperBound: Int { last?.upperBound ?? 0 }

    // MARK: Changes

    /// - Returns: how many bytes were not there before.
    @discardableResult
    public mutating func insert(_ extent: Extent) -> Int {
        guard !extent.isEmpty else { return 0 }
        if let last, last.lowerBound <= extent.lowerBound {
            // The sequential writer.
            if last.upperBound >= extent.lowerBound {
                let added = max(0, extent.upperBound - last.upperBound)
                let chunk = chunks.count - 1
                chunks[chunk][chunks[chunk].count - 1].upperBound += added
                total += added
                return added
            }
            append(extent)
            return extent.count
        }
        let first = position(at: extent.lowerBound, touching: true)
        var end = first
        var merged = extent
        var present = 0
        while let old = self[end], old.lowerBound <= extent.upperBound {
            merged.lowerBound = min(merged.lowerBound, old.lowerBound)
            merged.upperBound = max(merged.upperBound, old.upperBound)
            present += old.count
            advance(&end)
        }
        replace(first, end, with: [merged])
        total += merged.count - present
        return merged.count - present
    }

    /// - Returns: how many bytes were there before.
    @discardableResult
    public mutating func remove(_ extent: Extent) -> Int {
        guard !extent.isEmpty else { return 0 }
        let first = position(at: extent.lowerBound)
        var end = first
        var removed = 0
        var rest: [Extent] = []
        while let old = self[end], old.lowerBound < extent.upperBound {
            removed += old.intersection(extent).count
            if old.lowerBound < extent.lowerBound { rest.append(Extent(old.lowerBound, extent.lowerBound)) }
            if old.upperBound > extent.upperBound { rest.append(Extent(extent.upperBound, old.upperBound)) }
            advance(&end)
        }
        guard removed > 0 else { return 0 }
        replace(first, end, with: rest)
        total -= removed
        return removed
    }

    /// - Returns: how many bytes were at `offset` or beyond.
    @discardableResult
    public mutating func removeAll(from offset: Int) -> Int {
        remove(Extent(offset, max(offset, upperBound)))
    }

    public mutating func removeAll() { self = ExtentMap() }

    // MARK: Questions

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
    public func first(at offset: Int) -> Extent? { self[position(at: offset)] }

    /// The extent that holds `offset`, and all after it. The next one takes constant time.
    public func extents(from offset: Int) -> Extents {
        Extents(map: self, position: position(at: offset))
    }

    /// What of `extent` is there, in order.
    public func intersections(in extent: Extent) -> [Extent] {
        guard !extent.isEmpty else { return [] }
        return extents(from: extent.lowerBound).prefix { $0.lowerBound < extent.upperBound }
            .map { $0.intersection(extent) }
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

    // MARK: Chunks

    /// Of an extent, or the end of all: `chunk` is then the number of chunks and `index` 0.
    fileprivate struct Position {
        var chunk: Int
        var index: Int
    }

    /// Extents in order.
    public struct Extents: Sequence, IteratorProtocol, Sendable {
        fileprivate let map: ExtentMap
        fileprivate var position: Position

        public mutating func next() -> Extent? {
            guard let extent = map[position] else { return nil }
            map.advance(&position)
            return extent
        }
    }

    /// For tests: where each chunk is in memory, and how many extents it holds.
    package var layout: [(address: UInt, count: Int)] {
        chunks.map { chunk in (chunk.withUnsafeBytes { UInt(bitPattern: $0.baseAddress) }, chunk.count) }
    }

    fileprivate subscript(position: Position) -> Extent? {
        position.chunk < chunks.count ? chunks[position.chunk][position.index] : nil
    }

    fileprivate func advance(_ position: inout Position) {
        position.index += 1
        if position.index == chunks[position.chunk].count { position = Position(chunk: position.chunk + 1, index: 0) }
    }

    /// The first extent that ends after `offset`, or there when `touching`.
    private func position(at offset: Int, touching: Bool = false) -> Position {
        // Those of the chunks before end before this one begins.
        let chunk = starts.partition { $0 > offset } - 1
        guard chunk >= 0 else { return Position(chunk: 0, index: 0) }
        let index = chunks[chunk].partition { touching ? $0.upperBound >= offset : $0.upperBound > offset }
        return index < chunks[chunk].count
            ? Position(chunk: chunk, index: index) : Position(chunk: chunk + 1, index: 0)
    }

    /// Puts an extent behind all others.
    private mutating func append(_ extent: Extent) {
        count += 1
        total += extent.count
        if let last = chunks.last, last.count < Self.chunkLimit {
            chunks[chunks.count - 1].append(extent)
        } else {
            chunks.append([extent])
            starts.append(extent.lowerBound)
        }
    }

    /// Puts `new`, two at most, in the place of what lies from `first` up to `end`.
    private mutating func replace(_ first: Position, _ end: Position, with new: [Extent]) {
        count += new.count
        guard first.chunk < chunks.count else {
            for extent in new {
                chunks.append([extent])
                starts.append(extent.lowerBound)
            }
            return
        }
        if first.chunk == end.chunk {
            count -= end.index - first.index
            chunks[first.chunk].replaceSubrange(first.index..<end.index, with: new)
        } else {
            count -= chunks[first.chunk].count - first.index
            chunks[first.chunk].replaceSubrange(first.index..., with: new)
            if end.index > 0 {
                count -= end.index
                chunks[end.chunk].removeFirst(end.index)
                starts[end.chunk] = chunks[end.chunk][0].lowerBound
            }
            let covered = first.chunk + 1..<end.chunk
            for chunk in covered { count -= chunks[chunk].count }
            chunks.removeSubrange(covered)
            starts.removeSubrange(covered)
            if end.index > 0 { balance(first.chunk + 1) }
        }
        balance(first.chunk)
    }

    /// Splits a chunk that is too large; joins one that is small with a neighbour. Makes `starts` right for it.
    private mutating func balance(_ chunk: Int) {
        let size = chunks[chunk].count
        if size == 0 {
            chunks.remove(at: chunk)
            starts.remove(at: chunk)
            return
        }
        starts[chunk] = chunks[chunk][0].lowerBound
        if size > Self.chunkLimit {
            let upper = Array(chunks[chunk][(size / 2)...])
            chunks[chunk].removeSubrange((size / 2)...)
            chunks.insert(upper, at: chunk + 1)
            starts.insert(upper[0].lowerBound, at: chunk + 1)
        } else if size < Self.chunkLimit / 4 {
            for lower in [chunk - 1, chunk] where lower >= 0 && lower + 1 < chunks.count {
                guard chunks[lower].count + chunks[lower + 1].count <= Self.chunkLimit / 4 * 3 else { continue }
                chunks[lower].append(contentsOf: chunks.remove(at: lower + 1))
                starts.remove(at: lower + 1)
                if let first = chunks[lower].first { starts[lower] = first.lowerBound }
                return
            }
        }
    }
}

extension Array {
    /// The first index whose element `matches`, as all after it do; else `count`.
    fileprivate func partition(_ matches: (Element) -> Bool) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if matches(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

extension ExtentMap: Equatable {
    public static func == (left: ExtentMap, right: ExtentMap) -> Bool {
        left.count == right.count && left.total == right.total
            && left.chunks.joined().elementsEqual(right.chunks.joined())
    }
}

extension ExtentMap: Codable {
    /// The bounds of all extents in order, as one list of numbers.
    public func encode(to encoder: any Encoder) throws {
        var list = encoder.unkeyedContainer()
        for extent in chunks.joined() {
            try list.encode(extent.lowerBound)
            try list.encode(extent.upperBound)
        }
    }

    public init(from decoder: any Decoder) throws {
        var list = try decoder.unkeyedContainer()
        var end = -1
        while !list.isAtEnd {
            let (low, high) = (try list.decode(Int.self), try list.decode(Int.self))
            guard low > end, high > low else {
                throw DecodingError.dataCorruptedError(in: list, debugDescription: "the extents are out of order")
            }
            append(Extent(low, high))
            end = high
        }
    }
}
