public import CloudMountVFS

/// What a file that is being written consists of: staged bytes, ranges of the stored version it began as (the base),
/// and zeros that nobody stores. A value, so that a commit works on the image as it was when the commit began.
///
/// Base bytes keep their offsets. All extents lie within `[0, size)`; `baseLimit <= min(size, baseSize)`; `dirty` and
/// `zeros` do not overlap.
public struct FileImage: Sendable, Equatable, Codable {
    /// Where the bytes of one extent come from.
    public enum Piece: Sendable, Equatable {
        /// The staged file, at the same offset.
        case staged(Extent)
        /// The base version, at the same offset.
        case base(Extent)
        /// Nowhere: zeros.
        case zero(Extent)

        public var extent: Extent {
            switch self {
            case .staged(let extent), .base(let extent), .zero(let extent): extent
            }
        }
    }

    /// Bytes of the file.
    public private(set) var size: Int
    /// Bytes of the base version; 0 without one.
    public let baseSize: Int
    /// Bytes below it that are neither dirty nor zeros come from the base; what lies above it and is not dirty is
    /// zeros.
    public private(set) var baseLimit: Int
    /// Bytes that the staged file holds.
    public private(set) var dirty = ExtentMap()
    /// Zeros below `baseLimit`.
    public private(set) var zeros = ExtentMap()

    /// The image of an unchanged file, or of a new one (`baseSize` 0).
    public init(size: Int, baseSize: Int) {
        self.size = size
        self.baseSize = baseSize
        baseLimit = min(size, baseSize)
    }

    /// Anything differs from the base.
    public var isDirty: Bool { !isWholeBase }

    /// The file is its base, byte for byte.
    public var isWholeBase: Bool { size == baseSize && baseLimit == baseSize && dirty.isEmpty && zeros.isEmpty }

    /// Bytes that are not known to be zeros.
    public var allocated: Int {
        let above = dirty.total - dirty.intersections(in: Extent(0, baseLimit)).reduce(0) { $0 + $1.count }
        return baseLimit - zeros.total + above
    }

    /// Some bytes come from the base.
    public var needsBase: Bool {
        pieces(in: Extent(0, baseLimit)).contains { if case .base = $0 { true } else { false } }
    }

    /// The staged file has the bytes of `extent`; a file that ended before grows, with zeros between.
    public mutating func write(_ extent: Extent) {
        guard !extent.isEmpty else { return }
        dirty.insert(extent)
        zeros.remove(extent)
        size = max(size, extent.upperBound)
    }

    /// Cuts the file, or lets it grow with zeros.
    public mutating func truncate(to newSize: Int) {
        if newSize < size {
            dirty.removeAll(from: newSize)
            zeros.removeAll(from: newSize)
            baseLimit = min(baseLimit, newSize)
            lowerBaseLimit()
        }
        size = newSize
    }

    /// Lets the file grow with zeros up to `newSize`, if it is smaller.
    public mutating func extend(to newSize: Int) { size = max(size, newSize) }

    /// Makes `extent` zeros, as far as it lies within the file.
    public mutating func zero(_ extent: Extent) {
        let extent = extent.intersection(Extent(0, size))
        guard !extent.isEmpty else { return }
        dirty.remove(extent)
        zeros.insert(extent.intersection(Extent(0, baseLimit)))
        lowerBaseLimit()
    }

    /// The pieces of `extent`, as far as it lies within the file: in order, without gaps.
    public func pieces(in extent: Extent) -> [Piece] {
        let end = min(extent.upperBound, size)
        var pieces: [Piece] = []
        var offset = extent.lowerBound
        while offset < end {
            let piece = piece(at: offset, end: end)
            pieces.append(piece)
            offset = piece.extent.upperBound
        }
        return pieces
    }

    /// The first offset from `offset` on that is not known to be a hole (SEEK_DATA); nil when there is none.
    public func data(from offset: Int) -> Int? {
        var offset = offset
        while offset < size {
            guard case .zero(let hole) = piece(at: offset, end: size) else { return offset }
            offset = hole.upperBound
        }
        return nil
    }

    /// The first offset from `offset` on in a known hole, the file's end being one (SEEK_HOLE); nil beyond the end.
    public func hole(from offset: Int) -> Int? {
        guard offset < size else { return nil }
        var offset = offset
        while offset < size {
            let piece = piece(at: offset, end: size)
            if case .zero = piece { return offset }
            offset = piece.extent.upperBound
        }
        return size
    }

    /// The longest piece that begins at `offset` and ends at `end` or before.
    private func piece(at offset: Int, end: Int) -> Piece {
        var next = end
        if let staged = dirty.first(at: offset) {
            if staged.lowerBound <= offset { return .staged(Extent(offset, min(end, staged.upperBound))) }
            next = min(next, staged.lowerBound)
        }
        guard offset < baseLimit else { return .zero(Extent(offset, next)) }
        if let hole = zeros.first(at: offset) {
            if hole.lowerBound > offset { return .base(Extent(offset, min(next, hole.lowerBound, baseLimit))) }
            return .zero(Extent(offset, min(next, hole.upperBound)))
        }
        return .base(Extent(offset, min(next, baseLimit)))
    }

    /// Zeros up to the base's end need no extent of their own.
    private mutating func lowerBaseLimit() {
        if let last = zeros.extents.last, last.upperBound == baseLimit {
            zeros.remove(last)
            baseLimit = last.lowerBound
        }
    }
}
