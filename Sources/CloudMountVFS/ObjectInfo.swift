/// What is kept beside an object's bytes. A store hands it back as it was given, within `Capabilities.maxMetadataBytes`.
public struct ObjectMetadata: Hashable, Sendable {
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

    public init(
        contentType: String? = nil, modified: Timestamp? = nil, user: [String: String] = [:],
        headers: [String: String] = [:]
    ) {
        self.contentType = contentType
        self.modified = modified
        self.user = user
        self.headers = headers
    }
}

/// One version of an object as the store describes it.
public struct ObjectInfo: Hashable, Sendable {
    public var key: ObjectKey
    /// Bytes.
    public var size: Int
    public var etag: ETag
    /// When the store took the object in: its clock, not the writer's.
    public var stored: Timestamp
    public var storageClass: String?
    /// Nil when this answer does not carry it (S3 listings). `head` always does.
    public var metadata: ObjectMetadata?

    public init(
        key: ObjectKey, size: Int, etag: ETag, stored: Timestamp, storageClass: String? = nil,
        metadata: ObjectMetadata? = nil
    ) {
        self.key = key
        self.size = size
        self.etag = etag
        self.stored = stored
        self.storageClass = storageClass
        self.metadata = metadata
    }
}
