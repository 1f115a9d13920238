import CloudMountHTTP
public import CloudMountVFS

extension S3Provider {
    /// CopyObject; above 5 GiB a multipart upload of copied ranges.
    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try check(request.source.key)
        try check(request.destination)
        let features = features
        guard features.serverCopy else { throw VFSError(.notSupported, "this store copies no objects") }
        if request.source.size > copyLimit { return try await copyInParts(request) }
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
            return try await self.condition(
                precondition, on: request.destination, absent: features.copyAbsent, match: features.copyMatch)
        }
        let (source, condition) = await (described, looked)
        var copied = request
        copied.source = try source.get()
        let made = try await copy(copied, condition.get(), pinned: features.pinnedCopy)
        if !isHeld, !isOver { try await compare(made, with: request.source, isUndone: isComparedAfter) }
        return made
    }

    /// Equal ETags are of equal bytes. Others say nothing: copies of encrypted objects and of such in parts have their own.
    private func compare(_ made: ObjectInfo, with source: ObjectInfo, isUndone: Bool) async throws(VFSError) {
        if made.etag == source.etag { return }
        do throws(VFSError) {
            try await compare(source)
        } catch {
            // Nobody has asked for a copy of what is there now. One that stays is of no harm.
            if isUndone {
                _ = await attempt { () async throws(VFSError) in
                    try await self.delete([DeleteRequest(made.key, version: made.etag, undoes: true)])
                }
            }
            throw error.code == .notFound ? Self.sourceChanged(error.wire) : error
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
        addSource(&wire, source, pinned: pinned)
        addStorage(&wire, keeping: source)
        if let condition { wire.fields.append(condition) }
        let (fields, response): (S3Fields, HTTPResponse)
        do throws(VFSError) {
            (fields, response) = try await client.send(wire, root: "CopyObjectResult")
        } catch {
            guard condition != nil, error.code == .preconditionFailed || error.code == .notFound else {
                throw lostSource(error)
            }
            // Either side may have changed; the source tells which.
            try await compare(source)
            throw lostCondition(error)
        }
        let encryption = S3Encryption.told(response.headers)
        gotEncryption(encryption, naming: source)
        // Not every store names it.
        guard var text = fields["ETag"], !text.isEmpty else {
            return try await written(
                request.destination, nonce: request.metadata.map(\.nonce) ?? source.metadata?.nonce)
        }
        let etag = text.withUTF8 { ETag(Self.unquoted($0)) }
        let stored = fields["LastModified"].flatMap(S3Dates.iso8601) ?? client.time(response.headers)
        return ObjectInfo(
            key: request.destination, size: source.size, etag: etag, stored: stored,
            storageClass: storageClass(keeping: source), encryption: encryption)
    }

    func addSource(_ wire: inout S3Request, _ source: ObjectInfo, pinned: Bool) {
        wire.field(
            "x-amz-copy-source",
            "/\(client.options.bucket)/\(PercentEncoding.encode(source.key.string, keepSlash: true))")
        if pinned { wire.field("x-amz-copy-source-if-match", "\"\(source.etag.value)\"") }
    }

    /// Looks whether `source` is current.
    func compare(_ source: ObjectInfo) async throws(VFSError) {
        guard try await head(source.key).etag == source.etag else { throw Self.sourceChanged() }
    }

    /// A copy whose only condition was on its source.
    func lostSource(_ error: VFSError) -> VFSError {
        error.code == .preconditionFailed ? Self.sourceChanged(error.wire) : error
    }

    // MARK: In parts

    /// Eight ranges at once; given up and cleaned away when one fails.
    private func copyInParts(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        let features = features
        guard features.multipart, features.rangeCopy else {
            throw VFSError(.tooLarge, "this store copies at most 5 GiB")
        }
        let maxParts = client.profile.maxParts
        guard let size = Self.partSize(request.source.size, least: copyPartSize, maxParts: maxParts) else {
            throw VFSError(.tooLarge, "the object is too large for a copy in \(maxParts) parts")
        }
        let source = try await described(request.source, comparing: request.metadata == nil)
        // The parts are cut by the size: of another one it is another version, whatever the store calls it.
        guard source.size == request.source.size else { throw Self.sourceChanged() }
        let metadata = request.metadata ?? source.metadata ?? ObjectMetadata()
        var upload = try await beginUpload(request.destination, metadata: metadata, keeping: source)
        upload.nonce = metadata.nonce
        let precondition = request.isOverSource ? .match(source.etag) : request.precondition
        let begun = upload
        do throws(VFSError) {
            let parts = try await copyParts(begun, source, partSize: size)
            var info = try await completeUpload(begun, parts: parts, precondition: precondition)
            info.storageClass = storageClass(keeping: source)
            return info
        } catch {
            // Outside the task, whose cancellation may be the reason.
            await Task { try? await self.abortUpload(begun) }.value
            throw request.isOverSource ? lostSource(error) : error
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

extension CopyRequest {
    /// Onto itself, and over no other version than the one that it is of.
    fileprivate var isOverSource: Bool {
        destination == source.key && (precondition == .none || precondition == .match(source.etag))
    }
}
