import CloudMountPlatform
public import CloudMountVFS
import Synchronization

extension MemoryProvider {
    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        guard capabilities.serverCopy else { throw VFSError(.notSupported, "this store has no server-side copy") }
        // What is wrong with the source is said first. Where the destination is not held to in one step, neither is it.
        let first = bucket.withLock { looked(request, in: $0) }
        if case .failure(let error) = first { throw error }
        let look = capabilities.conditionalCopy ? nil : first
        let now = SystemClock.now()
        return try await guarded(.copy, request.destination, request.precondition) { bucket, cause throws(VFSError) in
            let (source, metadata) = try (look ?? looked(request, in: bucket)).get()
            return put(source.bytes, key: request.destination, metadata: metadata, at: now, in: &bucket, cause)
        }
    }

    private func looked(
        _ request: CopyRequest, in bucket: borrowing MemoryBucket
    ) -> Result<(StoredObject, ObjectMetadata), VFSError> {
        do throws(VFSError) {
            let source = try version(request.source, in: bucket)
            let metadata = request.metadata ?? source.info.metadata ?? ObjectMetadata()
            try check(request.destination, metadata)
            guard source.info.size <= capabilities.maxCopySize else {
                throw MemoryErrors.tooLarge("“\(request.source.key)” is too large for one copy")
            }
            return .success((source, metadata))
        } catch {
            return .failure(error)
        }
    }

    /// The very version that `info` names: the current one, or, where old ones are read, any that is kept.
    func version(_ info: ObjectInfo, in bucket: borrowing MemoryBucket) throws(VFSError) -> StoredObject {
        if capabilities.readsOldVersions, let object = bucket.version(info.key, info.etag) { return object }
        guard let object = bucket.current(info.key) else { throw MemoryErrors.notFound(info.key) }
        guard object.info.etag == info.etag else { throw MemoryErrors.stale(info.key) }
        return object
    }

    public func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion] {
        guard capabilities.versions else { throw VFSError(.notSupported, "this store has no versions") }
        let history = bucket.withLock { $0.history[key] ?? [] }
        return history.indices.reversed().map { index in
            ObjectVersion(
                info: history[index].info, isLatest: index == history.count - 1,
                isDeleteMarker: history[index].isDeleteMarker)
        }
    }
}
