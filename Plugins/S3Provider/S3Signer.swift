import CloudMountPlatform
import Crypto

/// AWS Signature Version 4 in headers, for one set of credentials, day and region.
///
/// Made once and kept: deriving the key costs four HMACs, a signature one hash and one HMAC.
/// Source: "Signature Version 4 signing process", AWS General Reference.
struct S3Signer: Sendable {
    let credentials: S3Credentials
    let region: String
    /// `yyyymmdd`.
    let day: String
    private let key: SymmetricKey
    /// `20130524/us-east-1/s3/aws4_request`
    private let scope: String
    /// All of the header before the names of the signed headers.
    private let start: String

    init(_ credentials: S3Credentials, region: String, day: String, service: String = "s3") {
        self.credentials = credentials
        self.region = region
        self.day = day
        var key = SymmetricKey(data: Array("AWS4\(credentials.secretAccessKey)".utf8))
        for part in [day, region, service, "aws4_request"] {
            key = SymmetricKey(data: HMAC<SHA256>.authenticationCode(for: Array(part.utf8), using: key))
        }
        self.key = key
        scope = "\(day)/\(region)/\(service)/aws4_request"
        start = "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), SignedHeaders="
    }

    struct Field {
        /// Lower case.
        var name: String
        var value: String
    }

    /// The value of the `Authorization` header.
    /// - Parameters:
    ///   - path: escaped, beginning with `/`.
    ///   - query: escaped, its parameters sorted by name, each with `=`.
    ///   - headers: the ones to sign; any order.
    ///   - payloadHash: what `x-amz-content-sha256` says.
    ///   - time: `yyyymmddThhmmssZ` of `day`, what `x-amz-date` says.
    func authorization(
        method: String, path: String, query: String, headers: [Field], payloadHash: String, time: String
    ) -> String {
        var headers = headers
        headers.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(1024)
        bytes += method.utf8
        bytes.append(newline)
        bytes += path.utf8
        bytes.append(newline)
        bytes += query.utf8
        bytes.append(newline)
        for field in headers {
            bytes += field.name.utf8
            bytes.append(0x3A)
            Self.appendTrimmed(field.value, to: &bytes)
            bytes.append(newline)
        }
        bytes.append(newline)
        let names = Self.joined(headers)
        bytes += names.utf8
        bytes.append(newline)
        bytes += payloadHash.utf8
        let canonical = Self.sha256(bytes)

        bytes.removeAll(keepingCapacity: true)
        bytes += "AWS4-HMAC-SHA256\n".utf8
        bytes += time.utf8
        bytes.append(newline)
        bytes += scope.utf8
        bytes.append(newline)
        Hex.append(canonical, to: &bytes)
        let signature = HMAC<SHA256>.authenticationCode(for: bytes, using: key)

        bytes.removeAll(keepingCapacity: true)
        bytes += start.utf8
        bytes += names.utf8
        bytes += ", Signature=".utf8
        Hex.append(signature, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    private var newline: UInt8 { 0x0A }

    static func sha256(_ bytes: [UInt8]) -> SHA256Digest {
        var hasher = SHA256()
        bytes.withUnsafeBytes { hasher.update(bufferPointer: $0) }
        return hasher.finalize()
    }

    private static func joined(_ headers: [Field]) -> String {
        var names: [UInt8] = []
        names.reserveCapacity(128)
        for field in headers {
            if !names.isEmpty { names.append(0x3B) }
            names += field.name.utf8
        }
        return String(decoding: names, as: UTF8.self)
    }

    /// Without spaces at the ends, and inner runs of them made one.
    private static func appendTrimmed(_ value: String, to bytes: inout [UInt8]) {
        let start = bytes.count
        var pendingSpace = false
        for byte in value.utf8 {
            if byte == 0x20 {
                pendingSpace = bytes.count > start
            } else {
                if pendingSpace { bytes.append(0x20) }
                pendingSpace = false
                bytes.append(byte)
            }
        }
    }
}
