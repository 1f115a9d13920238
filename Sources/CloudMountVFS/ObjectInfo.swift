/// What is kept beside an object's bytes. A store hands it back as it was given, within `Capabilities.maxMetadataBytes`.
public struct ObjectMetadata: Hashable, Sendable, Codable {
    /// MIME type; nil lets the store choose.
    public var contentType: String?
    /// When the content was last changed, as the writer said; each provider keeps it where other tools look for it
    /// (S3: `x-amz-meta-mtime`, B2: `src_last_modified_millis`). Nil when nobody said.
    public var modified: Timestamp?
    /// Everything else the writer said, names in lower case, values of any text (providers escape what the wire forbids).
    public var user: [String: String]
    /// Standard headers kept with the object, names in lower case: `cache-control`, `content-disposition`,
    /// `content-encoding`, `content-language`, `expires`.
    public var headers: [String: String]
    /// Proves which write made the object; new for every write. See `isNonce`.
    public var nonce: String?

    public init(
        contentType: String? = nil, modified: Timestamp? = nil, user: [String: String] = [:],
        headers: [String: String] = [:], nonce: String? = nil
    ) {
        self.contentType = contentType
        self.modified = modified
        self.user = user
        self.headers = headers
        self.nonce = nonce
    }
}

extension ObjectMetadata {
    /// Names in `user` and `headers`.
    public var entries: Int { user.count + headers.count }

    /// Names and values of `user`.
    public var userBytes: Int { user.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count } }

    /// All other texts but the nonce.
    public var otherBytes: Int {
        headers.reduce(contentType?.utf8.count ?? 0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
    }

    /// A nonce for one write: 128 random bits.
    public static func newNonce() -> String {
        var generator = SystemRandomNumberGenerator()
        let halves = (0..<2).map { _ in String(generator.next() as UInt64, radix: 36) }
        return halves.map { String(repeating: "0", count: 13 - $0.utf8.count) + $0 }.joined()
    }

    /// Whether a store can keep `text` as a nonce: 1 to 32 printable ASCII characters without spaces.
    public static func isNonce(_ text: String) -> Bool {
        1...32 ~= text.utf8.count && text.utf8.allSatisfy { 0x21...0x7E ~= $0 }
    }
}

/// One version of an object as the store describes it.
public struct ObjectInfo: Hashable, Sendable, Codable {
    public var key: ObjectKey
    /// Far above what any store takes. An answer that says more, or less than nothing, is taken for the nearest.
    public static let sizeLimit = 1 << 53

    /// Bytes, 0 to `sizeLimit`.
    public var size: Int
    public var etag: ETag
    /// When the store took the object in: its clock, not the writer's.
    public var stored: Timestamp
    public var storageClass: String?
    /// How the store encrypts it, in the provider's own words; nil: unknown, or as the bucket's default is. With
    /// `storageClass` it is what a copy must name to keep them.
    public var encryption: String?
    /// Nil when this answer does not carry it (S3 listings). `head` always does.
    public var metadata: ObjectMetadata?

    /// The nearest size that there can be.
    public static func possible(_ size: Int) -> Int { max(0, min(size, sizeLimit)) }

    public init(
        key: ObjectKey, size: Int, etag: ETag, stored: Timestamp, storageClass: String? = nil,
        encryption: String? = nil, metadata: ObjectMetadata? = nil
    ) {
        self.key = key
        self.size = Self.possible(size)
        self.etag = etag
        self.stored = stored
        self.storageClass = storageClass
        self.encryption = encryption
        self.metadata = metadata
    }

    private enum CodingKeys: CodingKey { case key, size, etag, stored, storageClass, encryption, metadata }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            key: try fields.decode(ObjectKey.self, forKey: .key), size: try fields.decode(Int.self, forKey: .size),
            etag: try fields.decode(ETag.self, forKey: .etag),
            stored: try fields.decode(Timestamp.self, forKey: .stored),
            storageClass: try fields.decodeIfPresent(String.self, forKey: .storageClass),
            encryption: try fields.decodeIfPresent(String.self, forKey: .encryption),
            metadata: try fields.decodeIfPresent(ObjectMetadata.self, forKey: .metadata))
    }
}
