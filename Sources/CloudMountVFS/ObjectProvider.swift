/// One bucket of one store: the verbs that every module under `Plugins/` implements.
///
/// ## For authors
/// - **One request each.** A verb does what the wire does and no more: no retry (the retry layer obeys the advice in the
///   error), no cache, no logging, no concurrency limit. Exceptions are cures that only you can know, such as a fresh
///   session or a signature for another region.
/// - **Cancellation.** When the task is cancelled, stop the transfer and throw `VFSError.cancelled` soon. Nothing may be
///   delivered to a sink afterwards.
/// - **Truth.** Bytes reach the sink only from an answer that is what was asked for (status, range, version, length). A body
///   shorter than announced is `corrupted` with `.backoff`. "Not found" is said only when the store said so; an answer
///   that could not be had is never an answer.
/// - **Errors.** `VFSError` with the code closest to the cause, retry advice, and the wire detail; no secret in either.
/// - **Preconditions** (`put`, `copy`, `move`, `completeUpload`, and the version in a `DeleteRequest`) are never ignored: the
///   core passes them and never compares by itself. Where the store can hold to one, it does so in one step with the
///   change; the capabilities `conditionalCreate`, `conditionalReplace`, `conditionalCopy` and `conditionalDelete`
///   say that. Elsewhere compare yourself, just before the call that makes the change visible: before the completing
///   call of an upload, not before its first part. An unmet one is `preconditionFailed`, and nothing has changed.
/// - **Nonce.** `ObjectMetadata.nonce` is kept beside the other metadata and told wherever metadata is, never among
///   `user`. A copy that keeps its source's metadata keeps its nonce too.
/// - **Keys** are bytes: send them as they are, never normalised.
/// - All verbs may run at once, from any executor, and must not block a thread on the network.
///
/// The suite in `Tests/ProviderConformance` holds an implementation to this page, case by case.
public protocol ObjectProvider: Sendable {
    /// What the store can do. Final after `prepare` has returned.
    var capabilities: Capabilities { get }

    /// Where tasks that call the provider run best: the thread that its answers come in on, which spares each call the
    /// wake-up of another. Such tasks must not block. Nil: anywhere.
    var executor: (any TaskExecutor)? { get }

    /// The calls made so far, by the groups that the store's vendor bills them in; empty where it bills none, or all alike.
    var billedCalls: [BilledCalls] { get }

    /// Whose name calls are made in; nil where that is what the configuration says, or nothing is known yet.
    var credentials: CredentialReport? { get }

    /// Makes contact: checks that bucket and credentials work, finds region and capabilities (by harmless probes where the
    /// store is not known to keep its promises and `writable`). Called before any other verb, and again after a failure.
    /// - Throws: `bucketNotFound`, `credentialsInvalid`, `permissionDenied`, or a transport error.
    func prepare(writable: Bool) async throws(VFSError)

    /// One page of keys.
    /// - Throws: `bucketNotFound`, `permissionDenied`.
    func list(_ request: ListRequest) async throws(VFSError) -> ListPage

    /// The current version of one object, with metadata.
    /// - Throws: `notFound` when, and only when, the store says there is none.
    func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo

    /// Streams one extent of one version into `sink`.
    /// - Returns: the object as the answer's headers describe it (`size` is the whole object's).
    /// - Throws: `notFound`, `stale` (another version than asked for), `archived`, `corrupted`.
    func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo

    /// Stores an object whole, up to `Capabilities.maxPutSize`. All or nothing.
    /// - Returns: the new version; its `metadata` may be nil.
    /// - Throws: `preconditionFailed`, `tooLarge`, `quotaExceeded`, `nameTooLong`, `invalidName`.
    func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo

    /// Copies exactly one version within the bucket without moving bytes through this machine, up to
    /// `Capabilities.maxCopySize`. Storage class and encryption stay those of the source unless the configuration says
    /// otherwise.
    /// - Throws: `stale` when the source has been changed or is gone (`notFound` may be said instead when it is gone),
    ///   `preconditionFailed`, `tooLarge`, `notSupported` without `Capabilities.serverCopy`.
    func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo

    /// Gives an object (`Capabilities.moves`) or a folder with all that is in it (`Capabilities.movesFolders`) another key.
    /// - Returns: what is under the new key; nil for a folder that is there only by what is in it.
    /// - Throws: `notFound`, `stale` when the source has been replaced, `preconditionFailed`; `notSupported` where this one cannot be moved:
    ///   nothing has changed then, and the core copies.
    func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo?

    /// How much room there is (`Capabilities.tellsSpace`).
    /// - Returns: nil when the store does not say.
    func space() async throws(VFSError) -> StoreSpace?

    /// Deletes up to `Capabilities.maxDeleteKeys` objects; one that is absent counts as deleted. With `Capabilities.realFolders` a folder that
    /// has something in it is refused with `notEmpty`, also when that has come since the last look: nothing is ever deleted with it.
    /// - Returns: the ones that the store refused, with `preconditionFailed` those whose version is not current any
    ///   more.
    func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure]

    // MARK: Multipart upload (`Capabilities.multipart`)

    /// Begins an upload. Nothing is visible under the key until `completeUpload`; the object then has `metadata`, its
    /// nonce included.
    func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload

    /// Sends part `number`; a part sent again replaces the one before.
    /// - Throws: `uploadNotFound`.
    func uploadPart(_ upload: Upload, number: Int, from source: any ByteSource) async throws(VFSError) -> UploadedPart

    /// Makes part `number` of a range of a stored version (`Capabilities.rangeCopy`).
    /// - Throws: `stale` when `source` is not current any more (or, with `Capabilities.readsOldVersions`, when it no
    ///   longer exists), `uploadNotFound`.
    func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent
    ) async throws(VFSError) -> UploadedPart

    /// Makes the object of `parts`, in order of number. With `Capabilities.completeSetsMetadata` it has `upload.metadata`, where
    /// that is not nil, and the nonce that the upload was begun with.
    /// - Throws: `uploadNotFound` (also when an earlier, lost answer had succeeded: the retry layer looks at the
    ///   nonce), `preconditionFailed`.
    func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo

    /// Gives up an upload and frees its parts. Absent counts as done.
    func abortUpload(_ upload: Upload) async throws(VFSError)

    /// The parts the store holds, in order of number.
    /// - Throws: `uploadNotFound`.
    func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart]

    // MARK: Versions (`Capabilities.versions`)

    /// All versions of one key, newest first.
    func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion]
}

extension ObjectProvider {
    public var executor: (any TaskExecutor)? { nil }
    public var billedCalls: [BilledCalls] { [] }
    public var credentials: CredentialReport? { nil }

    private func unsupported(_ verb: String) -> VFSError { VFSError(.notSupported, "this store has no \(verb)") }

    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        throw unsupported("server-side copy")
    }
    public func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo? { throw unsupported("move") }
    public func space() async throws(VFSError) -> StoreSpace? { nil }
    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        throw unsupported("multipart upload")
    }
    public func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart { throw unsupported("multipart upload") }
    public func copyPart(
        _ upload: Upload, number: Int, source: ObjectInfo, extent: Extent
    ) async throws(VFSError) -> UploadedPart { throw unsupported("copy of ranges") }
    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo { throw unsupported("multipart upload") }
    public func abortUpload(_ upload: Upload) async throws(VFSError) { throw unsupported("multipart upload") }
    public func listParts(_ upload: Upload) async throws(VFSError) -> [UploadedPart] {
        throw unsupported("multipart upload")
    }
    public func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion] { throw unsupported("versions") }
}

extension ObjectProvider {
    /// Nil when, and only when, the store says that there is no such object.
    public func headIfThere(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo? {
        try await ifThere { () async throws(VFSError) in try await head(key) }
    }
}

/// What `look` finds; nil when it says that there is nothing.
public func ifThere<Value>(_ look: () async throws(VFSError) -> Value) async throws(VFSError) -> Value? {
    do throws(VFSError) {
        return try await look()
    } catch {
        if error.code == .notFound { return nil }
        throw error
    }
}
