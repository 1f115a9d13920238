import CloudMountPlatform
public import CloudMountVFS
import Synchronization

extension MemoryProvider {
    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try check(request.key, request.metadata)
        guard source.count <= capabilities.maxPutSize else {
            throw MemoryErrors.tooLarge("“\(request.key)” is too large for one put")
        }
        let bytes = try await contents(of: source)
        return try store(bytes, key: request.key, metadata: request.metadata, precondition: request.precondition)
    }

    /// Precondition and store in one step under the lock: of racing writers exactly one finds `absent` true.
    func store(
        _ bytes: [UInt8], key: ObjectKey, metadata: ObjectMetadata, precondition: Precondition
    ) throws(VFSError) -> ObjectInfo {
        let now = SystemClock.now()
        let stored: ObjectInfo? = bucket.withLock { bucket in
            guard bucket.admits(precondition, key: key, capabilities: capabilities) else { return nil }
            return put(bytes, key: key, metadata: metadata, at: now, in: &bucket)
        }
        guard let stored else { throw MemoryErrors.precondition(key) }
        return stored
    }

    func put(
        _ bytes: [UInt8], key: ObjectKey, metadata: ObjectMetadata, at now: Timestamp, in bucket: inout MemoryBucket
    ) -> ObjectInfo {
        let kept = capabilities.metadata && (capabilities.folderObjects || !key.endsWithSlash)
        let info = ObjectInfo(
            key: key, size: bytes.count, etag: ETag(bucket.nextName()), stored: now,
            metadata: kept ? metadata : ObjectMetadata())
        bucket.store(StoredObject(info: info, bytes: bytes), keepingVersions: capabilities.versions)
        return info
    }

    func check(_ key: ObjectKey, _ metadata: ObjectMetadata) throws(VFSError) {
        if key.isEmpty { throw VFSError(.invalidName, "an object needs a key") }
        if key.byteCount > capabilities.maxKeyBytes {
            throw VFSError(.nameTooLong, "a key of \(key.byteCount) bytes is longer than \(capabilities.maxKeyBytes)")
        }
        let count = metadata.user.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
        if count > capabilities.maxMetadataBytes {
            throw MemoryErrors.tooLarge("\(count) bytes of metadata are more than \(capabilities.maxMetadataBytes)")
        }
    }

    /// All of a source. It may block on local disk, so it is read on a thread that may.
    func contents(of source: any ByteSource) async throws(VFSError) -> [UInt8] {
        try await BlockingPool.shared.run("memory") { () throws(VFSError) -> [UInt8] in
            var failure: VFSError?
            let bytes = [UInt8](unsafeUninitializedCapacity: source.count) { buffer, filled in
                let room = UnsafeMutableRawBufferPointer(buffer)
                do throws(VFSError) {
                    while filled < source.count {
                        let slot = UnsafeMutableRawBufferPointer(rebasing: room[filled..<source.count])
                        let count = try source.read(at: filled, into: slot)
                        guard count > 0 else { throw VFSError(.io, "the bytes to upload ended early") }
                        filled += count
                    }
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
            return bytes
        }
    }
}
