import CloudMountPlatform
public import CloudMountVFS
import Synchronization

extension MemoryProvider {
    public func delete(_ keys: [ObjectKey]) async throws(VFSError) -> [DeleteFailure] {
        guard keys.count <= capabilities.maxDeleteKeys else {
            throw MemoryErrors.argument("\(keys.count) keys are more than one delete takes")
        }
        let now = SystemClock.now()
        bucket.withLock { bucket in
            for key in keys where bucket.current(key) != nil {
                let info = ObjectInfo(key: key, size: 0, etag: ETag(bucket.nextName()), stored: now)
                bucket.store(
                    StoredObject(info: info, bytes: [], isDeleteMarker: true), keepingVersions: capabilities.versions)
            }
        }
        return []
    }
}
