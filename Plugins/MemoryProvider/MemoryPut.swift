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
        let now = SystemClock.now()
        return try await guarded(.put, request.key, request.precondition) { bucket, cause in
            put(bytes, key: request.key, metadata: request.metadata, at: now, in: &bucket, cause)
        }
    }

    func put(
        _ bytes: [UInt8], key: ObjectKey, metadata: ObjectMetadata, at now: Timestamp, in bucket: inout MemoryBucket,
        _ cause: Cause
    ) -> ObjectInfo {
        let kept = capabilities.metadata && (capabilities.folderObjects || !key.endsWithSlash)
        let info = ObjectInfo(
            key: key, size: bytes.count, etag: bucket.tag(of: bytes), stored: now,
            metadata: kept ? metadata : ObjectMetadata())
        bucket.store(StoredObject(info: info, bytes: bytes), keepingVersions: capabilities.versions, cause)
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
        if let nonce = metadata.nonce, !ObjectMetadata.isNonce(nonce) {
            throw MemoryErrors.argument("“\(nonce)” is no nonce")
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
