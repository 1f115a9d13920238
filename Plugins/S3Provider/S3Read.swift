import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// Looks at objects and reads them.
final class S3Reader: Sendable {
    private let client: S3Client
    private let storage: S3Storage

    init(_ client: S3Client, _ storage: S3Storage) {
        self.client = client
        self.storage = storage
    }

    /// HeadObject.
    func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        try key.check()
        var wire = S3Request("HeadObject", .head, key)
        client.addPayer(&wire)
        let response = try await client.send(wire)
        guard let size = response.headers["content-length"].flatMap({ Int($0) }), let etag = S3ETag.of(response.headers)
        else { throw client.error(.malformedResponse, "an object without length or ETag", wire, response) }
        return info(key, size: size, etag: etag, response.headers)
    }

    /// GetObject, of the range and the version asked for, or nothing.
    func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        try request.key.check()
        let read = RangedRead(request, etag: S3ETag.of)
        return try await read.run(into: sink) { response in
            client.wire("GetObject", request.key, response)
        } send: { target throws(VFSError) in
            var wire = S3Request("GetObject", .get, request.key)
            if let range = read.range { wire.field("range", range) }
            if let version = request.version { wire.field("if-match", version.quoted) }
            client.addPayer(&wire)
            wire.maxBodyBytes = 1 << 20
            return try await client.send(wire, into: target)
        } head: { () throws(VFSError) in
            try await head(request.key)
        } describe: { size, etag, headers in
            info(request.key, size: size, etag: etag, headers)
        }
    }

    /// Nil when, and only when, the store says that there is no such object.
    func headIfThere(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo? {
        try await ifThere { () async throws(VFSError) in try await head(key) }
    }

    /// Looks whether `source` is current.
    func compare(_ source: ObjectInfo) async throws(VFSError) {
        guard try await head(source.key).etag == source.etag else { throw .sourceChanged() }
    }

    /// What was just written under `key`, where the answer did not name its ETag.
    /// - Parameter nonce: of the write; another one means that somebody else has written since.
    func written(_ key: ObjectKey, nonce: String?) async throws(VFSError) -> ObjectInfo {
        let found = try await head(key)
        if let nonce, found.metadata?.nonce != nonce {
            throw VFSError(.stale, "the object was replaced right after it had been written")
        }
        return found
    }

    private func info(_ key: ObjectKey, size: Int, etag: ETag, _ headers: HTTPHeaders) -> ObjectInfo {
        let stored = (headers["last-modified"] ?? headers["date"]).flatMap(WireDate.http) ?? Timestamp(seconds: 0)
        let encryption = S3Encryption.told(headers)
        storage.sawEncryption(encryption)
        return ObjectInfo(
            key: key, size: size, etag: etag, stored: stored,
            storageClass: S3Storage.told(headers["x-amz-storage-class"]),
            encryption: encryption, metadata: S3Metadata.metadata(headers))
    }
}

/// The version that an answer names.
enum S3ETag {
    static let of: @Sendable (HTTPHeaders) -> ETag? = { $0["etag"].flatMap { ETag(header: $0) } }
}

extension ObjectKey {
    func check() throws(VFSError) {
        guard !isEmpty else { throw VFSError(.invalidName, "an object must have a key") }
        guard byteCount <= 1024 else { throw VFSError(.nameTooLong, "S3 keys have at most 1,024 bytes") }
    }
}
