public import CloudMountVFS

/// Shows the part of a bucket below `prefix` as if it were the whole: the prefix goes onto every key on the way down and
/// comes off on the way up. Keys in `VFSError.Wire` stay whole: they are for the log of the store's side.
public struct PrefixLayer: ObjectProvider {
    public let inner: any ObjectProvider
    public let prefix: ObjectKey
    private let count: Int

    /// - Parameter prefix: where the mount begins; not empty, ends in `/`.
    public init(_ inner: any ObjectProvider, prefix: ObjectKey) {
        self.inner = inner
        self.prefix = prefix
        count = prefix.byteCount
    }

    public var capabilities: Capabilities {
        var capabilities = inner.capabilities
        capabilities.maxKeyBytes = max(0, capabilities.maxKeyBytes - count)
        return capabilities
    }

    public var executor: (any TaskExecutor)? { inner.executor }
    public var billedCalls: [BilledCalls] { inner.billedCalls }
    public var credentials: CredentialReport? { inner.credentials }

    public func prepare(writable: Bool) async throws(VFSError) { try await inner.prepare(writable: writable) }

    public func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        var request = request
        request.prefix = prefix + request.prefix
        var page = try await inner.list(request)
        page.objects = page.objects.compactMap { info in
            // The object whose key is the prefix stands for the mount's own directory, which has no name in it.
            info.key.byteCount > count ? up(info) : nil
        }
        page.commonPrefixes = page.commonPrefixes.map(up)
        page.unreadable = page.unreadable.compactMap { $0.byteCount > count ? up($0) : nil }
        return page
    }

    public func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo { up(try await inner.head(prefix + key)) }

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        var request = request
        request.key = prefix + request.key
        return up(try await inner.read(request, into: sink))
    }

    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        var request = request
        request.key = prefix + request.key
        return up(try await inner.put(request, from: source))
    }

    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        var request = request
        request.source = down(request.source)
        request.destination = prefix + request.destination
        return up(try await inner.copy(request))
    }

    public func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo? {
        var request = request
        request.source = down(request.source)
        request.destination = prefix + request.destination
        return try await inner.move(request).map { up($0) }
    }

    public func space() async throws(VFSError) -> StoreSpace? { try await inner.space() }

    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        let objects = objects.map { object in
            var object = object
            object.key = prefix + object.key
            return object
        }
        return try await inner.delete(objects).map { DeleteFailure(key: up($0.key), error: $0.error) }
    }

    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        var upload = try await inner.beginUpload(prefix + key, metadata: metadata)
        upload.key = key
        return upload
    }

    public func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        try await inner.uploadPart(down(upload), number: number, from: source)
    }

    public func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent
    ) async throws(VFSError) -> UploadedPart {
        try await inner.copyPart(down(upload), number: number, source: down(source), extent: extent)
    }

    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        up(try await inner.completeUpload(down(upload), parts: parts, precondition: precondition))
    }

    public func abortUpload(_ upload: Upload) async throws(VFSError) { try await inner.abortUpload(down(upload)) }

    public func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        try await inner.listParts(down(upload))
    }

    public func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion] {
        try await inner.versions(of: prefix + key).map { version in
            ObjectVersion(
                info: up(version.info), isLatest: version.isLatest, isDeleteMarker: version.isDeleteMarker)
        }
    }

    private func up(_ key: ObjectKey) -> ObjectKey { key.dropping(count) }
    private func up(_ info: ObjectInfo) -> ObjectInfo {
        var info = info
        info.key = up(info.key)
        return info
    }
    private func down(_ info: ObjectInfo) -> ObjectInfo {
        var info = info
        info.key = prefix + info.key
        return info
    }
    private func down(_ upload: Upload) -> Upload {
        var upload = upload
        upload.key = prefix + upload.key
        return upload
    }
}
