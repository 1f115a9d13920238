import CloudMountHTTP
public import CloudMountVFS

extension S3Provider {
    /// PutObject.
    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try check(request.key)
        guard source.count <= 5 << 30 else { throw VFSError(.tooLarge, "one PUT to S3 takes at most 5 GiB") }
        let features = features
        let condition = try await condition(
            request.precondition, on: request.key, absent: features.putAbsent, match: features.putMatch)
        return try await put(request.key, request.metadata, condition, from: source)
    }

    /// Sends the condition whatever is known of the endpoint.
    func put(
        _ key: ObjectKey, _ metadata: ObjectMetadata, _ condition: S3Signer.Field?, from source: any ByteSource
    ) async throws(VFSError) -> ObjectInfo {
        var wire = S3Request("PutObject", .put, key)
        wire.fields = try S3Metadata.fields(metadata)
        addStorage(&wire)
        if let condition { wire.fields.append(condition) }
        wire.body = source
        let response: HTTPResponse
        do throws(VFSError) {
            response = try await client.send(wire)
        } catch {
            throw condition == nil ? error : lostCondition(error)
        }
        guard let etag = Self.etag(response.headers) else {
            throw client.error(.malformedResponse, "an upload without an ETag", wire, response)
        }
        let stored = client.time(response.headers)
        let encryption = S3Encryption.told(response.headers)
        gotEncryption(encryption)
        return ObjectInfo(
            key: key, size: source.count, etag: etag, stored: stored, storageClass: storageClass(),
            encryption: encryption)
    }

    /// `If-Match` on an object that is gone is answered by 404.
    func lostCondition(_ error: VFSError) -> VFSError {
        guard error.code == .notFound else { return error }
        return VFSError(.preconditionFailed, "the object has been deleted meanwhile", wire: error.wire)
    }
}
