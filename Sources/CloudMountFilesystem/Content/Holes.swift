import CloudMountStaging
import CloudMountVFS

/// Zeros of a stored version that are known from the commit which made it.
struct Holes: Sendable {
    private var extents = ExtentMap()
    /// More are not remembered.
    private static let most = 4096

    init() {}

    /// Of what `image` has become in the store, over a base with `known` ones.
    init(of image: FileImage, over known: Holes) {
        if image.isWholeBase {
            self = known
            return
        }
        for case .zero(let extent) in image.pieces(in: Extent(0, image.size)) {
            extents.insert(extent)
            if extents.count > Self.most {
                extents = ExtentMap()
                return
            }
        }
    }

    var total: Int { extents.total }

    /// The first byte at or after `offset` of a file of `size` bytes that is in no hole.
    func data(from offset: Int, size: Int) -> Int? {
        var offset = offset
        while let hole = extents.first(at: offset), hole.lowerBound <= offset { offset = hole.upperBound }
        return offset < size ? offset : nil
    }

    /// The first byte of a hole at or after `offset`; the end of the file counts as one.
    func hole(from offset: Int, size: Int) -> Int? {
        guard offset < size else { return nil }
        return max(offset, extents.first(at: offset)?.lowerBound ?? size)
    }
}
