import CloudMountHTTP
import CloudMountKit
public import CloudMountVFS
import Synchronization

/// One folder of a WebDAV server (RFC 4918), whose folders are real ones.
///
/// What is written is staged under a name of its own and takes its place by MOVE: so it is all there or not at all, whatever the server
/// does with an upload that breaks off. What servers do and do not, and what is made of it, is in `README.md`.
public final class WebDAVProvider: ObjectProvider {
    let dav: WebDAVFolder
    private let lister: WebDAVLister
    private let reader: WebDAVReader
    private let writer: WebDAVWriter
    private let chunks: WebDAVChunks
    private let copier: WebDAVCopier
    private let mover: WebDAVMover
    private let remover: WebDAVRemover
    /// Of what others have left; it ends with the provider.
    private let sweep = Mutex<Task<Void, Never>?>(nil)

    public static let descriptor = ProviderDescriptor(
        name: "webdav", summary: "WebDAV: Nextcloud, ownCloud, Apache, rclone serve webdav",
        bucketMeaning: "URL of a folder, such as https://cloud.example.com/remote.php/dav/files/USER",
        url: WebDAVOptions.urlForm,
        options: WebDAVOptions.descriptors, credentials: WebDAVCredentials.descriptors,
        check: { WebDAVOptions.problems($0) },
        endpoint: { context in
            let user = WebDAVCredentials(context.credentials).user.map { "\($0) at " } ?? ""
            return user + (WebDAVOptions(context).url?.origin ?? context.mountName)
        },
        make: { context throws(VFSError) in
            let options = WebDAVOptions(context)
            guard let root = options.url.flatMap({ WebDAVRoot($0) }) else {
                throw VFSError(.invalidArgument, "'\(context.bucket)' is not the URL of a folder")
            }
            let client = WebDAVClient(root, WebDAVCredentials(context.credentials), caFile: options.caFile)
            return WebDAVProvider(client, options)
        })

    init(_ client: WebDAVClient, _ options: WebDAVOptions) {
        dav = WebDAVFolder(client, options)
        lister = WebDAVLister(dav: dav)
        reader = WebDAVReader(dav: dav)
        writer = WebDAVWriter(dav: dav)
        chunks = WebDAVChunks(dav: dav, writer: writer)
        copier = WebDAVCopier(dav: dav, writer: writer)
        mover = WebDAVMover(dav: dav, copier: copier, writer: writer)
        remover = WebDAVRemover(dav: dav)
    }

    deinit { endSweep() }

    public var executor: (any TaskExecutor)? { HTTPEngine.shared }

    public var capabilities: Capabilities {
        let server = dav.server
        var capabilities = Capabilities()
        capabilities.maxKeyBytes = WebDAVRoot.maxKeyBytes
        capabilities.maxNameBytes = WebDAVRoot.maxNameBytes
        capabilities.maxMetadataBytes = WebDAVRecord.maxMetadataBytes
        capabilities.maxPutSize = ObjectInfo.sizeLimit
        capabilities.maxCopySize = ObjectInfo.sizeLimit
        capabilities.maxObjectSize = ObjectInfo.sizeLimit
        capabilities.maxListKeys = WebDAVMultistatus.most
        capabilities.serverCopy = server.copies
        // What has moved is told from what another client has put there meanwhile by its tag.
        capabilities.moves = server.exclusiveMove && server.moveKeepsTag
        capabilities.movesFolders = server.movesFolders
        capabilities.tellsSpace = server.tellsSpace
        capabilities.conditionalCreate = server.exclusiveMove && server.isOneStep
        capabilities.conditionalReplace = server.conditions && server.isOneStep
        capabilities.conditionalCopy = capabilities.conditionalCreate && capabilities.conditionalReplace
        capabilities.conditionalDelete = server.conditions && server.isOneStep
        capabilities.pinnedRead = true
        capabilities.listingCarriesMetadata = true
        capabilities.folderObjects = false
        capabilities.realFolders = true
        capabilities.filesBesideFolders = false
        capabilities.oddSegments = false
        capabilities.metadata = server.keepsRecord
        capabilities.multipart = server.chunks
        capabilities.completeSetsMetadata = server.chunks
        capabilities.partTagsAreOfBytes = false
        // Some are made of times and sizes.
        capabilities.distinctTags = false
        capabilities.minPartSize = 5 << 20
        capabilities.maxPartSize = 5 << 30
        capabilities.readOnlyReason = server.readOnlyReason
        return capabilities
    }

    /// Looks at the folder, and finds out by files of its own what the server does.
    public func prepare(writable: Bool) async throws(VFSError) {
        let top = ObjectKey("")
        let itself: WebDAVEntry?
        do throws(VFSError) {
            itself = try await dav.client.look(at: top)
        } catch {
            if error.code == .notSupported || error.wire?.status == 200 {
                throw VFSError(
                    .bucketNotFound, "\(dav.client.root.url.text) is not served by WebDAV", wire: error.wire)
            }
            throw error
        }
        guard let itself, itself.isFolder else {
            throw VFSError(.bucketNotFound, "the folder \(dav.client.root.url.text) is not there")
        }
        var server = writable ? try await WebDAVProbe(dav: dav, writer: writer).run() : WebDAVServer()
        server.tellsSpace = await dav.client.tellsSpace()
        endSweep()
        let left = writable && server.readOnlyReason == nil ? await WebDAVSweep(dav, server) : nil
        dav.server = server
        guard let left, !Task.isCancelled else { return }
        sweep.withLock { $0 = Task { await left.run() } }
    }

    func endSweep() { sweep.withLock { $0?.cancel() } }

    /// Returns when the sweep that the last `prepare` has begun has ended.
    func swept() async { await sweep.withLock { $0 }?.value }

    public func list(_ request: ListRequest) async throws(VFSError) -> ListPage { try await lister.list(request) }

    public func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo { try await reader.head(key) }

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        try await reader.read(request, into: sink)
    }

    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try await writer.put(request, from: source)
    }

    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo { try await copier.copy(request) }

    public func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo? { try await mover.move(request) }

    public func space() async throws(VFSError) -> StoreSpace? { try await dav.client.space() }

    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        try await remover.delete(objects)
    }

    // MARK: Uploads in parts

    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        try await chunks.beginUpload(key, metadata: metadata)
    }

    public func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        try await chunks.uploadPart(upload, number: number, from: source)
    }

    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        try await chunks.completeUpload(upload, parts: parts, precondition: precondition)
    }

    public func abortUpload(_ upload: Upload) async throws(VFSError) { try await chunks.abortUpload(upload) }

    public func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        try await chunks.listParts(upload)
    }
}
