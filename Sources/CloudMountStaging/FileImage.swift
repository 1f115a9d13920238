public import CloudMountVFS

/// What a file that is being written consists of: staged bytes, ranges of the stored version it began as (the base),
/// and zeros that nobody stores. A value, so that a commit works on the image as it was when the commit began.
///
/// Base bytes keep their offsets. All extents lie within `[0, size)`; `baseLimit <= min(size, baseSize)`; `dirty` and
/// `zeros` do not overlap.
public struct FileImage: Sendable, Equatable {
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
    /// How many bytes come from the base.
    private var baseBytes: Int

    /// The image of an unchanged file, or of a new one (`baseSize` 0).
    public init(size: Int, baseSize: Int) {
        self.size = size
        self.baseSize = baseSize
        baseLimit = min(size, baseSize)
        baseBytes = baseLimit
    }

    /// Anything differs from the base.
    public var isDirty: Bool { !isWholeBase }

    /// The file is its base, byte for byte.
    public var isWholeBase: Bool { size == baseSize && baseLimit == baseSize && dirty.isEmpty && zeros.isEmpty }

    /// Some bytes come from the base.
    public var needsBase: Bool { baseBytes > 0 }

    /// Bytes that are not known to be zeros.
    public var allocated: Int { dirty.total + baseBytes }

    /// How many extents it takes to say which bytes are not the base's.
    public var pieceCount: Int { dirty.count + zeros.count }

    /// Throws `noSpace` where there are as many pieces as there may be. What is staged already may be written again.
    public func requireRoom(unlessStaged extent: Extent? = nil, most: Int) throws(VFSError) {
        if pieceCount < most || extent.map({ dirty.contains($0) }) ?? false { return }
        throw VFSError(.noSpace, "the file consists of \(pieceCount) pieces that are not stored yet")
    }

    /// The staged file has the bytes of `extent`; a file that ended before grows, with zeros between.
    public mutating func write(_ extent: Extent) {
        guard !extent.isEmpty else { return }
        let (below, above) = extent.split(at: baseLimit)
        let (added, wereZeros) = (dirty.insert(below), zeros.remove(below))
        baseBytes -= added - wereZeros
        dirty.insert(above)
        size = max(size, extent.upperBound)
    }

    /// Cuts the file, or lets it grow with zeros.
    public mutating func truncate(to newSize: Int) {
        if newSize < size {
            let cut = Extent(min(newSize, baseLimit), baseLimit)
            let (wereDirty, wereZeros) = (dirty.remove(cut), zeros.remove(cut))
            baseBytes -= cut.count - wereDirty - wereZeros
            dirty.removeAll(from: newSize)
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
        let (below, above) = extent.split(at: baseLimit)
        let (wereDirty, added) = (dirty.remove(below), zeros.insert(below))
        baseBytes -= added - wereDirty
        dirty.remove(above)
        lowerBaseLimit()
    }

    /// The pieces of `extent`, as far as it lies within the file: in order, without gaps. Takes as long as there are pieces.
    public func pieces(in extent: Extent) -> [Piece] { Array(Pieces(self, extent)) }

    /// The first offset from `offset` on that is not known to be a hole (SEEK_DATA); nil when there is none.
    public func data(from offset: Int) -> Int? {
        for piece in Pieces(self, Extent(offset, size)) {
            if case .zero = piece { continue }
            return piece.extent.lowerBound
        }
        return nil
    }

    /// The first offset from `offset` on in a known hole, the file's end being one (SEEK_HOLE); nil beyond the end.
    public func hole(from offset: Int) -> Int? {
        guard offset < size else { return nil }
        for case .zero(let hole) in Pieces(self, Extent(offset, size)) { return hole.lowerBound }
        return size
    }

    /// Zeros up to the base's end need no extent of their own.
    private mutating func lowerBaseLimit() {
        if let last = zeros.last, last.upperBound == baseLimit {
            zeros.remove(last)
            baseLimit = last.lowerBound
        }
    }

    /// One piece after the other, each as long as can be.
    private struct Pieces: Sequence, IteratorProtocol {
        private var offset: Int
        private let end: Int
        private let baseLimit: Int
        private var dirty: ExtentMap.Extents
        private var zeros: ExtentMap.Extents
        /// The first extent of each that ends after `offset`.
        private var staged: Extent?
        private var hole: Extent?

        init(_ image: FileImage, _ extent: Extent) {
            offset = extent.lowerBound
            end = Swift.min(extent.upperBound, image.size)
            baseLimit = image.baseLimit
            dirty = image.dirty.extents(from: offset)
            zeros = image.zeros.extents(from: offset)
            staged = dirty.next()
            hole = zeros.next()
        }

        mutating func next() -> Piece? {
            guard offset < end else { return nil }
            let piece = current
            offset = piece.extent.upperBound
            if let extent = staged, extent.upperBound <= offset { staged = dirty.next() }
            if let extent = hole, extent.upperBound <= offset { hole = zeros.next() }
            return piece
        }

        private var current: Piece {
            var next = end
            if let staged {
                if staged.lowerBound <= offset { return .staged(Extent(offset, Swift.min(end, staged.upperBound))) }
                next = Swift.min(next, staged.lowerBound)
            }
            guard offset < baseLimit else { return .zero(Extent(offset, next)) }
            if let hole {
                if hole.lowerBound <= offset { return .zero(Extent(offset, Swift.min(next, hole.upperBound))) }
                next = Swift.min(next, hole.lowerBound)
            }
            return .base(Extent(offset, Swift.min(next, baseLimit)))
        }
    }
}

extension FileImage: Codable {
    private enum CodingKeys: String, CodingKey { case size, baseSize, baseLimit, dirty, zeros }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(size, forKey: .size)
        try fields.encode(baseSize, forKey: .baseSize)
        try fields.encode(baseLimit, forKey: .baseLimit)
        try fields.encode(dirty, forKey: .dirty)
        try fields.encode(zeros, forKey: .zeros)
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        size = try fields.decode(Int.self, forKey: .size)
        baseSize = try fields.decode(Int.self, forKey: .baseSize)
        baseLimit = try fields.decode(Int.self, forKey: .baseLimit)
        dirty = try fields.decode(ExtentMap.self, forKey: .dirty)
        zeros = try fields.decode(ExtentMap.self, forKey: .zeros)
        baseBytes = 0
        guard baseLimit >= 0, baseLimit <= min(size, baseSize), max(size, baseSize) <= ObjectInfo.sizeLimit,
            dirty.upperBound <= size,
            zeros.upperBound <= baseLimit
        else {
            throw DecodingError.dataCorruptedError(
                forKey: .baseLimit, in: fields, debugDescription: "the image's extents lie beyond its ends")
        }
        var counted = 0
        for piece in Pieces(self, Extent(0, size)) {
            switch piece {
            case .staged(let extent):
                guard !zeros.overlaps(extent) else {
                    throw DecodingError.dataCorruptedError(
                        forKey: .zeros, in: fields, debugDescription: "bytes are both staged and zeros")
                }
            case .base(let extent): counted += extent.count
            case .zero: break
            }
        }
        baseBytes = counted
    }
}

extension Extent {
    /// What lies below `offset`, and the rest.
    fileprivate func split(at offset: Int) -> (Extent, Extent) {
        let middle = max(lowerBound, min(offset, upperBound))
        return (Extent(lowerBound, middle), Extent(middle, upperBound))
    }
}
