import CloudMountKit
import CloudMountVFS
import Synchronization

/// The bucket of one mount: how it is found, what the key may do in it, and what is written along with its files.
final class B2Bucket: Sendable {
    /// What `open` finds out.
    struct Place: Sendable {
        var bucketID = ""
        /// Encryption or Object Lock leaves less room for metadata.
        var isProtected = false
        var minimumPartSize = 5_000_000
        var readOnlyReason: String?
    }

    private let client: B2Client
    private let found: Mutex<Place>

    init(_ client: B2Client) {
        self.client = client
        found = Mutex(Place(isProtected: client.encryption.isOn))
    }

    var place: Place { found.withLock { $0 } }
    var id: String { place.bucketID }

    /// Logs in, finds the bucket, and holds the mount against what the key may do.
    func open(writable: Bool) async throws(VFSError) {
        let authorisation = try await client.authorisation()
        var place = Place(isProtected: client.encryption.isOn)
        place.minimumPartSize = authorisation.minimumPartSize
        place.readOnlyReason = try B2Restrictions.check(authorisation, client.options, writable: writable)
        let bucket = try await find(authorisation)
        place.bucketID = bucket.id
        place.isProtected = place.isProtected || bucket.isProtected
        let result = place
        found.withLock { $0 = result }
    }

    // MARK: What goes along with a file

    func contentType(_ metadata: ObjectMetadata?) throws(VFSError) -> String {
        guard let type = metadata?.contentType, !type.isEmpty else { return "b2/x-auto" }
        guard type.utf8.allSatisfy({ 0x20...0x7E ~= $0 }) else {
            throw VFSError(.invalidArgument, "content-type of an object holds characters that no header can")
        }
        return type
    }

    func entries(
        _ metadata: ObjectMetadata, name: String, session: String? = nil
    ) throws(VFSError) -> [(name: String, value: String)] {
        var metadata = metadata
        if let id = client.encryption.keyID { metadata.user["sse_c_key_id"] = id }
        return try B2FileInfo.entries(metadata, name: name, isProtected: place.isProtected, session: session)
    }

    // MARK: Finding it

    private struct Found: Sendable {
        var id = ""
        var name = ""
        var isProtected = false
    }

    /// - Throws: `bucketNotFound`; `permissionDenied` when the key is for others, or may not look for it.
    private func find(_ authorisation: B2Authorisation) async throws(VFSError) -> Found {
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
            return try await visited(Found(id: allowed.id, name: name))
        }
        var call = B2Call("b2_list_buckets")
        call.maxBodyBytes = B2Call.longAnswer
        call.namesAccount = true
        if let allowed { call.body.add("bucketId", allowed.id) } else { call.body.add("bucketName", name) }
        let buckets: [Found] = try await client.send(call) { reader throws(JSONError) in
            try Self.buckets(&reader)
        }
        guard let bucket = buckets.first(where: { $0.name.lowercased() == name.lowercased() }) else {
            throw VFSError(.bucketNotFound, "the account has no bucket '\(name)'")
        }
        return bucket
    }

    /// A bucket that cannot be asked for by name is shown to be there by its listing.
    private func visited(_ bucket: Found) async throws(VFSError) -> Found {
        var call = B2Call("b2_list_file_names")
        call.body.add("bucketId", bucket.id)
        call.body.add("maxFileCount", 1)
        call.maxBodyBytes = B2Call.longAnswer
        call.body.add("prefix", client.options.prefix)
        _ = try await client.send(call)
        return bucket
    }

    private static func buckets(_ reader: inout JSONReader) throws(JSONError) -> [Found]? {
        var buckets: [Found] = []
        try reader.object { reader, name throws(JSONError) in
            guard case "buckets" = name else { return try reader.skip() }
            try reader.array { reader throws(JSONError) in
                var bucket = Found()
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
