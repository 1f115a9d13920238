import CloudMountHTTP
import CloudMountKit

/// What the mount asks B2 to encrypt with.
enum B2Encryption: Sendable {
    /// The bucket's default.
    case bucket
    /// SSE-B2: keys that Backblaze keeps.
    case managed
    /// SSE-C: a key that goes along with every request that touches bytes.
    case customer(B2CustomerKey)

    /// For an upload in one request.
    func addUploadHeaders(to headers: inout HTTPHeaders) {
        switch self {
        case .bucket: break
        case .managed: headers.append("X-Bz-Server-Side-Encryption", "AES256")
        case .customer: addKeyHeaders(to: &headers)
        }
    }

    /// For a part and for a download.
    func addKeyHeaders(to headers: inout HTTPHeaders) {
        guard case .customer(let key) = self else { return }
        headers.append("X-Bz-Server-Side-Encryption-Customer-Algorithm", "AES256")
        headers.append("X-Bz-Server-Side-Encryption-Customer-Key", key.base64)
        headers.append("X-Bz-Server-Side-Encryption-Customer-Key-Md5", key.md5)
    }

    /// For what is made by a call: nil where nothing is asked for.
    /// - Parameter kept: how the source of a copy is encrypted.
    func destination(keeping kept: String? = nil) -> JSONObject? {
        switch self {
        case .bucket: return kept == Self.managedName ? Self.managedObject : nil
        case .managed: return Self.managedObject
        case .customer: return source
        }
    }

    /// B2's word for SSE-B2.
    static let managedName = "SSE-B2"

    private static var managedObject: JSONObject {
        var object = JSONObject()
        object.add("mode", managedName)
        object.add("algorithm", "AES256")
        return object
    }

    /// What the headers of a download say, in the words of `B2File.encryption`.
    static func told(_ headers: HTTPHeaders) -> String? {
        if headers["x-bz-server-side-encryption-customer-algorithm"] != nil { return "SSE-C" }
        return headers["x-bz-server-side-encryption"] == nil ? nil : managedName
    }

    /// For what is read by a call: nil where B2 has the key.
    var source: JSONObject? {
        guard case .customer(let key) = self else { return nil }
        var object = JSONObject()
        object.add("mode", "SSE-C")
        object.add("algorithm", "AES256")
        object.add("customerKey", key.base64)
        object.add("customerKeyMd5", key.md5)
        return object
    }

    /// Whether what is written is encrypted by the mount's wish.
    var isOn: Bool { if case .bucket = self { false } else { true } }

    /// The name of the key, as B2's tools note it beside a file.
    var keyID: String? { if case .customer(let key) = self { key.id } else { nil } }
}
