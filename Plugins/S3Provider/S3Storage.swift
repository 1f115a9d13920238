import CloudMountHTTP
import CloudMountVFS
import Synchronization

/// How an object is encrypted, as `ObjectInfo.encryption` has it: the algorithm, then the key's id and `bucket-key`.
enum S3Encryption {
    /// What every store encrypts with that is told nothing.
    static let plain = "AES256"
    private static let algorithm = "x-amz-server-side-encryption"
    private static let key = "x-amz-server-side-encryption-aws-kms-key-id"
    private static let bucketKey = "x-amz-server-side-encryption-bucket-key-enabled"

    static func told(_ headers: HTTPHeaders) -> String? {
        guard let name = headers[algorithm], !name.isEmpty, !name.utf8.contains(0x20) else { return nil }
        var words = [name]
        if let id = headers[key], !id.isEmpty, !id.utf8.contains(0x20) { words.append(id) }
        if headers[bucketKey] == "true" { words.append("bucket-key") }
        return words.joined(separator: " ")
    }

    /// What a copy says to be encrypted like that.
    static func fields(_ encryption: String) -> [S3Signer.Field] {
        var words = encryption.split(separator: " ").map(String.init)[...]
        guard let name = words.popFirst() else { return [] }
        var fields = [S3Signer.Field(name: algorithm, value: name)]
        if words.last == "bucket-key" {
            words.removeLast()
            fields.append(S3Signer.Field(name: bucketKey, value: "true"))
        }
        if let id = words.first { fields.append(S3Signer.Field(name: key, value: id)) }
        return fields
    }
}

/// Which encryptions objects of the bucket have been seen with, and what the bucket gives a write that names none. By
/// it sources of which a listing tells no encryption are looked at only where a copy could change it.
struct S3EncryptionSightings: Sendable {
    private static let most = 4
    private var seen: Set<String> = []
    private(set) var usual: String?

    private static func name(_ encryption: String?) -> String { encryption ?? S3Encryption.plain }

    mutating func read(_ encryption: String?) {
        let name = Self.name(encryption)
        if seen.count < Self.most || name == usual { seen.insert(name) }
    }

    mutating func wrote(_ encryption: String?) { usual = Self.name(encryption) }

    /// Whether a copy that names no encryption may change that of a source of which nothing is known.
    var mayDiffer: Bool {
        let usual = usual ?? S3Encryption.plain
        return seen.isEmpty || seen.contains { $0 != usual }
    }
}

/// What new objects and copies say of storage class and encryption, and what has been seen of them.
final class S3Storage: Sendable {
    private let client: S3Client
    private let encryptions = Mutex(S3EncryptionSightings())

    init(_ client: S3Client) { self.client = client }

    /// The class that every store has, and that a write without another gets. Nil in an `ObjectInfo` is "not known".
    static let ordinaryClass = "STANDARD"

    static func told(_ storageClass: String?) -> String {
        storageClass.flatMap { $0.isEmpty ? nil : $0 } ?? ordinaryClass
    }

    /// Of a new object, or of a copy of `source`.
    func storageClass(keeping source: ObjectInfo? = nil) -> String {
        Self.told(client.options.storageClass ?? source?.storageClass)
    }

    /// What the configuration wants of every new object, and what a copy keeps of its source.
    func addStorage(_ wire: inout S3Request, keeping source: ObjectInfo? = nil) {
        let options = client.options
        let value = storageClass(keeping: source)
        if options.storageClass != nil || value != Self.ordinaryClass && keepsClasses {
            wire.field("x-amz-storage-class", value)
        }
        if let value = options.encryption { wire.field("x-amz-server-side-encryption", value) }
        if let value = options.encryptionKey { wire.field("x-amz-server-side-encryption-aws-kms-key-id", value) }
        if let encryption = source?.encryption, isToName(encryption) {
            wire.fields += S3Encryption.fields(encryption)
        }
        client.addPayer(&wire)
    }

    private var keepsClasses: Bool { !client.profile.refusedOptions.contains("storage_class") }
    private var keepsEncryption: Bool {
        client.options.encryption == nil && !client.profile.refusedOptions.contains("sse")
    }

    /// The ordinary one is named only where the bucket would take another: policies may forbid to name it.
    private func isToName(_ encryption: String) -> Bool {
        guard keepsEncryption else { return false }
        if encryption != S3Encryption.plain { return true }
        return encryptions.withLock { $0.usual.map { $0 != encryption } ?? false }
    }

    func sawEncryption(_ encryption: String?) { encryptions.withLock { $0.read(encryption) } }

    /// A write named no encryption, and got this one.
    func gotEncryption(_ encryption: String?, naming source: ObjectInfo? = nil) {
        guard client.options.encryption == nil, !(source?.encryption.map(isToName) ?? false) else { return }
        encryptions.withLock { $0.wrote(encryption) }
    }

    /// Whether a copy of `source` must name what only a look at it tells.
    func isUnknown(of source: ObjectInfo) -> Bool {
        let lacksClass = source.storageClass == nil && client.options.storageClass == nil && keepsClasses
        // Metadata come with the encryption or not at all.
        let lacksEncryption =
            source.encryption == nil && source.metadata == nil && keepsEncryption
            && encryptions.withLock { $0.mayDiffer }
        return lacksClass || lacksEncryption
    }
}
