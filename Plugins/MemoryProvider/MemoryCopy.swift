import CloudMountPlatform
public import CloudMountVFS
import Synchronization

extension MemoryProvider {
    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        guard capabilities.serverCopy else { throw VFSError(.notSupported, "this store has no server-side copy") }
        let source =
            if request.restoring, let old = bucket.withLock({ $0.version(request.source.key, request.source.etag) }) {
                old
            } else {
                try version(request.source, pinned: request.pinned)
            }
        let metadata = request.metadata ?? source.info.metadata ?? ObjectMetadata()
        try check(request.destination, metadata)
        guard source.info.size <= capabilities.maxCopySize else {
            throw MemoryErrors.tooLarge("“\(request.source.key)” is too large for one copy")
        }
        return try store(
            source.bytes, key: request.destination, metadata: metadata, precondition: request.precondition)
    }

    /// The object that `info` describes; with `pinned` only if it is still the current one.
    func version(_ info: ObjectInfo, pinned: Bool = true) throws(VFSError) -> StoredObject {
        guard let object = bucket.withLock({ $0.current(info.key) }) else { throw MemoryErrors.notFound(info.key) }
        guard !pinned || object.info.etag == info.etag else { throw MemoryErrors.stale(info.key) }
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
