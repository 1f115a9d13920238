public import CloudMountVFS

/// The verbs of `ObjectProvider`, as names for counters, logs and fault scripts.
public enum Verb: String, Sendable, CaseIterable {
    case prepare, list, head, read, put, copy, delete
    case beginUpload, uploadPart, copyPart, completeUpload, abortUpload, listParts, versions
    case move, space
}

/// One call of one verb: what a layer may want to know about it without looking into the request.
public struct ProviderCall: Sendable {
    public var verb: Verb
    /// The object (a copy's or move's destination), or the prefix of a listing; nil for `prepare` and `space`.
    public var key: ObjectKey?
    /// Bytes that travel up with it.
    public var bytesUp = 0
    /// `ReadRequest.isAhead`.
    public var isAhead = false

    public init(_ verb: Verb, _ key: ObjectKey?, bytesUp: Int = 0) {
        self.verb = verb
        self.key = key
        self.bytesUp = bytesUp
    }

    public init(_ request: ReadRequest) {
        self.init(.read, request.key)
        isAhead = request.isAhead
    }
}

/// The rest of a call: runs the verb on the provider that it is given.
public typealias CallBody<Value> = @Sendable (any ObjectProvider) async throws(VFSError) -> Value

/// A decorator: provider in, provider out. A layer writes `perform`, and by it every verb is decorated.
public protocol ProviderLayer: ObjectProvider {
    var inner: any ObjectProvider { get }

    /// Runs `body` on `inner`, once or more often or not at all.
    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value
}

extension ProviderLayer {
    public var capabilities: Capabilities { inner.capabilities }
    public var executor: (any TaskExecutor)? { inner.executor }
    public var billedCalls: [BilledCalls] { inner.billedCalls }
    public var credentials: CredentialReport? { inner.credentials }

    public func prepare(writable: Bool) async throws(VFSError) {
        try await perform(ProviderCall(.prepare, nil)) { inner throws(VFSError) in
            try await inner.prepare(writable: writable)
        }
    }

    public func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        try await perform(ProviderCall(.list, request.prefix)) { inner throws(VFSError) in
            try await inner.list(request)
        }
    }

    public func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        try await perform(ProviderCall(.head, key)) { inner throws(VFSError) in try await inner.head(key) }
    }

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        try await perform(ProviderCall(request)) { inner throws(VFSError) in
            try await inner.read(request, into: sink)
        }
    }

    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try await perform(ProviderCall(.put, request.key, bytesUp: source.count)) { inner throws(VFSError) in
            try await inner.put(request, from: source)
        }
    }

    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try await perform(ProviderCall(.copy, request.destination)) { inner throws(VFSError) in
            try await inner.copy(request)
        }
    }

    public func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo? {
        try await perform(ProviderCall(.move, request.destination)) { inner throws(VFSError) in
            try await inner.move(request)
        }
    }

    public func space() async throws(VFSError) -> StoreSpace? {
        try await perform(ProviderCall(.space, nil)) { inner throws(VFSError) in try await inner.space() }
    }

    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        try await perform(ProviderCall(.delete, objects.first?.key)) { inner throws(VFSError) in
            try await inner.delete(objects)
        }
    }

    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        try await perform(ProviderCall(.beginUpload, key)) { inner throws(VFSError) in
            try await inner.beginUpload(key, metadata: metadata)
        }
    }

    public func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        try await perform(ProviderCall(.uploadPart, upload.key, bytesUp: source.count)) { inner throws(VFSError) in
            try await inner.uploadPart(upload, number: number, from: source)
        }
    }

    public func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent
    ) async throws(VFSError) -> UploadedPart {
        try await perform(ProviderCall(.copyPart, upload.key)) { inner throws(VFSError) in
            try await inner.copyPart(upload, number: number, source: source, extent: extent)
        }
    }

    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        try await perform(ProviderCall(.completeUpload, upload.key)) { inner throws(VFSError) in
            try await inner.completeUpload(upload, parts: parts, precondition: precondition)
        }
    }

    public func abortUpload(_ upload: Upload) async throws(VFSError) {
        try await perform(ProviderCall(.abortUpload, upload.key)) { inner throws(VFSError) in
            try await inner.abortUpload(upload)
        }
    }

    public func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        try await perform(ProviderCall(.listParts, upload.key)) { inner throws(VFSError) in
            try await inner.listParts(upload)
        }
    }

    public func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion] {
        try await perform(ProviderCall(.versions, key)) { inner throws(VFSError) in
            try await inner.versions(of: key)
        }
    }
}
