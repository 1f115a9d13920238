import CloudMountKit
public import CloudMountVFS

extension B2Provider {
    /// b2_copy_file; above its limit a large file made of copied parts. B2 copies any version that it has, by its id.
    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try B2Names.check(request.destination)
        do throws(VFSError) {
            if request.source.size > copyLimit { return try await copyInParts(request) }
            try await compare(request.precondition, request.destination)
            return try await copy(request.source, to: request.destination, metadata: request.metadata)
        } catch {
            throw try await lostSource(request.source, error)
        }
    }

    func copy(
        _ source: ObjectInfo, to destination: ObjectKey, metadata: ObjectMetadata?
    ) async throws(VFSError) -> ObjectInfo {
        let name = B2Names.name(destination)
        var call = B2Call("b2_copy_file", destination)
        call.worksOn = source.size
        call.body.add("sourceFileId", source.etag.value)
        call.body.add("fileName", name)
        if let metadata {
            call.body.add("metadataDirective", "REPLACE")
            call.body.add("contentType", try contentType(metadata))
            call.body.add("fileInfo", B2FileInfo.json(try entries(metadata, name: name)))
        } else {
            call.body.add("metadataDirective", "COPY")
        }
        call.body.add("sourceServerSideEncryption", client.encryption.source)
        call.body.add("destinationServerSideEncryption", client.encryption.destination(keeping: source.encryption))
        let file: B2File = try await client.send(call) { reader throws(JSONError) in try B2File.read(&reader) }
        return file.object(destination)
    }

    /// The error of a copy whose source may be the reason: B2 calls an id that is none any more a bad request.
    func lostSource(_ source: ObjectInfo, _ error: VFSError) async throws(VFSError) -> VFSError {
        guard error.code == .notFound || error.code == .invalidArgument,
            try await state(source.etag.value, source.key) == nil
        else { return error }
        return VFSError(.stale, "the version to be copied has been deleted", wire: error.wire)
    }

    // MARK: In parts

    /// Eight ranges at once; given up and cleaned away when one fails.
    private func copyInParts(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        let source = request.source
        // What is listed may claim more than there can be.
        guard source.size <= Self.maxFileSize else {
            throw VFSError(.tooLarge, "the object is larger than B2 takes any")
        }
        var metadata = request.metadata ?? source.metadata
        if metadata == nil { metadata = try await info(source.etag.value, source.key).object(source.key).metadata }
        // Two parts at least, and no more than there may be.
        let least = max(copyPartSize, (source.size + Self.maxParts - 1) / Self.maxParts)
        let count = max(2, (source.size + least - 1) / least)
        let extents = (0..<count).map { Extent(source.size * $0 / count, source.size * ($0 + 1) / count) }
        let upload = try await beginUpload(
            request.destination, metadata: metadata ?? ObjectMetadata(), keeping: source.encryption)
        do throws(VFSError) {
            let parts = try await inParallel(Array(extents.enumerated()), width: 8) { part async throws(VFSError) in
                try await self.copyPart(
                    upload, number: part.offset + 1, sourceID: source.etag.value, part.element,
                    keeping: source.encryption)
            }
            return try await completeUpload(upload, parts: parts, precondition: request.precondition)
        } catch {
            // Outside the task, whose cancellation may be the reason.
            await Task { try? await self.abortUpload(upload) }.value
            throw error
        }
    }
}
