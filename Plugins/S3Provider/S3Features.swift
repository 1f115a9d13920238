import CloudMountVFS

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
    /// Why these credentials cannot write; nil where nothing speaks against it.
    var readOnlyReason: String?

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
        capabilities.reservedMetadataBytes = S3Metadata.reserve
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
        capabilities.readOnlyReason = readOnlyReason
        return capabilities
    }
}
