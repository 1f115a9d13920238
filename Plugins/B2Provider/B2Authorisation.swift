import CloudMountKit
import CloudMountVFS

/// What logging in gives: a token, where to go with it, and what the key may do.
struct B2Authorisation: Sendable, Equatable {
    struct Bucket: Sendable, Equatable {
        var id: String
        /// Nil for one that has been deleted, and where an old answer does not say.
        var name: String?
    }

    var accountID: String
    var token: String
    /// Without slashes at their ends.
    var apiURL: String
    var downloadURL: String
    var recommendedPartSize: Int
    var minimumPartSize: Int
    var capabilities: Set<String>
    /// Nil: any bucket of the account.
    var buckets: [Bucket]?
    /// Only names that begin with it; nil: any.
    var namePrefix: String?

    /// Takes the answers of v4, v3, v2 and v1.
    /// - Returns: nil when something is missing that every version has.
    init?(_ bytes: [UInt8]) {
        guard
            let fields = JSONReader.read(
                bytes,
                { reader throws(JSONError) in
                    var fields = Fields()
                    try fields.readTop(&reader)
                    return fields
                }), let accountID = fields.accountID, let token = fields.token, let apiURL = fields.apiURL,
            let downloadURL = fields.downloadURL, let capabilities = fields.capabilities
        else { return nil }
        self.accountID = accountID
        self.token = token
        self.apiURL = Self.withoutSlash(apiURL)
        self.downloadURL = Self.withoutSlash(downloadURL)
        // Version 1 had the recommended size under another name as well.
        recommendedPartSize = Self.possible(fields.recommendedPartSize ?? fields.oldPartSize ?? 100_000_000)
        minimumPartSize = Self.possible(fields.minimumPartSize ?? 5_000_000)
        self.capabilities = Set(capabilities)
        buckets = fields.buckets ?? fields.bucketID.map { [Bucket(id: $0, name: fields.bucketName)] }
        namePrefix = fields.namePrefix.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// A part has a byte at least and 5 GB at most, whatever the realm says.
    private static func possible(_ partSize: Int) -> Int { max(1, min(partSize, 5_000_000_000)) }

    private static func withoutSlash(_ url: String) -> String {
        url.utf8.last == UInt8(ascii: "/") ? String(url.dropLast()) : url
    }

    /// The union of the shapes: v4 has everything in `apiInfo.storageApi` and the restrictions in its `allowed`, v3 has
    /// the restrictions in `storageApi` itself, v2 and v1 have all at the top with the restrictions in `allowed`.
    private struct Fields {
        var accountID: String?
        var token: String?
        var apiURL: String?
        var downloadURL: String?
        var recommendedPartSize: Int?
        var minimumPartSize: Int?
        var oldPartSize: Int?
        var capabilities: [String]?
        var buckets: [Bucket]?
        var bucketID: String?
        var bucketName: String?
        var namePrefix: String?

        mutating func readTop(_ reader: inout JSONReader) throws(JSONError) {
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "accountId": accountID = try reader.optionalString()
                case "authorizationToken": token = try reader.optionalString()
                case "apiInfo": try readAPIs(&reader)
                default: try readStorage(&reader, name)
                }
            }
        }

        private mutating func readAPIs(_ reader: inout JSONReader) throws(JSONError) {
            try reader.object { reader, name throws(JSONError) in
                guard case "storageApi" = name else { return try reader.skip() }
                try reader.object { reader, name throws(JSONError) in try readStorage(&reader, name) }
            }
        }

        private mutating func readStorage(
            _ reader: inout JSONReader, _ name: JSONReader.Name
        ) throws(JSONError) {
            switch name {
            case "apiUrl": apiURL = try reader.optionalString()
            case "downloadUrl": downloadURL = try reader.optionalString()
            case "recommendedPartSize": recommendedPartSize = try reader.optionalInteger()
            case "absoluteMinimumPartSize": minimumPartSize = try reader.optionalInteger()
            case "minimumPartSize": oldPartSize = try reader.optionalInteger()
            case "allowed":
                if try reader.null() { return }
                try reader.object { reader, name throws(JSONError) in try readAllowed(&reader, name) }
            default: try readAllowed(&reader, name)
            }
        }

        private mutating func readAllowed(
            _ reader: inout JSONReader, _ name: JSONReader.Name
        ) throws(JSONError) {
            switch name {
            case "capabilities":
                if try reader.null() { return }
                var all: [String] = []
                try reader.array { reader throws(JSONError) in all.append(try reader.string()) }
                capabilities = all
            case "buckets":
                if try reader.null() { return }
                var all: [Bucket] = []
                try reader.array { reader throws(JSONError) in
                    var bucket = Bucket(id: "", name: nil)
                    try reader.object { reader, name throws(JSONError) in
                        switch name {
                        case "id": bucket.id = try reader.string()
                        case "name": bucket.name = try reader.optionalString()
                        default: try reader.skip()
                        }
                    }
                    all.append(bucket)
                }
                buckets = all
            case "bucketId": bucketID = try reader.optionalString()
            case "bucketName": bucketName = try reader.optionalString()
            case "namePrefix": namePrefix = try reader.optionalString()
            default: try reader.skip()
            }
        }
    }
}
