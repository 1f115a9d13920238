import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import Synchronization

/// Uploads that this process has begun, by their id: a server keeps no metadata of what has no place yet.
final class WebDAVUploads: Sendable {
    private let begun = Mutex<[String: ObjectMetadata]>([:])

    func begin(_ id: String, _ metadata: ObjectMetadata) { begun.withLock { $0[id] = metadata } }
    func end(_ id: String) { begun.withLock { $0[id] = nil } }

    /// - Throws: `uploadNotFound`.
    func metadata(_ upload: Upload) throws(VFSError) -> ObjectMetadata {
        guard let metadata = begun.withLock({ $0[upload.id] }) else {
            throw VFSError(.uploadNotFound, "the upload has ended, or was begun by another process")
        }
        return metadata
    }
}

/// Nextcloud's chunked upload, version 2: a folder of parts below `/remote.php/dav/uploads/USER/`, whose `.file` is moved to its place.
struct WebDAVChunks: Sendable {
    let dav: WebDAVFolder
    let writer: WebDAVWriter
    private let uploads = WebDAVUploads()

    private var client: WebDAVClient { dav.client }
    private var server: WebDAVServer { dav.server }

    func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        try dav.check(key)
        try WebDAVRecord.check(metadata)
        guard server.chunks, !key.endsWithSlash else {
            throw VFSError(.notSupported, "this server takes no upload in parts")
        }
        let upload = Upload(key: key, id: "cloudmount-" + ObjectMetadata.newNonce())
        var request = WebDAVRequest(.mkcol, try folder(of: upload), key)
        request.headers.append("Destination", destination(key))
        let response = try await client.send(request)
        guard response.status == 201 else {
            throw WebDAVErrors.odd("an odd answer to MKCOL", response, wire: client.wire(request))
        }
        uploads.begin(upload.id, metadata)
        return upload
    }

    func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        _ = try uploads.metadata(upload)
        guard 1...UploadedPart.most ~= number else {
            throw VFSError(.invalidArgument, "part \(number) is not between 1 and \(UploadedPart.most)")
        }
        let name = String(number)
        let padded = String(repeating: "0", count: max(0, 5 - name.utf8.count)) + name
        var request = WebDAVRequest(.put, "\(try folder(of: upload))/\(padded)", upload.key)
        request.body = source
        request.headers.append("Destination", destination(upload.key))
        let response = try await attemptPart(request)
        guard response.status == 201 || response.status == 204 else {
            throw WebDAVErrors.odd("an odd answer to PUT", response, wire: client.wire(request))
        }
        return UploadedPart(number: number, size: source.count, tag: "\(source.count)")
    }

    private func attemptPart(_ request: WebDAVRequest) async throws(VFSError) -> HTTPResponse {
        do throws(VFSError) {
            return try await client.send(request)
        } catch {
            guard error.code == .notFound || error.wire?.status == 409 else { throw error }
            throw VFSError(.uploadNotFound, "the upload is gone", wire: error.wire)
        }
    }

    func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        var metadata = try uploads.metadata(upload)
        if let given = upload.metadata {
            try WebDAVRecord.check(given)
            let nonce = metadata.nonce
            metadata = given
            metadata.nonce = nonce
        }
        guard !parts.isEmpty, zip(parts, parts.dropFirst()).allSatisfy({ $0.number < $1.number }) else {
            throw VFSError(.invalidArgument, "the parts of an upload come in order, one at least")
        }
        // All parts that are there become the file.
        let there = try await listParts(upload)
        guard there.map(\.number) == parts.map(\.number), there.map(\.size) == parts.map(\.size) else {
            throw VFSError(.invalidArgument, "the server holds other parts than those named")
        }
        let size = parts.reduce(0) { $0 + $1.size }
        let name = dav.staging()
        var staged = WebDAVStaged(key: name, tag: "", size: size, stored: Timestamp(seconds: 0))
        do throws(VFSError) {
            var request = WebDAVRequest(.move, "\(try folder(of: upload))/.file", upload.key)
            request.headers.append("Destination", destination(name))
            request.headers.append("OC-Total-Length", "\(size)")
            if server.keepsTime, let time = metadata.modified {
                request.headers.append("X-OC-Mtime", "\(time.seconds)")
            }
            request.worksOn = size
            let response = try await client.send(request)
            guard [201, 204].contains(response.status), let made = try await client.look(at: name), !made.isFolder,
                made.size == size
            else { throw WebDAVErrors.odd("the parts did not become the file", response, wire: client.wire(request)) }
            dav.noteTag(made)
            (staged.tag, staged.stored) = (made.tag, made.modified)
            try await writer.describe(&staged, metadata)
        } catch {
            await dav.discard(name, after: error)
            throw error.code == .notFound ? VFSError(.uploadNotFound, "the upload is gone", wire: error.wire) : error
        }
        uploads.end(upload.id)
        return try await writer.finish(staged, at: upload.key, precondition, nonce: metadata.nonce)
    }

    func abortUpload(_ upload: Upload) async throws(VFSError) {
        uploads.end(upload.id)
        let request = WebDAVRequest(.delete, try folder(of: upload), upload.key)
        do throws(VFSError) {
            _ = try await client.send(request)
        } catch {
            guard error.code == .notFound else { throw error }
        }
    }

    func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        _ = try uploads.metadata(upload)
        let sizes: [String: Int]
        do throws(VFSError) {
            sizes = try await client.sizes(in: folder(of: upload), upload.key)
        } catch {
            guard error.code == .notFound else { throw error }
            throw VFSError(.uploadNotFound, "the upload is gone", wire: error.wire)
        }
        return sizes.compactMap { name, size in
            Int(name).map { UploadedPart(number: $0, size: size, tag: "\(size)") }
        }.sorted { $0.number < $1.number }
    }

    private func destination(_ key: ObjectKey) -> String { client.root.url.origin + client.root.path(key) }

    /// The id comes back from outside: it must stay one name.
    private func folder(of upload: Upload) throws(VFSError) -> String {
        guard let uploads = client.root.uploads else {
            throw VFSError(.notSupported, "this server takes no upload in parts")
        }
        return "\(uploads)/\(PercentEncoding.encode(upload.id, keepSlash: false))"
    }
}

extension WebDAVClient {
    /// The files of a folder beside the bucket, by the last piece of their hrefs.
    func sizes(in path: String, _ key: ObjectKey) async throws(VFSError) -> [String: Int] {
        let (responses, _) = try await propfind(path, key, depth: 1)
        var sizes: [String: Int] = [:]
        for response in responses where response.isFolder != true {
            guard let name = response.href.split(separator: "/").last, let size = response.size else { continue }
            sizes[String(name)] = size
        }
        return sizes
    }
}
