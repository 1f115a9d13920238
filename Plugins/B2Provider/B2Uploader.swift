import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// Sends bodies to upload URLs: of a whole file, and of the parts of a large one.
struct B2Uploader: Sendable {
    let client: B2Client
    private let urls = B2UploadURLs()

    init(client: B2Client) { self.client = client }

    /// Forgets the URLs of a large file that has ended.
    func dropURLs(of upload: Upload) { urls.drop(upload.id) }

    /// Sends a body to an upload URL of `owner`: a free one, else one that `url` asks for.
    /// - Returns: the answer, and the SHA-1 of what was sent.
    func send<Answer: Sendable>(
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
            if error.code != .cancelled { urls.leave(place, of: owner) }
            throw B2Errors.upload(error)
        }
        urls.give(place, to: owner)
        guard let answer = JSONReader.read(response.body, read) ?? nil else {
            throw client.malformed("an upload's answer that cannot be read", operation, key, response)
        }
        return (answer, hashed.sha1)
    }

    private func freePlace(
        _ owner: String, _ url: () throws(VFSError) -> B2Call
    ) async throws(VFSError) -> B2UploadURLs.Place {
        if let place = urls.take(owner) { return place }
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
        let options = client.options
        guard let url = WebURL(answered: place.url),
            WebURL(options.realm)?.mayLead(to: url, allowingHTTP: options.allowsHTTP) ?? false
        else {
            throw client.malformed(
                "an upload URL to which bytes would go unencrypted, or nowhere", "b2_get_upload_url", nil, nil)
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
}
