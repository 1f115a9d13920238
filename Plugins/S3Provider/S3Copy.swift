import CloudMountHTTP
import CloudMountPlatform
public import CloudMountVFS
import Synchronization

extension S3Provider {
    /// CopyObject; above 5 GiB a multipart upload of copied ranges.
    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try check(request.source.key)
        try check(request.destination)
        let features = features
        guard features.serverCopy else { throw VFSError(.notSupported, "this store copies no objects") }
        if request.source.size > copyLimit { return try await copyInParts(request) }
        let condition = try await condition(
            request.precondition, on: request.destination, absent: features.copyConditional,
            match: features.copyConditional)
        if !features.pinnedCopy { try await compare(request.source) }
        return try await copy(request, condition, pinned: features.pinnedCopy)
    }

    /// Sends the conditions whatever is known of the endpoint.
    func copy(
        _ request: CopyRequest, _ condition: S3Signer.Field?, pinned: Bool
    ) async throws(VFSError) -> ObjectInfo {
        var wire = S3Request("CopyObject", .put, request.destination)
        wire.worksOn = request.source.size
        if let metadata = request.metadata {
            wire.fields = try S3Metadata.fields(metadata)
            wire.field("x-amz-metadata-directive", "REPLACE")
        }
        addSource(&wire, request.source, pinned: pinned)
        addStorage(&wire, storageClass: request.source.storageClass)
        if let condition { wire.fields.append(condition) }
        let (fields, response): (S3Fields, HTTPResponse)
        do throws(VFSError) {
            (fields, response) = try await client.send(wire, root: "CopyObjectResult")
        } catch {
            if condition != nil, error.code == .preconditionFailed {
                // Either side may have changed; the source tells which.
                try await compare(request.source)
                throw error
            }
            throw lostSource(error)
        }
        // Not every store names it.
        guard var text = fields["ETag"], !text.isEmpty else { return try await head(request.destination) }
        let etag = text.withUTF8 { ETag(Self.unquoted($0)) }
        let stored = fields["LastModified"].flatMap(S3Dates.iso8601) ?? client.time(response.headers)
        return ObjectInfo(
            key: request.destination, size: request.source.size, etag: etag,
            stored: stored, storageClass: Self.told(client.options.storageClass ?? request.source.storageClass))
    }

    func addSource(_ wire: inout S3Request, _ source: ObjectInfo, pinned: Bool) {
        wire.field(
            "x-amz-copy-source",
            "/\(client.options.bucket)/\(PercentEncoding.encode(source.key.string, keepSlash: true))")
        if pinned { wire.field("x-amz-copy-source-if-match", "\"\(source.etag.value)\"") }
    }

    /// Looks whether `source` is current, where the store cannot be held to it.
    /// - Parameter lately: having looked within the last second will do, for the ranges of one object come in swarms.
    func compare(_ source: ObjectInfo, lately: Bool = false) async throws(VFSError) {
        let now = SystemClock.monotonic()
        let isKnown = compared.withLock { last in
            last.map { $0.key == source.key && $0.etag == source.etag && now < $0.until } ?? false
        }
        if lately, isKnown { return }
        guard try await head(source.key).etag == source.etag else {
            throw VFSError(.stale, "the source of the copy has been changed meanwhile")
        }
        compared.withLock { $0 = (source.key, source.etag, now + 1_000_000_000) }
    }

    /// A copy whose only condition was on its source.
    func lostSource(_ error: VFSError) -> VFSError {
        guard error.code == .preconditionFailed else { return error }
        return VFSError(.stale, "the source of the copy has been changed meanwhile", wire: error.wire)
    }

    // MARK: In parts

    /// Eight ranges at once; given up and cleaned away when one fails.
    private func copyInParts(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        let features = features
        guard features.multipart, features.rangeCopy else {
            throw VFSError(.tooLarge, "this store copies at most 5 GiB")
        }
        let source = request.source
        let maxParts = client.profile.maxParts
        guard let size = Self.partSize(source.size, least: copyPartSize, maxParts: maxParts) else {
            throw VFSError(.tooLarge, "the object is too large for a copy in \(maxParts) parts")
        }
        var metadata = request.metadata
        if metadata == nil {
            let current = try await head(source.key)
            guard current.etag == source.etag else {
                throw VFSError(.stale, "the source of the copy has been changed meanwhile")
            }
            metadata = current.metadata
        }
        let upload = try await beginUpload(
            request.destination, metadata: metadata ?? ObjectMetadata(), storageClass: source.storageClass)
        do throws(VFSError) {
            let parts = try await copyParts(upload, source, partSize: size)
            var info = try await completeUpload(upload, parts: parts, precondition: request.precondition)
            info.storageClass = Self.told(client.options.storageClass ?? source.storageClass)
            return info
        } catch {
            // Outside the task, whose cancellation may be the reason.
            await Task { try? await self.abortUpload(upload) }.value
            throw error
        }
    }

    private func copyParts(
        _ upload: Upload, _ source: ObjectInfo, partSize: Int
    ) async throws(VFSError) -> [UploadedPart] {
        let count = (source.size + partSize - 1) / partSize
        let copyOne: @Sendable (Int) async -> Result<UploadedPart, VFSError> = { index in
            let extent = Extent(index * partSize, min(source.size, (index + 1) * partSize))
            do throws(VFSError) {
                return .success(try await self.copyPart(upload, number: index + 1, source: source, extent: extent))
            } catch {
                return .failure(error)
            }
        }
        let result: Result<[UploadedPart], VFSError> = await withTaskGroup { group in
            var next = 0
            var parts: [UploadedPart] = []
            while next < min(8, count) {
                let index = next
                group.addTask { await copyOne(index) }
                next += 1
            }
            for await part in group {
                switch part {
                case .success(let part): parts.append(part)
                case .failure(let error):
                    group.cancelAll()
                    return .failure(error)
                }
                if next < count {
                    let index = next
                    group.addTask { await copyOne(index) }
                    next += 1
                }
            }
            return .success(parts)
        }
        return try result.get()
    }

    /// The least size, in whole MiB, that keeps within `maxParts`; nil when even the largest parts do not.
    static func partSize(_ size: Int, least: Int, maxParts: Int) -> Int? {
        let needed = (size + maxParts - 1) / maxParts
        let rounded = needed <= least ? least : ((needed + (1 << 20) - 1) >> 20) << 20
        return rounded <= 5 << 30 ? rounded : nil
    }
}
