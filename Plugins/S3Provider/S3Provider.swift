import CloudMountHTTP
public import CloudMountVFS

/// Amazon S3 and stores that speak its protocol: one bucket of one endpoint. Each verb is a type of its own, in the file that is
/// named for it.
///
/// Source: Amazon S3 API Reference. What differs between vendors is in `S3Profiles.swift` and `README.md`.
public final class S3Provider: ObjectProvider {
    let bucket: S3Bucket

    public static let descriptor = ProviderDescriptor(
        name: "s3", summary: "Amazon S3 and compatible stores", bucketMeaning: "bucket name",
        options: S3Options.descriptors, credentials: S3CredentialChain.descriptors,
        check: { S3Options.problems($0) },
        endpoint: { context throws(VFSError) in try S3Options.checked(context).sharedEndpoint },
        make: { context throws(VFSError) in
            let options = try S3Options.checked(context)
            let credentials = S3CredentialStores.shared.store(context.credentials)
            return S3Provider(try S3Client(options, credentials: credentials), memory: context.memory)
        })

    init(
        _ client: S3Client, memory: (any ProviderMemory)? = nil, copyLimit: Int = 5 << 30,
        copyPartSize: Int = 512 << 20
    ) {
        bucket = S3Bucket(client, memory: memory, copyLimit: copyLimit, copyPartSize: copyPartSize)
    }

    public var capabilities: Capabilities { bucket.client.features.capabilities(bucket.client.profile) }
    public var credentials: CredentialReport? { bucket.client.credentials.report }
    public var executor: (any TaskExecutor)? { HTTPEngine.shared }

    public func prepare(writable: Bool) async throws(VFSError) { try await bucket.prepare(writable: writable) }

    public func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        try await bucket.listing.list(request)
    }

    public func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo { try await bucket.reader.head(key) }

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        try await bucket.reader.read(request, into: sink)
    }

    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try await bucket.writer.put(request, from: source)
    }

    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try await bucket.copier.copy(request)
    }

    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        try await bucket.deleter.delete(objects)
    }

    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        try await bucket.uploader.beginUpload(key, metadata: metadata)
    }

    public func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        try await bucket.uploader.uploadPart(upload, number: number, from: source)
    }

    public func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent
    ) async throws(VFSError) -> UploadedPart {
        try await bucket.uploader.copyPart(upload, number: number, source: source, extent: extent)
    }

    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        try await bucket.uploader.completeUpload(upload, parts: parts, precondition: precondition)
    }

    public func abortUpload(_ upload: Upload) async throws(VFSError) { try await bucket.uploader.abortUpload(upload) }

    public func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        try await bucket.uploader.listParts(upload)
    }

    public func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion] {
        try await bucket.versionLister.versions(of: key)
    }
}
