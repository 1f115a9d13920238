import CloudMountHTTP
import CloudMountVFS

/// Writes whole objects.
final class S3Writer: Sendable {
    private let client: S3Client
    private let storage: S3Storage
    private let looks: S3Looks

    init(_ client: S3Client, _ storage: S3Storage, _ looks: S3Looks) {
        self.client = client
        self.storage = storage
        self.looks = looks
    }

    /// PutObject.
    func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try request.key.check()
        guard source.count <= 5 << 30 else { throw VFSError(.tooLarge, "one PUT to S3 takes at most 5 GiB") }
        let features = client.features
        let condition = try await looks.condition(
            request.precondition, on: request.key, absent: features.putAbsent, match: features.putMatch)
        return try await put(request.key, request.metadata, condition, from: source)
    }

    /// Sends the condition whatever is known of the endpoint.
    func put(
        _ key: ObjectKey, _ metadata: ObjectMetadata, _ condition: S3Signer.Field?, from source: any ByteSource
    ) async throws(VFSError) -> ObjectInfo {
        var wire = S3Request("PutObject", .put, key)
        wire.fields = try S3Metadata.fields(metadata)
        storage.addStorage(&wire)
        if let condition { wire.fields.append(condition) }
        wire.body = source
        let response: HTTPResponse
        do throws(VFSError) {
            response = try await client.sendForNothing(wire)
        } catch {
            throw condition == nil ? error : error.asLostCondition
        }
        guard let etag = S3ETag.of(response.headers) else {
            throw client.error(.malformedResponse, "an upload without an ETag", wire, response.head)
        }
        let stored = client.time(response.headers)
        let encryption = S3Encryption.told(response.headers)
        storage.gotEncryption(encryption)
        return ObjectInfo(
            key: key, size: source.count, etag: etag, stored: stored, storageClass: storage.storageClass(),
            encryption: encryption)
    }
}
