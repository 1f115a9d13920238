import CloudMountPlatform
public import CloudMountVFS
import Synchronization

/// A bucket in this process's memory: the reference of the provider protocol and the template for authors.
///
/// It has every verb and every capability. Each capability can be taken away, and is then really gone: without
/// `conditionalCreate` the precondition is compared just before the write, and another writer can get in between.
public final class MemoryProvider: ObjectProvider {
    public let capabilities: Capabilities
    let bucket = Mutex(MemoryBucket())
    let between = Mutex<(@Sendable (Destruction.Verb, ObjectKey) async -> Void)?>(nil)

    /// What memory can do. Without `versions`, since old ones are kept for ever where they are asked for.
    public static let fullCapabilities: Capabilities = {
        var capabilities = Capabilities()
        capabilities.maxDeleteKeys = 1000
        capabilities.multipart = true
        capabilities.serverCopy = true
        capabilities.rangeCopy = true
        capabilities.conditionalCreate = true
        capabilities.conditionalReplace = true
        capabilities.conditionalCopy = true
        capabilities.conditionalDelete = true
        capabilities.pinnedRead = true
        capabilities.sortedListing = true
        return capabilities
    }()

    /// - Parameter tagsBytes: versions with the same bytes have the same ETag, as on S3.
    public init(
        capabilities: Capabilities = MemoryProvider.fullCapabilities, recordsDestruction: Bool = false,
        tagsBytes: Bool = false
    ) {
        self.capabilities = capabilities
        bucket.withLock { bucket in
            bucket.recordsDestruction = recordsDestruction
            bucket.tagsBytes = tagsBytes
        }
    }

    public func prepare(writable: Bool) async throws(VFSError) {}

    public func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        guard let object = bucket.withLock({ $0.current(key) }) else { throw MemoryErrors.notFound(key) }
        return object.info
    }
}

extension MemoryProvider {
    public static let descriptor = ProviderDescriptor(
        name: "memory", summary: "A bucket in memory, gone with the mount: for trials and tests",
        bucketMeaning: "any name",
        options: [
            OptionDescriptor("versions", .boolean, "keep the old versions of every object", default: "false")
        ],
        make: { context throws(VFSError) in
            var capabilities = fullCapabilities
            capabilities.versions = context.options.boolean("versions") ?? false
            return MemoryProvider(capabilities: capabilities)
        })
}

/// The answers that are errors, each with its advice: all of these fail again however often they are asked.
enum MemoryErrors {
    static func notFound(_ key: ObjectKey) -> VFSError { VFSError(.notFound, "there is no object “\(key)”") }
    static func stale(_ key: ObjectKey) -> VFSError { VFSError(.stale, "“\(key)” has changed in the store") }
    static func precondition(_ key: ObjectKey) -> VFSError {
        VFSError(.preconditionFailed, "“\(key)” is not in the state that the write asks for")
    }
    static func upload(_ id: String) -> VFSError { VFSError(.uploadNotFound, "there is no upload “\(id)”") }
    static func argument(_ message: String) -> VFSError { VFSError(.invalidArgument, message) }
    static func tooLarge(_ message: String) -> VFSError { VFSError(.tooLarge, message) }
}
