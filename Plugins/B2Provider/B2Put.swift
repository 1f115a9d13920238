import CloudMountHTTP
import CloudMountKit
public import CloudMountVFS

extension B2Provider {
    /// b2_upload_file.
    ///
    /// B2 has no conditional write. A precondition is compared just before, that a small file is new at the same time
    /// (`B2Put+Absent.swift`): the best there is, not atomic; what is overwritten remains as an older version.
    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try B2Names.check(request.key)
        guard source.count <= Self.maxPieceSize else {
            throw VFSError(.tooLarge, "one upload to B2 takes at most 5 GB")
        }
        if request.precondition == .absent, source.count <= Self.besideLimit {
            return try await putBeside(request, from: source)
        }
        try await compare(request.precondition, request.key)
        return try await put(request.key, request.metadata, from: source)
    }

    /// Puts it on top of whatever is there.
    func put(
        _ key: ObjectKey, _ metadata: ObjectMetadata, from source: any ByteSource
    ) async throws(VFSError) -> ObjectInfo {
        let place = place
        let name = B2Names.name(key)
        let entries = try entries(metadata, name: name)
        var headers = HTTPHeaders()
        headers.append("X-Bz-File-Name", B2FileInfo.encode(name))
        headers.append("Content-Type", try contentType(metadata))
        B2FileInfo.addHeaders(entries, to: &headers)
        client.encryption.addUploadHeaders(to: &headers)
        let (file, sha1) = try await upload("b2_upload_file", key, owner: "", headers, source) {
            reader throws(JSONError) in
            try B2File.read(&reader)
        } url: { () throws(VFSError) in
            var call = B2Call("b2_get_upload_url", key)
            call.body.add("bucketId", place.bucketID)
            return call
        }
        try verify(file.sha1, sha1, file.size, source.count, key)
        return file.object(key)
    }

    /// Sends a body to an upload URL of `owner`: a free one, else one that `url` asks for.
    /// - Returns: the answer, and the SHA-1 of what was sent.
    func upload<Answer: Sendable>(
        _ operation: String, _ key: ObjectKey, owner: String, _ headers: HTTPHeaders, _ source: any ByteSource,
        _ read: (inout JSONReader) throws(JSONError) -> Answer?,
        url: () throws(VFSError) -> B2Call
    ) async throws(VFSError) -> (Answer, sha1: String?) {
        let place = try await freePlace(owner, url)
        let hashed = B2HashedSource(source)
        var headers = headers
        headers.append("X-Bz-Content-Sha1", "hex_digits_at_end")
        let response: HTTPResponse
        do throws(VFSError) {
            response = try await client.upload(operation, to: place, key: key, headers: headers, from: hashed)
        } catch {
            if error.code != .cancelled { uploadURLs.leave(place, of: owner) }
            throw B2Errors.upload(error)
        }
        uploadURLs.give(place, to: owner)
        guard let answer = JSONReader.read(response.body, read) ?? nil else {
            throw client.malformed("an upload's answer that cannot be read", operation, key, response)
        }
        return (answer, hashed.sha1)
    }

    private func freePlace(
        _ owner: String, _ url: () throws(VFSError) -> B2Call
    ) async throws(VFSError) -> B2UploadURLs.Place {
        if let place = uploadURLs.take(owner) { return place }
        let place: B2UploadURLs.Place = try await client.send(try url()) { reader throws(JSONError) in
            var place = B2UploadURLs.Place(url: "", token: "")
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "uploadUrl": place.url = try reader.string()
                case "authorizationToken": place.token = try reader.string()
                default: try reader.skip()
                }
            }
            return place.url.isEmpty || place.token.isEmpty ? nil : place
        }
        guard let url = WebURL(answered: place.url), url.isTLS || !isTLS else {
            throw client.malformed("an upload URL that leads out of TLS", "b2_get_upload_url", nil, nil)
        }
        return place
    }

    /// Holds what B2 says it has against what was sent.
    func verify(
        _ told: String?, _ sent: String?, _ toldSize: Int, _ size: Int, _ key: ObjectKey
    ) throws(VFSError) {
        guard told == nil || sent == nil || told == sent, toldSize == size else {
            throw client.malformed(
                "the store has other bytes than were sent", "b2_upload_file", key, nil, code: .corrupted)
        }
    }

    // MARK: What goes along

    func contentType(_ metadata: ObjectMetadata?) throws(VFSError) -> String {
        guard let type = metadata?.contentType, !type.isEmpty else { return "b2/x-auto" }
        guard type.utf8.allSatisfy({ 0x20...0x7E ~= $0 }) else {
            throw VFSError(.invalidArgument, "content-type of an object holds characters that no header can")
        }
        return type
    }

    func entries(
        _ metadata: ObjectMetadata, name: String, session: String? = nil
    ) throws(VFSError) -> [(name: String, value: String)] {
        var metadata = metadata
        if let id = client.encryption.keyID { metadata.user["sse_c_key_id"] = id }
        return try B2FileInfo.entries(metadata, name: name, isProtected: place.isProtected, session: session)
    }

    // MARK: Preconditions

    func compare(_ precondition: Precondition, _ key: ObjectKey) async throws(VFSError) {
        if precondition == .none { return }
        try Self.check(precondition, try await headIfThere(key))
    }

    static func check(_ precondition: Precondition, _ there: ObjectInfo?) throws(VFSError) {
        switch precondition {
        case .none: break
        case .absent: if there != nil { throw taken }
        case .match(let etag):
            guard there?.etag == etag else {
                throw VFSError(.preconditionFailed, "the object has been changed meanwhile")
            }
        }
    }

    static var taken: VFSError { VFSError(.preconditionFailed, "there is an object with this key already") }

    /// Of one of the names that the key may have; nil when the store says that there is none.
    func current(_ key: ObjectKey, _ name: String) async throws(VFSError) -> ObjectInfo? {
        do throws(VFSError) {
            return try await head(key, name)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
    }
}
