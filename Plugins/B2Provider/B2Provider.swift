import CloudMountHTTP
import CloudMountKit
public import CloudMountVFS
import Synchronization

/// One bucket of Backblaze B2, by its native interface.
///
/// The ETag of an object is the id of its file version. What the service does beyond, and what it does not, is in
/// `README.md`. Source: Backblaze B2 Native API, version 4.
public final class B2Provider: ObjectProvider {
    /// The largest upload in one request, part, and copy in one call.
    static let maxPieceSize = 5_000_000_000
    static let maxParts = 10_000
    static let maxFileSize = 10_000_000_000_000

    /// What `prepare` finds out.
    struct Place: Sendable {
        var bucketID = ""
        /// Encryption or Object Lock leaves less room for metadata.
        var isProtected = false
        var minimumPartSize = 5_000_000
        var readOnlyReason: String?
    }

    let client: B2Client
    let uploadURLs = B2UploadURLs()
    let suspects = B2Suspects()
    let headStart = B2HeadStart()
    /// Sources up to here are copied by one call, larger ones in parts.
    let copyLimit: Int
    /// Least size of a part of such a copy.
    let copyPartSize: Int
    private let found: Mutex<Place>

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

    init(
        _ client: B2Client, copyLimit: Int = B2Provider.maxPieceSize, copyPartSize: Int = 500_000_000
    ) {
        self.client = client
        self.copyLimit = copyLimit
        self.copyPartSize = copyPartSize
        found = Mutex(Place(isProtected: client.encryption.isOn))
    }

    public var executor: (any TaskExecutor)? { HTTPEngine.shared }
    public var billedCalls: [BilledCalls] { client.billing.calls }

    var place: Place { found.withLock { $0 } }
    var isTLS: Bool { WebURL(client.options.realm)?.isTLS ?? true }

    public var capabilities: Capabilities {
        let place = place
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
        capabilities.maxListKeys = Self.fullPage
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

    /// Logs in, finds the bucket, and holds the mount against what the key may do.
    public func prepare(writable: Bool) async throws(VFSError) {
        let authorisation = try await client.authorisation()
        var place = Place(isProtected: client.encryption.isOn)
        place.minimumPartSize = authorisation.minimumPartSize
        place.readOnlyReason = try B2Restrictions.check(
            authorisation, client.options, writable: writable)
        let bucket = try await bucket(authorisation)
        place.bucketID = bucket.id
        place.isProtected = place.isProtected || bucket.isProtected
        let result = place
        found.withLock { $0 = result }
        if writable, place.readOnlyReason == nil { await cancelLeftovers() }
    }

    // MARK: The bucket

    private struct Bucket: Sendable {
        var id = ""
        var name = ""
        var isProtected = false
    }

    /// - Throws: `bucketNotFound`; `permissionDenied` when the key is for others, or may not look for it.
    private func bucket(_ authorisation: B2Authorisation) async throws(VFSError) -> Bucket {
        let name = client.options.bucket
        // Bucket names differ in more than case.
        let allowed = authorisation.buckets?.first { $0.name?.lowercased() == name.lowercased() }
        if let buckets = authorisation.buckets, allowed == nil, !buckets.contains(where: { $0.name == nil }) {
            let names = buckets.compactMap(\.name).joined(separator: ", ")
            throw VFSError(.permissionDenied, "the application key is restricted to other buckets: \(names)")
        }
        let mayList = !authorisation.capabilities.isDisjoint(with: ["listBuckets", "listAllBucketNames"])
        guard mayList else {
            guard let allowed else {
                throw VFSError(
                    .permissionDenied,
                    "the application key lacks the capability listBuckets, without which the bucket cannot be found")
            }
            return try await visited(Bucket(id: allowed.id, name: name))
        }
        var call = B2Call("b2_list_buckets")
        call.namesAccount = true
        if let allowed { call.body.add("bucketId", allowed.id) } else { call.body.add("bucketName", name) }
        let buckets: [Bucket] = try await client.send(call) { reader throws(JSONError) in
            try Self.buckets(&reader)
        }
        guard let bucket = buckets.first(where: { $0.name.lowercased() == name.lowercased() }) else {
            throw VFSError(.bucketNotFound, "the account has no bucket '\(name)'")
        }
        return bucket
    }

    /// A bucket that cannot be asked for by name is shown to be there by its listing.
    private func visited(_ bucket: Bucket) async throws(VFSError) -> Bucket {
        var call = B2Call("b2_list_file_names")
        call.body.add("bucketId", bucket.id)
        call.body.add("maxFileCount", 1)
        call.body.add("prefix", client.options.prefix)
        _ = try await client.send(call)
        return bucket
    }

    private static func buckets(_ reader: inout JSONReader) throws(JSONError) -> [Bucket]? {
        var buckets: [Bucket] = []
        try reader.object { reader, name throws(JSONError) in
            guard case "buckets" = name else { return try reader.skip() }
            try reader.array { reader throws(JSONError) in
                var bucket = Bucket()
                try reader.object { reader, name throws(JSONError) in
                    switch name {
                    case "bucketId": bucket.id = try reader.string()
                    case "bucketName": bucket.name = try reader.string()
                    case "defaultServerSideEncryption":
                        if try protects(&reader, "mode") { bucket.isProtected = true }
                    case "fileLockConfiguration":
                        if try protects(&reader, "isFileLockEnabled") { bucket.isProtected = true }
                    default: try reader.skip()
                    }
                }
                buckets.append(bucket)
            }
        }
        return buckets
    }

    /// Reads `{isClientAuthorizedToRead, value: {FIELD: …}}`, flat in old answers. What may not be read may be on.
    private static func protects(_ reader: inout JSONReader, _ field: StaticString) throws(JSONError) -> Bool {
        var isOn = false
        if try reader.null() { return false }
        try reader.object { reader, name throws(JSONError) in
            switch name {
            case "isClientAuthorizedToRead":
                if try !reader.boolean() { isOn = true }
            case "value": if try protects(&reader, field) { isOn = true }
            case field: if try reader.isOn() { isOn = true }
            default: try reader.skip()
            }
        }
        return isOn
    }
}

extension JSONReader {
    /// Whether the next value, which is read, is one that says yes: `true`, or a word that is not `none`.
    mutating func isOn() throws(JSONError) -> Bool {
        switch kind() {
        case .boolean: return try boolean()
        case .string: return try string() != "none"
        default:
            try skip()
            return false
        }
    }
}
