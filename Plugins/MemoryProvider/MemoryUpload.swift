import CloudMountPlatform
public import CloudMountVFS
import Synchronization

extension MemoryProvider {
    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        guard capabilities.multipart else { throw VFSError(.notSupported, "this store has no multipart upload") }
        try check(key, metadata)
        return bucket.withLock { bucket in
            let id = bucket.nextName()
            bucket.uploads[id] = PendingUpload(key: key, metadata: metadata)
            return Upload(key: key, id: id)
        }
    }

    public func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        try check(number, size: source.count)
        return try addPart(upload, number, try await contents(of: source))
    }

    public func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent
    ) async throws(VFSError) -> UploadedPart {
        guard capabilities.rangeCopy else { throw VFSError(.notSupported, "this store has no copy of ranges") }
        let object = try bucket.withLock { bucket in
            attemptNow { () throws(VFSError) in try version(source, in: bucket) }
        }.get()
        guard Extent(0, object.bytes.count).contains(extent) else {
            throw MemoryErrors.argument("“\(source.key)” has no bytes \(extent)")
        }
        try check(number, size: extent.count)
        return try addPart(upload, number, Array(object.bytes[extent.lowerBound..<extent.upperBound]))
    }

    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        let pending = try pending(upload)
        var metadata = pending.metadata
        if capabilities.completeSetsMetadata, let last = upload.metadata {
            try check(upload.key, last)
            metadata = last
            metadata.nonce = pending.metadata.nonce
        }
        let described = metadata
        let bytes = try assemble(parts, of: pending)
        let now = SystemClock.now()
        return try await guarded(.completeUpload, upload.key, precondition) { bucket, cause throws(VFSError) in
            guard bucket.uploads[upload.id] != nil else { throw MemoryErrors.upload(upload.id) }
            bucket.uploads[upload.id] = nil
            return put(bytes, key: upload.key, metadata: described, at: now, in: &bucket, cause)
        }
    }

    public func abortUpload(_ upload: Upload) async throws(VFSError) {
        bucket.withLock { $0.uploads[upload.id] = nil }
    }

    public func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        try pending(upload).parts.values.map(\.info).sorted { $0.number < $1.number }
    }

    private func pending(_ upload: Upload) throws(VFSError) -> PendingUpload {
        guard let pending = bucket.withLock({ $0.uploads[upload.id] }), pending.key == upload.key else {
            throw MemoryErrors.upload(upload.id)
        }
        return pending
    }

    private func check(_ number: Int, size: Int) throws(VFSError) {
        guard (1...capabilities.maxParts).contains(number) else {
            throw MemoryErrors.argument("part \(number) is not between 1 and \(capabilities.maxParts)")
        }
        guard size <= capabilities.maxPartSize else { throw MemoryErrors.tooLarge("part \(number) is too large") }
    }

    private func addPart(_ upload: Upload, _ number: Int, _ bytes: [UInt8]) throws(VFSError) -> UploadedPart {
        let part: UploadedPart? = bucket.withLock { bucket in
            guard bucket.uploads[upload.id]?.key == upload.key else { return nil }
            let part = UploadedPart(number: number, size: bytes.count, tag: bucket.nextName())
            bucket.uploads[upload.id]?.parts[number] = StoredPart(info: part, bytes: bytes)
            return part
        }
        guard let part else { throw MemoryErrors.upload(upload.id) }
        return part
    }

    private func assemble(_ parts: [UploadedPart], of pending: PendingUpload) throws(VFSError) -> [UInt8] {
        guard parts.count >= capabilities.minParts, !parts.isEmpty else {
            throw MemoryErrors.argument("an upload needs more parts")
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(parts.reduce(0) { $0 + $1.size })
        var previous = 0
        for (index, part) in parts.enumerated() {
            guard part.number > previous, let stored = pending.parts[part.number], stored.info.tag == part.tag else {
                throw MemoryErrors.argument("part \(part.number) is missing, out of order or another one")
            }
            previous = part.number
            let isLast = index == parts.count - 1
            guard isLast || stored.bytes.count >= capabilities.minPartSize else {
                throw MemoryErrors.argument("part \(part.number) is smaller than \(capabilities.minPartSize) bytes")
            }
            if capabilities.equalParts, !isLast, stored.bytes.count != parts[0].size {
                throw MemoryErrors.argument("part \(part.number) is not of the size of the others")
            }
            bytes += stored.bytes
        }
        return bytes
    }
}
