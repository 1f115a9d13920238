import CloudMountPlatform
public import CloudMountVFS
import Synchronization

extension MemoryProvider {
    /// What is moved keeps its ETag, and its bytes are destroyed by nobody.
    public func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo? {
        let (source, destination) = (request.source.key, request.destination)
        guard source.endsWithSlash == destination.endsWithSlash else {
            throw MemoryErrors.argument("a folder is moved to a folder, an object to an object")
        }
        if source.endsWithSlash { return try moveFolder(source, destination) }
        guard capabilities.moves else { throw VFSError(.notSupported, "this store moves no objects") }
        try check(destination, ObjectMetadata())
        let first = bucket.withLock { moving(request.source, in: $0) }
        if case .failure(let error) = first { throw error }
        let now = SystemClock.now()
        return try await guarded(.move, destination, request.precondition) { bucket, cause throws(VFSError) in
            let object = try moving(request.source, in: bucket).get()
            bucket.move(object, to: destination, at: now, keepingVersions: capabilities.versions, cause)
            return bucket.current(destination)?.info
        }
    }

    /// The current version, which `info` must name.
    private func moving(_ info: ObjectInfo, in bucket: borrowing MemoryBucket) -> Result<StoredObject, VFSError> {
        guard let object = bucket.current(info.key) else { return .failure(MemoryErrors.notFound(info.key)) }
        guard object.info.etag == info.etag else { return .failure(MemoryErrors.stale(info.key)) }
        return .success(object)
    }

    /// In one step with its conditions, whatever the capabilities say of others.
    private func moveFolder(_ source: ObjectKey, _ destination: ObjectKey) throws(VFSError) -> ObjectInfo? {
        guard capabilities.movesFolders else { throw VFSError(.notSupported, "this store moves no folders") }
        guard !destination.hasPrefix(source) else { throw MemoryErrors.argument("a folder is moved into itself") }
        let now = SystemClock.now()
        let cause = Cause(verb: .move, precondition: .absent, isAtomic: true)
        let result: Result<ObjectInfo?, VFSError> = bucket.withLock { bucket in
            attemptNow { () throws(VFSError) in
                let objects = bucket.all(below: source)
                if objects.isEmpty { throw MemoryErrors.notFound(source) }
                let file = ObjectKey(String(destination.string.dropLast()))
                guard bucket.all(below: destination).isEmpty, bucket.current(file) == nil else {
                    throw MemoryErrors.precondition(destination)
                }
                for object in objects {
                    let key = ObjectKey(destination.string + object.info.key.dropping(source.byteCount).string)
                    try check(key, ObjectMetadata())
                }
                for object in objects {
                    let key = ObjectKey(destination.string + object.info.key.dropping(source.byteCount).string)
                    bucket.move(object, to: key, at: now, keepingVersions: capabilities.versions, cause)
                }
                return bucket.current(destination)?.info
            }
        }
        return try result.get()
    }
}

extension MemoryBucket {
    /// Current objects whose keys begin with `prefix`.
    func all(below prefix: ObjectKey) -> [StoredObject] {
        keys[lowerBound(prefix)...].prefix { $0.hasPrefix(prefix) }.compactMap { current($0) }
    }
}
