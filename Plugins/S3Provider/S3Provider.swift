import CloudMountHTTP
public import CloudMountVFS
import Synchronization

/// Amazon S3 and stores that speak its protocol: one bucket of one endpoint.
///
/// Source: Amazon S3 API Reference. What differs between vendors is in `S3Profiles.swift` and `README.md`.
public final class S3Provider: ObjectProvider {
    let client: S3Client
    /// Sources up to here are copied by one CopyObject, larger ones in parts.
    let copyLimit: Int
    /// Least size of a part of such a copy.
    let copyPartSize: Int
    private let learnt: Mutex<S3Features>
    let encryptions = Mutex(S3EncryptionSightings())
    let looks = GatheredLooks<ObjectKey, ETag?>()

    public static let descriptor = ProviderDescriptor(
        name: "s3", summary: "Amazon S3 and compatible stores", bucketMeaning: "bucket name",
        options: S3Options.descriptors, credentials: S3CredentialChain.descriptors,
        check: { S3Options.problems($0) }, endpoint: { S3Options($0).sharedEndpoint },
        make: { context throws(VFSError) in
            let credentials = S3CredentialStore(S3CredentialChain.source(context.credentials))
            return S3Provider(try S3Client(S3Options(context), credentials: credentials))
        })

    init(_ client: S3Client, copyLimit: Int = 5 << 30, copyPartSize: Int = 512 << 20) {
        self.client = client
        self.copyLimit = copyLimit
        self.copyPartSize = copyPartSize
        learnt = Mutex(S3Features(client.profile))
    }

    public var capabilities: Capabilities { features.capabilities(client.profile) }
    public var executor: (any TaskExecutor)? { HTTPEngine.shared }

    /// What the endpoint does, by its profile or by proof.
    var features: S3Features {
        get { learnt.withLock { $0 } }
        set { learnt.withLock { $0 = newValue } }
    }

    /// Bucket, credentials and region in one round trip (more where the region was wrong); then, for a writable mount
    /// of an endpoint that is not known to keep its promises, the probe.
    public func prepare(writable: Bool) async throws(VFSError) {
        client.startAnew()
        try await client.prepareRegion()
        let contact = try await contact()
        client.recognise(server: contact.server)
        var features = S3Features(client.profile)
        features.versions = contact.versioned
        if writable, client.profile.needsProbe {
            features = try await S3Probe(self, believing: features).run()
        }
        self.features = features
    }
}

/// What one endpoint does, feature by feature.
struct S3Features: Sendable, Equatable {
    var sortedListing: Bool
    var folderObjects: Bool
    var emptyFolders = true
    var putAbsent: Bool
    var putMatch: Bool
    var completeAbsent: Bool
    var completeMatch: Bool
    var copyAbsent: Bool
    var copyMatch: Bool
    /// `If-Match` on DeleteObject, and an ETag for each key of DeleteObjects.
    var deleteMatch: Bool
    var deleteManyMatch: Bool
    var serverCopy: Bool
    var pinnedCopy: Bool
    var rangeCopy: Bool
    var multipart: Bool
    var rangedRead: Bool
    var versions = false

    /// Before any probe: what must be shown first is left out, but for what every answer is checked for anyway.
    init(_ profile: S3Profile) {
        sortedListing = profile.sortedListing == .proven
        folderObjects = profile.folderObjects != .never
        putAbsent = profile.conditionalWrites == .proven
        putMatch = profile.conditionalWrites == .proven
        completeAbsent = profile.conditionalWrites == .proven
        completeMatch = profile.conditionalWrites == .proven
        copyAbsent = profile.conditionalCopy == .proven
        copyMatch = profile.conditionalCopy == .proven
        deleteMatch = profile.conditionalDelete == .proven
        deleteManyMatch = profile.conditionalDelete == .proven
        serverCopy = profile.serverCopy == .proven
        pinnedCopy = profile.pinnedCopy == .proven
        rangeCopy = profile.rangeCopy == .proven
        multipart = profile.multipart == .proven
        rangedRead = profile.rangedRead != .never
    }

    func capabilities(_ profile: S3Profile) -> Capabilities {
        var capabilities = Capabilities()
        capabilities.maxKeyBytes = 1024
        capabilities.maxMetadataBytes = S3Metadata.limit
        capabilities.maxPutSize = 5 << 30
        capabilities.minPartSize = profile.minPartSize
        capabilities.maxPartSize = 5 << 30
        capabilities.maxParts = profile.maxParts
        capabilities.maxObjectSize = multipart ? 5 << 40 : 5 << 30
        capabilities.maxCopySize = multipart && rangeCopy ? capabilities.maxObjectSize : 5 << 30
        capabilities.maxDeleteKeys = profile.maxDeleteKeys
        capabilities.maxListKeys = 1000
        capabilities.multipart = multipart
        capabilities.equalParts = profile.equalParts
        capabilities.serverCopy = serverCopy
        capabilities.rangeCopy = multipart && rangeCopy
        capabilities.conditionalCreate = putAbsent && (completeAbsent || !multipart)
        capabilities.conditionalReplace = putMatch && (completeMatch || !multipart)
        let copiesInParts = multipart && rangeCopy
        capabilities.conditionalCopy =
            copyAbsent && copyMatch && (completeAbsent && completeMatch || !copiesInParts)
        capabilities.conditionalDelete = deleteMatch && (deleteManyMatch || profile.maxDeleteKeys <= 1)
        // Every answer names its version, which is compared before its first byte is passed on.
        capabilities.pinnedRead = true
        capabilities.rangedRead = rangedRead
        capabilities.listingCarriesMetadata = false
        capabilities.sortedListing = sortedListing
        capabilities.folderObjects = folderObjects
        capabilities.emptyFolders = emptyFolders
        capabilities.metadata = true
        capabilities.versions = versions
        return capabilities
    }
}
