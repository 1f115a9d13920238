import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import Synchronization

/// Copies objects within the bucket.
final class S3Copier: Sendable {
    /// Sources up to here are copied by one CopyObject, larger ones in parts.
    private let limit: Int
    /// Least size of a part of such a copy.
    private let partSize: Int
    private let client: S3Client
    private let storage: S3Storage
    private let reader: S3Reader
    private let looks: S3Looks
    private let uploader: S3Uploader
    private let deleter: S3Deleter
    /// Whether a copy has the tag of its source; nil: not seen yet.
    private let tagsAreOfBytes = Mutex<Bool?>(nil)

    init(
        _ client: S3Client, _ storage: S3Storage, _ reader: S3Reader, _ looks: S3Looks, _ uploader: S3Uploader,
        _ deleter: S3Deleter, limit: Int, partSize: Int
    ) {
        self.client = client
        self.storage = storage
        self.reader = reader
        self.looks = looks
        self.uploader = uploader
        self.deleter = deleter
        self.limit = limit
        self.partSize = partSize
    }

    /// CopyObject; above 5 GiB a multipart upload of copied ranges.
    func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try request.source.key.check()
        try request.destination.check()
        let features = client.features
        guard features.serverCopy else { throw VFSError(.notSupported, "this store copies no objects") }
        if request.source.size > limit { return try await copyInParts(request) }
        // Onto itself, to be over the source and to be of it is one condition.
        let isOver = request.isOverSource
        let precondition = isOver ? .match(request.source.etag) : request.precondition
        let isHeld = features.pinnedCopy || isOver && features.copyMatch
        // A copy that replaces nothing may be compared when it is made, and be taken away again.
        let isComparedAfter = !isHeld && request.precondition == .absent
        async let described = attempt { () async throws(VFSError) in
            try await self.described(request.source, comparing: !isHeld && !isComparedAfter)
        }
        async let looked = attempt { () async throws(VFSError) -> S3Signer.Field? in
            if isOver, !features.copyMatch { return nil }
            return try await self.looks.condition(
                precondition, on: request.destination, absent: features.copyAbsent, match: features.copyMatch)
        }
        let (source, condition) = await (described, looked)
        var copied = request
        copied.source = try source.get()
        let made = try await copy(copied, condition.get(), pinned: features.pinnedCopy)
        if !isHeld, isOver { return try await compareOver(made, copied, size: request.source.size) }
        if !isHeld, !isOver { try await compare(made, with: request.source, isUndone: isComparedAfter) }
        return made
    }

    /// A copy onto itself that nothing held to its source: somebody else may have stored another version just before, which has our
    /// metadata now. Where tags are of bytes, they tell; else the size may.
    /// - Throws: `busy`: the new version is nobody's that is known here.
    private func compareOver(_ made: ObjectInfo, _ request: CopyRequest, size: Int) async throws(VFSError) -> ObjectInfo
    {
        let source = request.source
        if made.etag == source.etag {
            tagsAreOfBytes.withLock { $0 = true }
            return made
        }
        let changed = VFSError(.busy, "\(made.key) was changed by somebody else while its attributes were stored")
        // Nor is it known to be ours where it cannot be looked at.
        guard let there = try? await reader.head(made.key), there.size == size else { throw changed }
        guard made.etag.mayBeOfBytes, source.etag.mayBeOfBytes, [made, source].allSatisfy({ $0.isPlain }) else {
            return made
        }
        var last = made
        if tagsAreOfBytes.withLock({ $0 }) == nil {
            // The same once more: has it the same tag?
            var again = request
            again.source = made
            last = try await copy(again, nil, pinned: false)
            let isSame = last.etag == made.etag
            tagsAreOfBytes.withLock { $0 = $0 ?? isSame }
        }
        if tagsAreOfBytes.withLock({ $0 }) == true { throw changed }
        return last
    }

    /// Equal ETags are of equal bytes. Others say nothing: copies of encrypted objects and of such in parts have their own.
    private func compare(_ made: ObjectInfo, with source: ObjectInfo, isUndone: Bool) async throws(VFSError) {
        if made.etag == source.etag { return }
        do throws(VFSError) {
            try await reader.compare(source)
        } catch {
            // Nobody has asked for a copy of what is there now. One that stays is of no harm.
            if isUndone {
                _ = await attempt { () async throws(VFSError) in
                    try await self.deleter.delete([DeleteRequest(made.key, version: made.etag, undoes: true)])
                }
            }
            throw error.code == .notFound ? .sourceChanged(error.wire) : error
        }
    }

    /// Sends the conditions whatever is known of the endpoint.
    func copy(
        _ request: CopyRequest, _ condition: S3Signer.Field?, pinned: Bool
    ) async throws(VFSError) -> ObjectInfo {
        let source = request.source
        var wire = S3Request("CopyObject", .put, request.destination)
        wire.worksOn = source.size
        if let metadata = request.metadata {
            wire.fields = try S3Metadata.fields(metadata)
            wire.field("x-amz-metadata-directive", "REPLACE")
        }
        wire.addSource(source, of: client.options.bucket, pinned: pinned)
        storage.addStorage(&wire, keeping: source)
        if let condition { wire.fields.append(condition) }
        let (fields, response): (S3Fields, HTTPResponse)
        do throws(VFSError) {
            (fields, response) = try await client.send(wire, root: "CopyObjectResult")
        } catch {
            guard condition != nil, error.code == .preconditionFailed || error.code == .notFound else {
                throw error.asLostSource
            }
            // Either side may have changed; the source tells which.
            try await reader.compare(source)
            throw error.asLostCondition
        }
        let encryption = S3Encryption.told(response.headers)
        storage.gotEncryption(encryption, naming: source)
        // Not every store names it.
        guard var text = fields["ETag"], !text.isEmpty else {
            return try await reader.written(
                request.destination, nonce: request.metadata.map(\.nonce) ?? source.metadata?.nonce)
        }
        let etag = text.withUTF8 { ETag(ETag.unquoted($0)) }
        let stored = fields["LastModified"].flatMap(WireDate.iso8601) ?? client.time(response.headers)
        return ObjectInfo(
            key: request.destination, size: source.size, etag: etag, stored: stored,
            storageClass: storage.storageClass(keeping: source), encryption: encryption)
    }

    /// `source` with what a copy must name to keep storage class and encryption; looked at where that is not known, and
    /// where the store cannot be held to its version.
    /// - Throws: `stale`, `notFound`.
    private func described(_ source: ObjectInfo, comparing: Bool) async throws(VFSError) -> ObjectInfo {
        guard comparing || storage.isUnknown(of: source) else { return source }
        let found = try await reader.head(source.key)
        guard found.etag == source.etag else { throw .sourceChanged() }
        return found
    }

    // MARK: In parts

    /// Eight ranges at once; given up and cleaned away when one fails.
    private func copyInParts(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        let features = client.features
        guard features.multipart, features.rangeCopy else {
            throw VFSError(.tooLarge, "this store copies at most 5 GiB")
        }
        let maxParts = client.profile.maxParts
        guard let size = Self.partSize(request.source.size, least: partSize, maxParts: maxParts) else {
            throw VFSError(.tooLarge, "the object is too large for a copy in \(maxParts) parts")
        }
        let source = try await described(request.source, comparing: request.metadata == nil)
        // The parts are cut by the size: of another one it is another version, whatever the store calls it.
        guard source.size == request.source.size else { throw .sourceChanged() }
        let metadata = request.metadata ?? source.metadata ?? ObjectMetadata()
        var upload = try await uploader.beginUpload(request.destination, metadata: metadata, keeping: source)
        upload.nonce = metadata.nonce
        let precondition = request.isOverSource ? .match(source.etag) : request.precondition
        let begun = upload
        do throws(VFSError) {
            let parts = try await copyParts(begun, source, partSize: size)
            var info = try await uploader.completeUpload(begun, parts: parts, precondition: precondition)
            info.storageClass = storage.storageClass(keeping: source)
            return info
        } catch {
            // Outside the task, whose cancellation may be the reason.
            await Task { try? await self.uploader.abortUpload(begun) }.value
            throw request.isOverSource ? error.asLostSource : error
        }
    }

    private func copyParts(
        _ upload: Upload, _ source: ObjectInfo, partSize: Int
    ) async throws(VFSError) -> [UploadedPart] {
        let count = (source.size + partSize - 1) / partSize
        return try await inParallel(Array(0..<count), width: 8) { index async throws(VFSError) in
            let extent = Extent(index * partSize, min(source.size, (index + 1) * partSize))
            return try await self.uploader.copyPart(upload, number: index + 1, source: source, extent: extent)
        }
    }

    /// The least size, in whole MiB, that keeps within `maxParts`; nil when even the largest parts do not.
    static func partSize(_ size: Int, least: Int, maxParts: Int) -> Int? {
        let needed = (size + maxParts - 1) / maxParts
        let rounded = needed <= least ? least : ((needed + (1 << 20) - 1) >> 20) << 20
        return rounded <= 5 << 30 ? rounded : nil
    }
}

extension CopyRequest {
    /// Onto itself, and over no other version than the one that it is of.
    fileprivate var isOverSource: Bool {
        destination == source.key && (precondition == .none || precondition == .match(source.etag))
    }
}

extension ETag {
    /// As an MD5 is written.
    fileprivate var mayBeOfBytes: Bool { value.utf8.count == 32 && value.allSatisfy(\.isHexDigit) }
}

extension ObjectInfo {
    /// Not encrypted by a key of its own, which makes other tags.
    fileprivate var isPlain: Bool { encryption.map { $0 == S3Encryption.plain } ?? true }
}

extension S3Request {
    mutating func addSource(_ source: ObjectInfo, of bucket: String, pinned: Bool) {
        field("x-amz-copy-source", "/\(bucket)/\(PercentEncoding.encode(source.key.string, keepSlash: true))")
        if pinned { field("x-amz-copy-source-if-match", source.etag.quoted) }
    }
}

extension VFSError {
    static func sourceChanged(_ wire: VFSError.Wire? = nil) -> VFSError {
        VFSError(.stale, "the source of the copy has been changed meanwhile", wire: wire)
    }

    static var changed: VFSError { VFSError(.preconditionFailed, "the object has been changed meanwhile") }

    /// Of a copy whose only condition was on its source.
    var asLostSource: VFSError { code == .preconditionFailed ? .sourceChanged(wire) : self }

    /// Of a write with a condition: `If-Match` on an object that is gone is answered by 404.
    var asLostCondition: VFSError {
        guard code == .notFound else { return self }
        return VFSError(.preconditionFailed, "the object has been deleted meanwhile", wire: wire)
    }
}
