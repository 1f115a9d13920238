import CloudMountHTTP
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
        if request.extent?.isEmpty ?? false { return try await readNothing(request, nil) }
        var wire = S3Request("GetObject", .get, request.key)
        if let extent = request.extent { wire.field("range", "bytes=\(extent.lowerBound)-\(extent.upperBound - 1)") }
        if let version = request.version { wire.field("if-match", "\"\(version.value)\"") }
        client.addPayer(&wire)
        wire.maxBodyBytes = 1 << 20
        let judge = ReadJudge(request, version: S3ETag.of)
        let response: HTTPResponse
        do throws(VFSError) {
            response = try await client.send(wire, into: .sink(sink, accepts: { judge.accepts($0) }))
        } catch {
            if let refusal = judge.refusal { throw refused(refusal, wire, nil) }
            switch (error.wire?.status, error.code) {
            case (416, _): return try await readNothing(request, error)
            case (412, _): throw VFSError(.stale, "the object has changed since it was opened", wire: error.wire)
            case (_, .notFound) where request.version != nil:
                throw VFSError(.stale, "the object has changed since it was opened", wire: error.wire)
            default: throw error
            }
        }
        switch judge.verdict(response.head) {
        case .success(let object):
            return info(request.key, size: object.size, etag: object.etag, response.headers)
        case .failure(let refusal): throw refused(refusal, wire, response)
        }
    }

    private func refused(_ refusal: ReadRefusal, _ wire: S3Request, _ response: HTTPResponse?) -> VFSError {
        switch refusal {
        case .stale: client.error(.stale, "the object has changed since it was opened", wire, response)
        case .ignoresRange:
            client.error(.notSupported, "the store ignores ranges and sent the whole object", wire, response)
        case .malformed: client.error(.malformedResponse, "bytes that were not asked for", wire, response)
        }
    }

    /// An extent that holds no byte of the object: what there is to say is the object itself.
    private func readNothing(_ request: ReadRequest, _ refusal: VFSError?) async throws(VFSError) -> ObjectInfo {
        let info: ObjectInfo
        do throws(VFSError) {
            info = try await head(request.key)
        } catch {
            guard error.code == .notFound, request.version != nil else { throw error }
            throw VFSError(.stale, "the object has changed since it was opened", wire: error.wire)
        }
        if let version = request.version, version != info.etag {
            throw VFSError(.stale, "the object has changed since it was opened", wire: refusal?.wire)
        }
        if let refusal, info.size > request.extent?.lowerBound ?? 0 {
            // It has grown between the two requests, or the store is wrong about its range.
            throw VFSError(
                .malformedResponse, "a range within the object was refused", retry: .backoff, wire: refusal.wire)
        }
        return info
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
        let stored = (headers["last-modified"] ?? headers["date"]).flatMap(S3Dates.http) ?? Timestamp(seconds: 0)
        let encryption = S3Encryption.told(headers)
        storage.sawEncryption(encryption)
        return ObjectInfo(
            key: key, size: size, etag: etag, stored: stored,
            storageClass: S3Storage.told(headers["x-amz-storage-class"]),
            encryption: encryption, metadata: S3Metadata.metadata(headers))
    }
}

/// Entity tags as headers and documents have them.
enum S3ETag {
    static func of(_ headers: HTTPHeaders) -> ETag? {
        guard var text = headers["etag"] else { return nil }
        let value = text.withUTF8 { unquoted($0) }
        return value.isEmpty ? nil : ETag(value)
    }

    /// An entity tag without its quotes; a weak one (some proxies make them so) without its mark.
    static func unquoted(_ text: UnsafeBufferPointer<UInt8>) -> String {
        var text = text[...]
        if text.count > 3, text.first == UInt8(ascii: "W"), text.dropFirst().first == UInt8(ascii: "/") {
            text = text.dropFirst(2)
        }
        if text.count >= 2, text.first == 0x22, text.last == 0x22 { text = text.dropFirst().dropLast() }
        return String(decoding: text, as: UTF8.self)
    }
    static func quoted(_ version: ETag) -> String { "\"\(version.value)\"" }
}

extension ObjectKey {
    func check() throws(VFSError) {
        guard !isEmpty else { throw VFSError(.invalidName, "an object must have a key") }
        guard byteCount <= 1024 else { throw VFSError(.nameTooLong, "S3 keys have at most 1,024 bytes") }
    }
}
