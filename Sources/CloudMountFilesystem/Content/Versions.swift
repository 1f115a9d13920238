import CloudMountStaging
import CloudMountVFS

extension Extent {
    func clipped(to size: Int) -> Extent { Extent(min(lowerBound, size), min(upperBound, size)) }
}

/// What bytes in memory are told apart by.
struct StoredVersion: Hashable {
    let key: ObjectKey
    let etag: ETag
    /// As a store may say another for the same tag.
    let size: Int

    init(_ info: ObjectInfo) { (key, etag, size) = (info.key, info.etag, info.size) }
}

extension ObjectInfo {
    func isSameVersion(as other: ObjectInfo) -> Bool { key == other.key && etag == other.etag }
}

extension FileImage {
    /// The same bytes over a base that a commit has just made of them, or of an earlier state of them.
    func rebased(onto baseSize: Int) -> FileImage {
        var image = FileImage(size: size, baseSize: baseSize)
        for piece in pieces(in: Extent(0, size)) {
            switch piece {
            case .staged(let extent): image.write(extent)
            case .zero(let extent): image.zero(extent)
            case .base: break
            }
        }
        return image
    }
}
