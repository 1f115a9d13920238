import CloudMountKit
import CloudMountVFS

/// Copies of files by one call.
struct B2Copier: Sendable {
    let client: B2Client
    let bucket: B2Bucket

    /// b2_copy_file, of any version that B2 has, by its id; up to `B2Provider.maxPieceSize`.
    /// - Parameter metadata: nil: the source's.
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
            call.body.add("contentType", try bucket.contentType(metadata))
            call.body.add("fileInfo", B2FileInfo.json(try bucket.entries(metadata, name: name)))
        } else {
            call.body.add("metadataDirective", "COPY")
        }
        call.body.add("sourceServerSideEncryption", client.encryption.source)
        call.body.add("destinationServerSideEncryption", client.encryption.destination(keeping: source.encryption))
        let file: B2File = try await client.send(call) { reader throws(JSONError) in try B2File.read(&reader) }
        return file.object(destination)
    }
}

/// Copies of any size.
struct B2Copies: Sendable {
    let files: B2Files
    let copier: B2Copier
    let largeFiles: B2LargeFiles
    /// Sources up to here are copied by one call, larger ones in parts.
    let limit: Int
    /// Least size of a part.
    let partSize: Int

    /// b2_copy_file; above its limit a large file made of copied parts. B2 copies any version that it has, by its id.
    func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try B2Names.check(request.destination)
        do throws(VFSError) {
            if request.source.size > limit { return try await copyInParts(request) }
            try await files.compare(request.precondition, request.destination)
            return try await copier.copy(request.source, to: request.destination, metadata: request.metadata)
        } catch {
            throw try await files.lostSource(request.source, error)
        }
    }

    /// Eight ranges at once; given up and cleaned away when one fails.
    private func copyInParts(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        let source = request.source
        // What is listed may claim more than there can be.
        guard source.size <= B2Provider.maxFileSize else {
            throw VFSError(.tooLarge, "the object is larger than B2 takes any")
        }
        var metadata = request.metadata ?? source.metadata
        if metadata == nil {
            metadata = try await files.info(source.etag.value, source.key).object(source.key).metadata
        }
        // Two parts at least, and no more than there may be.
        let least = max(partSize, (source.size + B2Provider.maxParts - 1) / B2Provider.maxParts)
        let count = max(2, (source.size + least - 1) / least)
        let extents = (0..<count).map { Extent(source.size * $0 / count, source.size * ($0 + 1) / count) }
        let upload = try await largeFiles.begin(
            request.destination, metadata: metadata ?? ObjectMetadata(), keeping: source.encryption)
        do throws(VFSError) {
            let parts = try await inParallel(Array(extents.enumerated()), width: 8) { part async throws(VFSError) in
                try await self.largeFiles.copyPart(
                    upload, number: part.offset + 1, sourceID: source.etag.value, part.element,
                    keeping: source.encryption)
            }
            return try await largeFiles.complete(upload, parts: parts, precondition: request.precondition)
        } catch {
            // Outside the task, whose cancellation may be the reason.
            await Task { try? await self.largeFiles.abort(upload) }.value
            throw error
        }
    }
}
