public import CloudMountVFS
import Synchronization

// A write whose answer was lost may have been carried out. Repeating it is harmless as long as it is unconditional; a
// conditional one then fails against its own success, and `completeUpload` no longer finds its upload. What the bucket
// holds now decides: the same size and the same metadata, with a modification time in it, are taken for our own write.
// Without a modification time two writers cannot be told apart, and the failure stands.

extension RetryLayer {
    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try await recognising(
            ProviderCall(.put, request.key, bytesUp: source.count), size: source.count, metadata: request.metadata
        ) { inner throws(VFSError) in try await inner.put(request, from: source) }
    }

    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try await recognising(
            ProviderCall(.copy, request.destination), size: request.source.size,
            metadata: request.metadata ?? request.source.metadata
        ) { inner throws(VFSError) in try await inner.copy(request) }
    }

    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        let upload = try await perform(ProviderCall(.beginUpload, key)) { inner throws(VFSError) in
            try await inner.beginUpload(key, metadata: metadata)
        }
        uploads.begun(upload, metadata)
        return upload
    }

    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        let info = try await recognising(
            ProviderCall(.completeUpload, upload.key), size: parts.reduce(0) { $0 + $1.size },
            metadata: uploads.metadata(of: upload)
        ) { inner throws(VFSError) in
            try await inner.completeUpload(upload, parts: parts, precondition: precondition)
        }
        uploads.ended(upload)
        return info
    }

    public func abortUpload(_ upload: Upload) async throws(VFSError) {
        uploads.ended(upload)
        try await perform(ProviderCall(.abortUpload, upload.key)) { inner throws(VFSError) in
            try await inner.abortUpload(upload)
        }
    }

    private func recognising(
        _ call: ProviderCall, size: Int, metadata: ObjectMetadata?, _ body: @escaping CallBody<ObjectInfo>
    ) async throws(VFSError) -> ObjectInfo {
        try await bounded(call) {
            do throws(VFSError) {
                return .success(try await recognised(call, size: size, metadata: metadata, body))
            } catch {
                return .failure(error)
            }
        }
    }

    private func recognised(
        _ call: ProviderCall, size: Int, metadata: ObjectMetadata?, _ body: CallBody<ObjectInfo>
    ) async throws(VFSError) -> ObjectInfo {
        var course = RetryCourse(call, self, limitedFromStart: false)
        while true {
            do throws(VFSError) {
                let info = try await body(inner)
                course.succeeded()
                return info
            } catch {
                if course.mayHaveHappened, error.couldBeOurOwnWrite, let key = call.key,
                    let info = try? await head(key), info.size == size, metadata?.marks(info.metadata) == true
                {
                    return info
                }
                try await course.pause(after: error)
            }
        }
    }
}

extension VFSError {
    fileprivate var couldBeOurOwnWrite: Bool {
        switch code {
        case .preconditionFailed, .alreadyExists, .uploadNotFound, .conflict: true
        default: false
        }
    }
}

extension ObjectMetadata {
    /// Whether an object that carries `other` was written with this metadata and by nobody else.
    fileprivate func marks(_ other: ObjectMetadata?) -> Bool {
        guard let other, let modified, other.modified == modified else { return false }
        return other.user == user
    }
}

/// The metadata of uploads that have begun and not ended, since `completeUpload` does not say it again.
final class BegunUploads: Sendable {
    /// An upload that its owner forgets must not be remembered for ever.
    private static let most = 4096
    private let metadata = Mutex<[Upload: ObjectMetadata]>([:])

    func begun(_ upload: Upload, _ metadata: ObjectMetadata) {
        self.metadata.withLock { all in
            if all.count >= Self.most { all.removeAll() }
            all[upload] = metadata
        }
    }

    func metadata(of upload: Upload) -> ObjectMetadata? { metadata.withLock { $0[upload] } }
    func ended(_ upload: Upload) { metadata.withLock { $0[upload] = nil } }
}
