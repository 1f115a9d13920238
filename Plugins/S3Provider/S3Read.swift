import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import Synchronization

/// Looks at objects and reads them.
final class S3Reader: Sendable {
    private let client: S3Client
    private let storage: S3Storage
    private let lister: S3Lister

    init(_ client: S3Client, _ storage: S3Storage, _ lister: S3Lister) {
        self.client = client
        self.storage = storage
        self.lister = lister
    }

    /// HeadObject.
    func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        try key.check()
        let wire = request("HeadObject", .head, key)
        let response: HTTPResponse
        do throws(VFSError) {
            response = try await client.send(wire)
        } catch {
            throw await judged(error, key)
        }
        guard response.status == 200, let etag = S3ETag.of(response.headers) else {
            throw client.error(.malformedResponse, "an object without an ETag", wire, response.head)
        }
        guard let size = response.headers.number("content-length") else {
            return try await measured(wire, etag, response.head)
        }
        return info(key, size: size, etag: etag, response.headers)
    }

    private func request(_ operation: String, _ method: HTTPMethod, _ key: ObjectKey) -> S3Request {
        var wire = S3Request(operation, method, key)
        client.addPayer(&wire)
        if client.profile.unpacks { wire.field("accept-encoding", "gzip") }
        return wire
    }

    /// The object whose HEAD does not say how long it is, as where somebody packs or unpacks bodies on the way: the answer to a question for
    /// its first byte does, and all of it is of one version.
    private func measured(_ wire: S3Request, _ etag: ETag, _ head: HTTPResponseHead) async throws(VFSError)
        -> ObjectInfo
    {
        let key = wire.key ?? ""
        let odd = client.error(.malformedResponse, "an object without a length", wire, head)
        var question = request("GetObject", .get, key)
        question.field("range", RangedRead.range(Extent(0, 1)))
        question.maxBodyBytes = 64 << 10
        do throws(VFSError) {
            let answer = try await client.send(question)
            let judge = ReadJudge(ReadRequest(key: key, extent: Extent(0, 1)), version: S3ETag.of)
            guard case .success(let object) = judge.verdict(answer.head) else { throw odd }
            return info(key, size: object.size, etag: object.etag, answer.headers)
        } catch {
            guard error.wire?.status == 416 else { throw error }
        }
        // No byte is in it, if it is still the same.
        let again = try await client.send(wire)
        guard S3ETag.of(again.headers) == etag else { throw odd }
        return info(key, size: 0, etag: etag, again.headers)
    }

    /// What a refusal to tell of an object means. Who may list only below a prefix is refused also what is not there, and an object that is
    /// encrypted with a key of its owner's is refused to all: a listing tells.
    private func judged(_ error: VFSError, _ key: ObjectKey) async -> VFSError {
        let isBadRequest = error.code == .invalidArgument && error.wire?.status == 400
        guard error.code == .permissionDenied && error.retry == .never || isBadRequest else { return error }
        switch await attempt({ () async throws(VFSError) in try await lister.find(key) }) {
        case .success(.absent): return VFSError(.notFound, "there is no object with this key", wire: error.wire)
        case .success(.object), .success(.unreadable):
            guard isBadRequest else { return error }
            return VFSError(
                .permissionDenied,
                "the store tells nothing of the object: it may be encrypted with a key of its owner's",
                wire: error.wire)
        case .failure(.cancelled): return .cancelled
        case .success(.unknown), .failure: return error
        }
    }

    /// GetObject, of the range and the version asked for, or nothing.
    func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        try request.key.check()
        let read = RangedRead(request, etag: S3ETag.of)
        let seen = Mutex<HTTPResponseHead?>(nil)
        var isRefused = false
        do throws(VFSError) {
            return try await read.run(into: sink) { response in
                isRefused = true
                return client.wire("GetObject", request.key, response?.head)
            } send: { target throws(VFSError) in
                var wire = self.request("GetObject", .get, request.key)
                if let range = read.range { wire.field("range", range) }
                if let version = request.version { wire.field("if-match", version.quoted) }
                wire.maxBodyBytes = 1 << 20
                do throws(VFSError) {
                    return try await client.send(wire, into: target.noting { head in seen.withLock { $0 = head } })
                } catch {
                    throw await judged(error, request.key)
                }
            } head: { () throws(VFSError) in
                try await head(request.key)
            } describe: { size, etag, headers in
                info(request.key, size: size, etag: etag, headers)
            }
        } catch {
            // An object may have grown between two requests; one version of it does not, and other bytes than those asked for come again.
            let isOwn = isRefused || error.wire?.status == 416 && request.version != nil
            guard error.code == .malformedResponse, isOwn, seen.withLock({ $0?.isNamedByStore }) ?? false else {
                throw error
            }
            var own = error
            own.retry = .never
            throw own
        }
    }

    /// Nil when, and only when, the store says that there is no such object.
    func headIfThere(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo? {
        try await ifThere { () async throws(VFSError) in try await head(key) }
    }

    /// Looks whether `source` is current.
    func compare(_ source: ObjectInfo) async throws(VFSError) {
        guard try await head(source.key).etag == source.etag else { throw .sourceChanged() }
    }

    /// What was just written under `key`, where the answer did not name its ETag.
    /// - Parameter nonce: of the write; another one means that somebody else has written since.
    func written(_ key: ObjectKey, nonce: String?) async throws(VFSError) -> ObjectInfo {
        let found = try await head(key)
        if let nonce, found.metadata?.nonce != nonce {
            throw VFSError(.stale, "the object was replaced right after it had been written")
        }
        return found
    }

    private func info(_ key: ObjectKey, size: Int, etag: ETag, _ headers: HTTPHeaders) -> ObjectInfo {
        let told = headers.value(of: "last-modified", WireDate.http) ?? headers.value(of: "date", WireDate.http)
        let encryption = S3Encryption.told(headers)
        storage.sawEncryption(encryption)
        return ObjectInfo(
            key: key, size: size, etag: etag, stored: (told ?? nil) ?? Timestamp(seconds: 0),
            storageClass: S3Storage.told(headers["x-amz-storage-class"]),
            encryption: encryption, metadata: S3Metadata.metadata(headers))
    }
}

/// The version that an answer names.
enum S3ETag {
    static let of: @Sendable (HTTPHeaders) -> ETag? = { headers in
        headers.value(of: "etag", ETag.unquoted).flatMap { $0.isEmpty ? nil : ETag($0) }
    }
}

extension ObjectKey {
    func check() throws(VFSError) {
        guard !isEmpty else { throw VFSError(.invalidName, "an object must have a key") }
        guard byteCount <= 1024 else { throw VFSError(.nameTooLong, "S3 keys have at most 1,024 bytes") }
    }
}

extension HTTPBodyTarget {
    /// The same, whose heads are seen by `note` before anything is decided.
    fileprivate func noting(_ note: @escaping @Sendable (HTTPResponseHead) -> Void) -> HTTPBodyTarget {
        guard case .sink(let sink, let accepts) = self else { return self }
        return .sink(
            sink,
            accepts: { head in
                note(head)
                return accepts(head)
            })
    }
}
