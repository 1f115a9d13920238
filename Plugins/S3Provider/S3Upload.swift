import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import CloudMountXML

/// Makes objects in parts.
final class S3Uploader: Sendable {
    private let client: S3Client
    private let storage: S3Storage
    private let reader: S3Reader
    private let looks: S3Looks

    init(_ client: S3Client, _ storage: S3Storage, _ reader: S3Reader, _ looks: S3Looks) {
        self.client = client
        self.storage = storage
        self.reader = reader
        self.looks = looks
    }

    /// CreateMultipartUpload.
    func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        guard client.features.multipart else { throw VFSError(.notSupported, "this store has no multipart upload") }
        return try await beginUpload(key, metadata: metadata, keeping: nil)
    }

    /// Tries it whatever is known of the endpoint.
    func beginUpload(
        _ key: ObjectKey, metadata: ObjectMetadata, keeping source: ObjectInfo?
    ) async throws(VFSError) -> Upload {
        try key.check()
        var wire = S3Request("CreateMultipartUpload", .post, key)
        wire.parameter("uploads")
        wire.fields = try S3Metadata.fields(metadata)
        storage.addStorage(&wire, keeping: source)
        let (fields, response) = try await client.send(wire, root: "InitiateMultipartUploadResult")
        guard let id = fields["UploadId"], !id.isEmpty else {
            throw client.error(.malformedResponse, "an upload without an id", wire, response.head)
        }
        return Upload(key: key, id: id)
    }

    /// UploadPart. The tag is the part's ETag as it came.
    func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        guard source.count <= 5 << 30 else { throw VFSError(.tooLarge, "a part of an S3 upload has at most 5 GiB") }
        var wire = part("UploadPart", upload, number)
        wire.body = source
        let response = try await inUpload { () async throws(VFSError) in try await client.send(wire) }
        guard let tag = response.headers["etag"], !tag.isEmpty else {
            throw client.error(.malformedResponse, "a part without an ETag", wire, response.head)
        }
        return UploadedPart(number: number, size: source.count, tag: tag)
    }

    /// UploadPartCopy.
    func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent
    ) async throws(VFSError) -> UploadedPart {
        guard client.features.rangeCopy else { throw VFSError(.notSupported, "this store copies no ranges") }
        return try await copyPart(
            upload, number: number, source: source, extent: extent, pinned: client.features.pinnedCopy)
    }

    /// Tries it whatever is known of the endpoint.
    func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent, pinned: Bool
    ) async throws(VFSError) -> UploadedPart {
        try source.key.check()
        guard !extent.isEmpty else { throw VFSError(.invalidArgument, "a part must have bytes") }
        var wire = part("UploadPartCopy", upload, number)
        wire.worksOn = extent.count
        wire.addSource(source, of: client.options.bucket, pinned: pinned)
        wire.field("x-amz-copy-source-range", "bytes=\(extent.lowerBound)-\(extent.upperBound - 1)")
        let (fields, response): (S3Fields, HTTPResponse)
        do throws(VFSError) {
            (fields, response) = try await inUpload { () async throws(VFSError) in
                try await client.send(wire, root: "CopyPartResult")
            }
        } catch {
            // Another version may be too short for the range.
            if !pinned, error.code != .cancelled { try await reader.compare(source) }
            throw error.asLostSource
        }
        // Whose version is current after the copy was so during it: not even a moment is left for bytes of another.
        if !pinned { try await reader.compare(source) }
        guard let tag = fields["ETag"], !tag.isEmpty else {
            throw client.error(.malformedResponse, "a part without an ETag", wire, response.head)
        }
        return UploadedPart(number: number, size: extent.count, tag: tag)
    }

    /// CompleteMultipartUpload.
    func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        let features = client.features
        let condition = try await looks.condition(
            precondition, on: upload.key, absent: features.completeAbsent, match: features.completeMatch)
        return try await completeUpload(upload, parts: parts, condition)
    }

    /// Sends the condition whatever is known of the endpoint.
    func completeUpload(
        _ upload: Upload, parts: [UploadedPart], _ condition: S3Signer.Field?
    ) async throws(VFSError) -> ObjectInfo {
        let parts = parts.sorted { $0.number < $1.number }
        var wire = S3Request("CompleteMultipartUpload", .post, upload.key)
        // S3 takes minutes for some: a short silence says nothing.
        wire.worksOn = max(6_000_000_000, parts.reduce(0) { $0 + $1.size })
        wire.parameter("uploadId", upload.id)
        client.addPayer(&wire)
        if let condition { wire.fields.append(condition) }
        wire.xml(
            S3Document("CompleteMultipartUpload") { document in
                for part in parts {
                    document.element("Part") {
                        $0.element("PartNumber", text: "\(part.number)")
                        $0.element("ETag", text: part.tag)
                    }
                }
            }.bytes)
        let (fields, response): (S3Fields, HTTPResponse)
        do throws(VFSError) {
            (fields, response) = try await client.send(wire, root: "CompleteMultipartUploadResult")
        } catch {
            guard error.wire?.status == 404, error.code != .bucketNotFound, error.code != .malformedResponse else {
                // A conflict with another writer: S3 asks for a new upload, the same request cannot succeed.
                guard error.code == .conflict else { throw error }
                throw VFSError(.conflict, error.message, wire: error.wire)
            }
            if condition != nil, error.wire?.code == "NoSuchKey" { throw error.asLostCondition }
            throw VFSError(.uploadNotFound, "the upload is not known any more", wire: error.wire)
        }
        guard var tag = fields["ETag"] else {
            throw client.error(.malformedResponse, "an upload without an ETag", wire, response.head)
        }
        let etag = tag.withUTF8 { ETag(ETag.unquoted($0)) }
        // A store that passes over conditions may also name another ETag here than it gives the object.
        if client.profile.name == S3Profiles.generic.name, !client.features.completeAbsent {
            return try await reader.written(upload.key, nonce: upload.nonce)
        }
        let stored = client.time(response.headers)
        return ObjectInfo(
            key: upload.key, size: parts.reduce(0) { $0 + $1.size }, etag: etag, stored: stored,
            storageClass: storage.storageClass(), encryption: S3Encryption.told(response.headers))
    }

    /// AbortMultipartUpload.
    func abortUpload(_ upload: Upload) async throws(VFSError) {
        var wire = S3Request("AbortMultipartUpload", .delete, upload.key)
        wire.parameter("uploadId", upload.id)
        client.addPayer(&wire)
        do throws(VFSError) {
            try await client.sendForNothing(wire)
        } catch {
            guard error.code == .uploadNotFound || error.code == .notFound else { throw error }
        }
    }

    /// ListParts, all pages.
    func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        var parts: [UploadedPart] = []
        var marker = 0
        while true {
            var wire = S3Request("ListParts", .get, upload.key)
            wire.parameter("uploadId", upload.id)
            if marker > 0 { wire.parameter("part-number-marker", "\(marker)") }
            client.addPayer(&wire)
            let (page, response) = try await inUpload { () async throws(VFSError) in
                try await client.send(wire) { PartsParser() }
            }
            guard page.isWanted else { throw client.refusal(wire, response) }
            parts += page.parts
            guard page.isTruncated else { break }
            guard let last = page.parts.last?.number, last > marker, last <= UploadedPart.most,
                parts.count <= UploadedPart.most
            else {
                throw client.error(.malformedResponse, "a listing of parts that does not go on", wire, response.head)
            }
            marker = last
        }
        return parts.sorted { $0.number < $1.number }
    }

    /// ListMultipartUploads, its first page.
    func begun(below prefix: ObjectKey) async throws(VFSError) -> [Upload] {
        var wire = S3Request("ListMultipartUploads", .get)
        wire.parameter("uploads")
        wire.parameter("prefix", prefix.string)
        client.addPayer(&wire)
        let (found, response) = try await client.send(wire) { UploadsParser() }
        guard found.isWanted else { throw client.refusal(wire, response) }
        return found.uploads.filter { $0.key.hasPrefix(prefix) }
    }

    private func part(_ operation: String, _ upload: Upload, _ number: Int) -> S3Request {
        var wire = S3Request(operation, .put, upload.key)
        wire.parameter("partNumber", "\(number)")
        wire.parameter("uploadId", upload.id)
        client.addPayer(&wire)
        return wire
    }

    /// A 404 without a known code that answers a request within an upload.
    private func inUpload<Value>(_ body: () async throws(VFSError) -> Value) async throws(VFSError) -> Value {
        do throws(VFSError) {
            return try await body()
        } catch {
            guard error.code == .notFound, error.wire?.code != "NoSuchKey" else { throw error }
            throw VFSError(.uploadNotFound, "the upload is not known any more", wire: error.wire)
        }
    }
}

/// Reads `ListMultipartUploadsResult`.
private final class UploadsParser: S3Parser {
    struct Answer: Sendable {
        var isWanted = false
        var uploads: [Upload] = []
    }

    private(set) var answer = Answer()
    private(set) var entries = 0
    private var upload = Upload(key: "", id: "")

    func start(_ name: XMLText, depth: Int) {
        if depth == 1 { answer.isWanted = S3Root(stringLiteral: "ListMultipartUploadsResult").matches(name) }
        if depth == 2 { upload = Upload(key: "", id: "") }
    }

    func end(_ name: XMLText, text: XMLText, depth: Int) {
        switch (depth, name) {
        case (3, "Key"): upload.key = ObjectKey(text.string)
        case (3, "UploadId"): upload.id = text.string
        case (2, "Upload"):
            entries += 1
            if !upload.id.isEmpty, entries <= S3Client.mostEntries { answer.uploads.append(upload) }
        default: break
        }
    }
}

/// Reads `ListPartsResult`.
private final class PartsParser: S3Parser {
    struct Answer: Sendable {
        var isWanted = false
        var isTruncated = false
        var parts: [UploadedPart] = []
    }

    private(set) var answer = Answer()
    private(set) var entries = 0
    private var part = UploadedPart(number: 0, size: 0, tag: "")

    func start(_ name: XMLText, depth: Int) {
        if depth == 1 { answer.isWanted = S3Root(stringLiteral: "ListPartsResult").matches(name) }
        if depth == 2 { part = UploadedPart(number: 0, size: 0, tag: "") }
    }

    func end(_ name: XMLText, text: XMLText, depth: Int) {
        guard answer.isWanted else { return }
        switch (depth, name) {
        case (3, "PartNumber"): part.number = text.integer ?? 0
        case (3, "Size"): part.size = UploadedPart.possible(text.integer ?? 0)
        case (3, "ETag"): part.tag = text.string
        case (2, "Part"):
            entries += 1
            if part.number > 0, entries <= S3Client.mostEntries { answer.parts.append(part) }
        case (2, "IsTruncated"): answer.isTruncated = text == "true"
        default: break
        }
    }
}
