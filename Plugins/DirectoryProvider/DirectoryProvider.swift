import CloudMountPlatform
public import CloudMountVFS
import Synchronization

/// A local folder as a bucket: keys are paths below it, objects are files.
///
/// Every verb runs whole on threads of this provider's own, so that a slow disk holds up nothing but its own mount.
/// How keys become paths is told in the README.
public final class DirectoryProvider: ObjectProvider {
    private let path: String
    private let isDurable: Bool
    private let pool = BlockingPool(name: "cm-folder", width: 8)
    private let opened = Mutex<DirectoryRooms?>(nil)

    /// - Parameters:
    ///   - path: an absolute path.
    ///   - isDurable: a write returns only when its bytes and its name are on the disk (fsync(2)).
    public init(path: String, isDurable: Bool = true) {
        self.path = path
        self.isDurable = isDurable
    }

    public let capabilities: Capabilities = {
        var capabilities = Capabilities()
        capabilities.maxMetadataBytes = DirectoryRecord.mostBytes
        capabilities.maxPutSize = 5 << 40
        capabilities.maxCopySize = 5 << 40
        capabilities.minPartSize = 1
        capabilities.maxPartSize = 5 << 40
        capabilities.maxDeleteKeys = 1000
        capabilities.maxListKeys = 5000
        capabilities.multipart = true
        capabilities.completeSetsMetadata = true
        capabilities.serverCopy = true
        capabilities.moves = true
        capabilities.movesFolders = true
        capabilities.rangeCopy = true
        capabilities.conditionalCreate = true
        capabilities.conditionalReplace = true
        capabilities.conditionalCopy = true
        capabilities.conditionalDelete = true
        capabilities.pinnedRead = true
        capabilities.listingCarriesMetadata = true
        capabilities.cheapLooks = true
        capabilities.sortedListing = true
        // Where the file system keeps times in seconds, a change in place by another program may leave the tag as it was.
        capabilities.distinctTags = false
        return capabilities
    }()

    public func prepare(writable: Bool) async throws(VFSError) {
        let rooms = try await pool.run { [path, isDurable] () throws(VFSError) in
            DirectoryRooms(try Folder(path: path, writable: writable, isDurable: isDurable))
        }
        opened.withLock { $0 = rooms }
    }

    /// Runs `work` on the opened folder, on a thread that may block.
    func blocking<Value: Sendable>(
        _ work: @escaping @Sendable (DirectoryRooms) throws(VFSError) -> Value
    ) async throws(VFSError) -> Value {
        if Task.isCancelled { throw .cancelled }
        guard let rooms = opened.withLock({ $0 }) else {
            throw VFSError(.unavailable, "the folder \(path) has not been opened", retry: .backoff)
        }
        return try await pool.run { () throws(VFSError) in try work(rooms) }
    }

    public func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        let most = max(1, min(request.limit ?? capabilities.maxListKeys, capabilities.maxListKeys))
        return try await blocking { rooms throws(VFSError) in try rooms.lister.list(request, limit: most) }
    }

    public func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        try await blocking { rooms throws(VFSError) in try rooms.objects.existing(key).info }
    }

    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try await blocking { rooms throws(VFSError) in try rooms.writer.put(request, from: source) }
    }

    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try await blocking { rooms throws(VFSError) in try rooms.copier.copy(request) }
    }

    public func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo? {
        try await blocking { rooms throws(VFSError) in try rooms.mover.move(request) }
    }

    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        guard objects.count <= capabilities.maxDeleteKeys else {
            throw VFSError(.invalidArgument, "\(objects.count) keys are more than one delete takes")
        }
        return try await blocking { rooms throws(VFSError) in try rooms.remover.delete(objects) }
    }

    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        try await blocking { rooms throws(VFSError) in try rooms.uploads.begin(key, metadata) }
    }

    public func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        try await blocking { rooms throws(VFSError) in
            try rooms.uploads.addPart(upload, number) { staged throws(VFSError) in try staged.fill(from: source) }
        }
    }

    public func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent
    ) async throws(VFSError) -> UploadedPart {
        try await blocking { rooms throws(VFSError) in
            try rooms.uploads.addPart(upload, number) { staged throws(VFSError) in
                try rooms.copier.copy(extent, of: source, to: staged)
            }
        }
    }

    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        try await blocking { rooms throws(VFSError) in
            try rooms.uploads.complete(upload, parts, precondition)
        }
    }

    public func abortUpload(_ upload: Upload) async throws(VFSError) {
        try await blocking { rooms throws(VFSError) in rooms.uploads.abort(upload) }
    }

    public func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        try await blocking { rooms throws(VFSError) in try rooms.uploads.parts(of: upload).map(\.part) }
    }
}

extension DirectoryProvider {
    public static let descriptor = ProviderDescriptor(
        name: "directory", summary: "A local folder; needs no account", bucketMeaning: "absolute path of a folder",
        url: .path("file"),
        options: [
            OptionDescriptor(
                "sync", .boolean, "a write is confirmed only when it is on the disk (fsync)", default: "true")
        ],
        check: { context in
            if context.bucket.utf8.first == UInt8(ascii: "/") { return [] }
            return [OptionProblem(option: "bucket", message: "must be an absolute path")]
        },
        make: { context throws(VFSError) in
            DirectoryProvider(path: context.bucket, isDurable: context.options.boolean("sync") ?? true)
        })
}

/// What works on one opened folder.
struct DirectoryRooms: Sendable {
    let objects: DirectoryObjects
    let lister: DirectoryLister
    let writer: DirectoryWriter
    let copier: DirectoryCopier
    let remover: DirectoryRemover
    let mover: DirectoryMover
    let uploads: DirectoryUploads

    init(_ folder: Folder) {
        let records = DirectoryRecords(folder: folder)
        objects = DirectoryObjects(folder: folder, records: records)
        lister = DirectoryLister(objects: objects)
        writer = DirectoryWriter(folder: folder, records: records, objects: objects)
        copier = DirectoryCopier(records: records, objects: objects, writer: writer)
        remover = DirectoryRemover(folder: folder, records: records, objects: objects, writer: writer)
        mover = DirectoryMover(
            folder: folder, records: records, objects: objects, lister: lister, writer: writer, remover: remover)
        uploads = DirectoryUploads(folder: folder, records: records, writer: writer)
    }
}
