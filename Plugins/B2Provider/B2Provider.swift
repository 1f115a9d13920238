import CloudMountHTTP
public import CloudMountVFS

/// One bucket of Backblaze B2, by its native interface.
///
/// The ETag of an object is the id of its file version. What the service does beyond, and what it does not, is in
/// `README.md`. Source: Backblaze B2 Native API, version 4.
///
/// Each verb is the work of one of the types below, which are put together here.
public final class B2Provider: ObjectProvider {
    /// The largest upload in one request, part, and copy in one call.
    static let maxPieceSize = 5_000_000_000
    static let maxParts = 10_000
    static let maxFileSize = 10_000_000_000_000

    private let client: B2Client
    private let bucket: B2Bucket
    private let files: B2Files
    private let reader: B2Reader
    private let lister: B2Lister
    private let writer: B2Writer
    private let largeFiles: B2LargeFiles
    private let copies: B2Copies
    private let remover: B2Remover

    public static let descriptor = ProviderDescriptor(
        name: "b2", summary: "Backblaze B2, native API", bucketMeaning: "bucket name", options: B2Options.descriptors,
        credentials: B2Credentials.descriptors, check: { B2Options.problems($0) },
        endpoint: { context in
            // Accounts live in different clusters, are throttled and capped apart.
            let account = (try? B2Credentials(context.credentials))?.account ?? context.mountName
            return "\(B2Options(context).realm) account \(account)"
        },
        make: { context throws(VFSError) in
            B2Provider(B2Client(B2Options(context), credentials: try B2Credentials(context.credentials)))
        })

    /// - Parameters:
    ///   - copyLimit: sources up to here are copied by one call, larger ones in parts.
    ///   - copyPartSize: least size of a part of such a copy.
    init(_ client: B2Client, copyLimit: Int = B2Provider.maxPieceSize, copyPartSize: Int = 500_000_000) {
        self.client = client
        bucket = B2Bucket(client)
        files = B2Files(client: client, bucket: bucket)
        reader = B2Reader(client: client, files: files)
        lister = B2Lister(client: client, bucket: bucket)
        let uploader = B2Uploader(client: client)
        let copier = B2Copier(client: client, bucket: bucket)
        writer = B2Writer(client: client, bucket: bucket, files: files, uploader: uploader, copier: copier)
        largeFiles = B2LargeFiles(client: client, bucket: bucket, files: files, uploader: uploader, copier: copier)
        copies = B2Copies(
            files: files, copier: copier, largeFiles: largeFiles, limit: copyLimit, partSize: copyPartSize)
        remover = B2Remover(client: client, bucket: bucket, files: files)
    }

    public var executor: (any TaskExecutor)? { HTTPEngine.shared }
    public var billedCalls: [BilledCalls] { client.billing.calls }

    public var capabilities: Capabilities {
        let place = bucket.place
        var capabilities = Capabilities()
        capabilities.maxKeyBytes = B2Names.maxBytes
        capabilities.maxNameBytes = B2Names.maxSegmentBytes
        capabilities.controlCharacters = false
        capabilities.maxMetadataBytes = B2FileInfo.limit(isProtected: place.isProtected)
        capabilities.maxPutSize = Self.maxPieceSize
        capabilities.maxCopySize = Self.maxFileSize
        capabilities.minPartSize = place.minimumPartSize
        capabilities.maxPartSize = Self.maxPieceSize
        capabilities.minParts = 2
        capabilities.maxParts = Self.maxParts
        capabilities.maxObjectSize = Self.maxFileSize
        capabilities.maxListKeys = B2Lister.fullPage
        capabilities.multipart = true
        capabilities.serverCopy = true
        capabilities.rangeCopy = true
        capabilities.pinnedRead = true
        capabilities.visibleFolders = true
        capabilities.readsOldVersions = true
        capabilities.deleteKeepsVersion = client.options.deletion == .hide
        capabilities.listingCarriesMetadata = true
        capabilities.sortedListing = true
        capabilities.versions = true
        capabilities.sharedQuota = true
        capabilities.readOnlyReason = place.readOnlyReason
        return capabilities
    }

    /// Logs in, finds the bucket, holds the mount against what the key may do, and cleans up after earlier processes.
    public func prepare(writable: Bool) async throws(VFSError) {
        try await bucket.open(writable: writable)
        guard writable, bucket.place.readOnlyReason == nil else { return }
        await B2LeftoverSweep(client: client, bucket: bucket, largeFiles: largeFiles).run()
    }

    public func list(_ request: ListRequest) async throws(VFSError) -> ListPage { try await lister.list(request) }

    public func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo { try await files.head(key) }

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        try await reader.read(request, into: sink)
    }

    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try await writer.put(request, from: source)
    }

    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo { try await copies.copy(request) }

    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        try await remover.delete(objects)
    }

    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        try await largeFiles.begin(key, metadata: metadata)
    }

    public func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        try await largeFiles.uploadPart(upload, number: number, from: source)
    }

    public func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent
    ) async throws(VFSError) -> UploadedPart {
        try await largeFiles.copyPart(upload, number: number, source: source, extent)
    }

    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        try await largeFiles.complete(upload, parts: parts, precondition: precondition)
    }

    public func abortUpload(_ upload: Upload) async throws(VFSError) { try await largeFiles.abort(upload) }

    public func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        try await largeFiles.parts(upload)
    }

    public func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion] {
        try await files.versions(of: key)
    }
}
