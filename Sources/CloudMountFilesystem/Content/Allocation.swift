import CloudMountVFS

/// What fallocate(2) asks for.
enum Allocation {
    /// Room within and beyond the file, which grows; or within it and beyond without that, which is always there.
    case grow, reserve
    /// Zeros within the file; or up to the end of the extent.
    case zero(extend: Bool)

    private static let keepSize: Int32 = 1
    private static let punchHole: Int32 = 2
    private static let zeroRange: Int32 = 16

    init?(mode: Int32) {
        switch mode {
        case 0: self = .grow
        case Self.keepSize: self = .reserve
        case Self.punchHole | Self.keepSize, Self.zeroRange | Self.keepSize: self = .zero(extend: false)
        case Self.zeroRange: self = .zero(extend: true)
        default: return nil
        }
    }

    /// - Returns: nil when nothing has changed.
    func apply(to content: FileContent, _ extent: Extent) throws(VFSError) -> ContentChange? {
        switch self {
        case .grow: try content.extend(to: extent.upperBound)
        case .reserve: nil
        case .zero(let extend): try content.zero(extent, extend: extend)
        }
    }
}
