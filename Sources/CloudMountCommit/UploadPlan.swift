public import CloudMountStaging
public import CloudMountVFS

/// The cheapest legal way to commit a file: what travels, what the store copies from the version it has. A pure value.
///
/// Legal is what `Capabilities` says. Cheap is, first, few bytes up (bytes of the base that have to go up again must
/// come down before that), then few requests.
public struct UploadPlan: Sendable, Equatable {
    public enum Method: Sendable, Equatable {
        case put
        /// In order of number, without gaps.
        case multipart([Part])
    }

    public struct Part: Sendable, Equatable, Codable {
        public enum Kind: Sendable, Equatable, Codable {
            case upload
            /// The store copies this extent of the base version.
            case copy(Extent)
        }

        /// From 1 on.
        public var number: Int
        /// Of the file as it is to be.
        public var extent: Extent
        public var kind: Kind

        public init(number: Int, extent: Extent, kind: Kind) {
            self.number = number
            self.extent = extent
            self.kind = kind
        }
    }

    /// Files up to this size go up whole: more requests would cost more than they save.
    package static let putThreshold = 16 << 20
    /// Parts of an upload, unless limits ask for more.
    package static let usualPart = 8 << 20
    /// Copies, unless limits ask for more: a store copies several of these at a time faster than one large one.
    static let usualCopy = 512 << 20
    /// A request weighs as much as this many bytes.
    static let requestCost = 256 << 10
    /// Copies must save this many bytes to be worth an upload of several requests.
    static let worthwhileSaving = 4 << 20

    public let method: Method

    /// - Parameter base: the version that `image` began as; nil for a new file.
    /// - Throws: `tooLarge` when the store takes no object of this size.
    public init(image: FileImage, base: ObjectInfo?, capabilities: Capabilities) throws(VFSError) {
        let tooLarge = VFSError(.tooLarge, "the store takes no object of \(image.size) bytes")
        guard image.size <= capabilities.maxObjectSize else { throw tooLarge }
        let limits = PartLimits(capabilities)
        let putLimit =
            capabilities.multipart ? min(UploadPlan.putThreshold, capabilities.maxPutSize) : capabilities.maxPutSize
        var parts: [Part]?
        if capabilities.multipart, image.size > 0 {
            if capabilities.rangeCopy, let base, base.size == image.baseSize, base.size > limits.minimum {
                let copying = limits.isGrid ? limits.copyingGrid(image) : limits.copyingParts(image)
                if let copying = copying.flatMap({ limits.enough($0) }),
                    image.size - UploadPlan.uploaded(copying) >= UploadPlan.worthwhileSaving
                {
                    parts = copying
                }
            }
            if parts == nil, image.size > putLimit {
                parts = limits.plainGrid(image.size).flatMap { limits.enough($0) }
            }
        }
        if let parts {
            method = .multipart(parts)
        } else {
            guard image.size <= capabilities.maxPutSize else { throw tooLarge }
            method = .put
        }
    }

    private static func uploaded(_ parts: [Part]) -> Int {
        parts.reduce(0) { $0 + ($1.kind == .upload ? $1.extent.count : 0) }
    }
}
