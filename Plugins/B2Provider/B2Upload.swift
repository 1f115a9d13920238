import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// Large files. The upload's id is the file's id, which its finished version keeps; a part's tag is its SHA-1.
struct B2LargeFiles: Sendable {
    let client: B2Client
    let bucket: B2Bucket
    let files: B2Files
    let uploader: B2Uploader
    let copier: B2Copier

    /// b2_start_large_file.
    /// - Parameter encryption: of the source that the file is to be a copy of.
    func begin(
        _ key: ObjectKey, metadata: ObjectMetadata, keeping encryption: String? = nil
    ) async throws(VFSError) -> Upload {
        try B2Names.check(key)
        let name = B2Names.name(key)
        var call = B2Call("b2_start_large_file", key)
        call.body.add("bucketId", bucket.id)
        call.body.add("fileName", name)
        call.body.add("contentType", try bucket.contentType(metadata))
        call.body.add(
            "fileInfo", B2FileInfo.json(try bucket.entries(metadata, name: name, session: B2Leftovers.tag)))
        call.body.add("serverSideEncryption", client.encryption.destination(keeping: encryption))
        let file: B2File = try await client.send(call) { reader throws(JSONError) in try B2File.read(&reader) }
        return Upload(key: key, id: file.id)
    }

    /// b2_upload_part.
    func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        guard source.count <= B2Provider.maxPieceSize else {
            throw VFSError(.tooLarge, "a part of a B2 file has at most 5 GB")
        }
        var headers = HTTPHeaders()
        headers.append("X-Bz-Part-Number", "\(number)")
        client.encryption.addKeyHeaders(to: &headers)
        return try await within(upload) { () async throws(VFSError) in
            let (part, sha1) = try await self.uploader.send(
                "b2_upload_part", upload.key, owner: upload.id, headers, source
            ) {
                reader throws(JSONError) in
                try Self.part(&reader)
            } url: { () throws(VFSError) in
                Self.call("b2_get_upload_part_url", upload)
            }
            try self.uploader.verify(part.tag, sha1, part.size, source.count, upload.key)
            return part
        }
    }

    /// b2_copy_part, of any version that B2 has.
    func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, _ extent: Extent
    ) async throws(VFSError) -> UploadedPart {
        guard !extent.isEmpty else { throw VFSError(.invalidArgument, "a part must have bytes") }
        do throws(VFSError) {
            return try await copyPart(upload, number: number, sourceID: source.etag.value, extent)
        } catch {
            throw try await files.lostSource(source, error)
        }
    }

    func copyPart(
        _ upload: Upload, number: Int, sourceID: String, _ extent: Extent, keeping encryption: String? = nil
    ) async throws(VFSError) -> UploadedPart {
        var call = B2Call("b2_copy_part", upload.key)
        call.worksOn = extent.count
        call.body.add("sourceFileId", sourceID)
        call.body.add("largeFileId", upload.id)
        call.body.add("partNumber", number)
        call.body.add("range", "bytes=\(extent.lowerBound)-\(extent.upperBound - 1)")
        call.body.add("sourceServerSideEncryption", client.encryption.source)
        call.body.add("destinationServerSideEncryption", client.encryption.destination(keeping: encryption))
        let wire = call
        return try await within(upload) { () async throws(VFSError) in
            let part: UploadedPart = try await self.client.send(wire) { reader throws(JSONError) in
                try Self.part(&reader)
            }
            guard part.size == extent.count else {
                throw VFSError(.stale, "the source of the copy has been changed meanwhile")
            }
            return part
        }
    }

    /// b2_finish_large_file.
    func complete(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        let parts = parts.sorted { $0.number < $1.number }
        for (index, part) in parts.enumerated() where part.number != index + 1 {
            throw VFSError(.invalidArgument, "B2 numbers the parts of a file from 1 on, without gaps")
        }
        if precondition != .none {
            let there = try await files.headIfThere(upload.key)
            // An earlier attempt had finished it, and its answer was lost.
            if let there, there.etag.value == upload.id { return there }
            try B2Files.check(precondition, there)
        }
        var call = Self.call("b2_finish_large_file", upload)
        call.worksOn = parts.reduce(0) { $0 + $1.size }
        call.body.add("partSha1Array", parts.map(\.tag))
        do throws(VFSError) {
            let file: B2File = try await client.send(call) { reader throws(JSONError) in try B2File.read(&reader) }
            return try await onTop(upload, file, precondition)
        } catch {
            guard error.code == .invalidArgument || error.code == .notFound else { throw error }
            // The answer to an earlier attempt may have been lost: the file tells.
            guard let file = try await files.state(upload.id, upload.key) else { throw lost(upload, error) }
            switch file.action {
            case .upload where file.size == parts.reduce(0) { $0 + $1.size }:
                return try await onTop(upload, file, precondition)
            case .start: throw VFSError(.invalidArgument, error.message, wire: error.wire)
            default: throw lost(upload, error)
            }
        }
    }

    /// A large file counts from when it was begun, so what was written to its name meanwhile hides it. It was finished
    /// later, and is then made anew on top, unless the other version came after the precondition was compared.
    private func onTop(
        _ upload: Upload, _ file: B2File, _ precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        uploader.dropURLs(of: upload)
        let object = file.object(upload.key)
        let there = try await files.headIfThere(upload.key)
        if there?.etag == object.etag { return object }
        do throws(VFSError) {
            try B2Files.check(precondition, there)
        } catch {
            // It was never to be seen.
            _ = try? await client.send(.deletion(file, upload.key))
            throw error
        }
        return try await copier.copy(object, to: upload.key, metadata: nil)
    }

    /// b2_cancel_large_file.
    func abort(_ upload: Upload) async throws(VFSError) {
        uploader.dropURLs(of: upload)
        do throws(VFSError) {
            try await client.sendForNothing(Self.call("b2_cancel_large_file", upload))
        } catch {
            guard error.code == .notFound || error.code == .invalidArgument else { throw error }
        }
    }

    /// b2_list_parts, all pages.
    func parts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        var parts: [UploadedPart] = []
        var next: Int?
        repeat {
            var call = Self.call("b2_list_parts", upload)
            call.body.add("maxPartCount", 1000)
            if let next { call.body.add("startPartNumber", next) }
            let wire = call
            let (page, following): ([UploadedPart], Int?) = try await within(upload) { () async throws(VFSError) in
                try await self.client.send(wire) { reader throws(JSONError) in try Self.page(&reader) }
            }
            parts += page
            let last = next ?? 0
            let goesOn = following.map { last < $0 && $0 <= UploadedPart.most } ?? true
            guard goesOn, parts.count <= UploadedPart.most else {
                throw client.malformed("a listing of parts that does not go on", "b2_list_parts", upload.key, nil)
            }
            next = following
        } while next != nil
        return parts.sorted { $0.number < $1.number }
    }

    // MARK: Within an upload

    private static func call(_ operation: String, _ upload: Upload) -> B2Call {
        var call = B2Call(operation, upload.key)
        call.body.add("fileId", upload.id)
        return call
    }

    private static func part(_ reader: inout JSONReader) throws(JSONError) -> UploadedPart? {
        var part = UploadedPart(number: 0, size: 0, tag: "")
        try reader.object { reader, name throws(JSONError) in
            switch name {
            case "partNumber": part.number = try reader.integer()
            case "contentLength": part.size = UploadedPart.possible(try reader.integer())
            case "contentSha1": part.tag = try reader.optionalString() ?? ""
            default: try reader.skip()
            }
        }
        return part.number > 0 && !part.tag.isEmpty ? part : nil
    }

    private static func page(
        _ reader: inout JSONReader
    ) throws(JSONError) -> (parts: [UploadedPart], next: Int?) {
        var parts: [UploadedPart] = []
        var next: Int?
        try reader.object { reader, name throws(JSONError) in
            switch name {
            case "parts":
                try reader.array { reader throws(JSONError) in
                    if let part = try part(&reader) { parts.append(part) }
                }
            case "nextPartNumber": next = try reader.optionalInteger()
            default: try reader.skip()
            }
        }
        return (parts, next)
    }

    /// B2 says "bad request" of an upload that is not there any more; whether it is, the file tells.
    private func within<Value: Sendable>(
        _ upload: Upload, _ work: () async throws(VFSError) -> Value
    ) async throws(VFSError) -> Value {
        do throws(VFSError) {
            return try await work()
        } catch {
            guard error.code == .invalidArgument || error.code == .notFound else { throw error }
            if let file = try await files.state(upload.id, upload.key), file.action == .start { throw error }
            throw lost(upload, error)
        }
    }

    private func lost(_ upload: Upload, _ error: VFSError) -> VFSError {
        uploader.dropURLs(of: upload)
        return VFSError(.uploadNotFound, "the upload is not known any more", wire: error.wire)
    }
}
