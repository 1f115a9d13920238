import CloudMountPlatform
public import CloudMountVFS
import Synchronization

extension MemoryProvider {
    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        guard objects.count <= capabilities.maxDeleteKeys else {
            throw MemoryErrors.argument("\(objects.count) keys are more than one delete takes")
        }
        var failures: [DeleteFailure] = []
        for object in objects {
            do throws(VFSError) {
                try await delete(object)
            } catch {
                if error.code == .cancelled { throw error }
                failures.append(DeleteFailure(key: object.key, error: error))
            }
        }
        return failures
    }

    private func delete(_ object: DeleteRequest) async throws(VFSError) {
        let key = object.key
        if bucket.withLock({ $0.current(key) }) == nil { return }
        let now = SystemClock.now()
        do throws(VFSError) {
            try await guarded(.delete, key, object.version.map { .match($0) } ?? .none) { bucket, cause in
                if bucket.current(key) == nil { return }
                let info = ObjectInfo(key: key, size: 0, etag: ETag(bucket.nextName()), stored: now)
                bucket.store(
                    StoredObject(info: info, bytes: [], isDeleteMarker: true),
                    keepingVersions: capabilities.versions, cause)
            }
        } catch {
            // It went meanwhile: absent counts as deleted.
            guard error.code == .preconditionFailed, bucket.withLock({ $0.current(key) }) == nil else { throw error }
        }
    }
}
