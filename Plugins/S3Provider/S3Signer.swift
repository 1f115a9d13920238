import CloudMountCrypto
import CloudMountPlatform
import Glibc

/// AWS Signature Version 4 in headers, for one set of credentials, day and region.
///
/// Made once and kept: deriving the key costs four HMACs, a signature one hash and one HMAC. All of it in bytes: every small
/// request pays for it.
/// Source: "Signature Version 4 signing process", AWS General Reference.
final class S3Signer: Sendable {
    let credentials: S3Credentials
    let region: String
    /// `yyyymmdd`.
    let day: String
    private let key: HMACKey
    /// `20130524/us-east-1/s3/aws4_request`
    private let scope: String
    /// All of the header before the names of the signed headers.
    private let start: String

    init(_ credentials: S3Credentials, region: String, day: String, service: String = "s3") {
        self.credentials = credentials
        self.region = region
        self.day = day
        var key = HMACKey(Array("AWS4\(credentials.secretAccessKey)".utf8))
        for part in [day, region, service, "aws4_request"] { key = HMACKey(key.code(Array(part.utf8))) }
        self.key = key
        scope = "\(day)/\(region)/\(service)/aws4_request"
        start = "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), SignedHeaders="
    }

    struct Field {
        /// Lower case.
        var name: String
        var value: String

        /// By bytes, as headers are signed.
        static func precedes(_ left: Field, _ right: Field) -> Bool {
            var (left, right) = (left.name, right.name)
            return left.withUTF8 { left in
                right.withUTF8 { right in
                    guard let a = left.baseAddress, let b = right.baseAddress else { return left.count < right.count }
                    let order = memcmp(a, b, min(left.count, right.count))
                    return order < 0 || order == 0 && left.count < right.count
                }
            }
        }
    }

    /// The value of the `Authorization` header.
    /// - Parameters:
    ///   - path: escaped, beginning with `/`.
    ///   - query: escaped, its parameters sorted by name, each with `=`.
    ///   - headers: the ones to sign, in order of their names.
    ///   - payloadHash: what `x-amz-content-sha256` says.
    ///   - time: `yyyymmddThhmmssZ` of `day`, what `x-amz-date` says.
    func authorization(
        method: String, path: ArraySlice<UInt8>, query: ArraySlice<UInt8>, headers: [Field], payloadHash: String,
        time: String
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(1024)
        bytes.put(method)
        bytes.append(newline)
        bytes.append(contentsOf: path)
        bytes.append(newline)
        bytes.append(contentsOf: query)
        bytes.append(newline)
        for field in headers {
            bytes.put(field.name)
            bytes.append(0x3A)
            Self.appendTrimmed(field.value, to: &bytes)
            bytes.append(newline)
        }
        bytes.append(newline)
        Self.appendNames(headers, to: &bytes)
        bytes.append(newline)
        bytes.put(payloadHash)

        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: SHA256.digestCount) { digest in
            guard let room = digest.baseAddress else { return }
            var hash = SHA256()
            bytes.withUnsafeBytes { hash.update($0) }
            hash.finish(into: room)
            bytes.removeAll(keepingCapacity: true)
            bytes.put("AWS4-HMAC-SHA256\n")
            bytes.put(time)
            bytes.append(newline)
            bytes.put(scope)
            bytes.append(newline)
            Hex.append(UnsafeBufferPointer(digest), to: &bytes)

            bytes.withUnsafeBytes { key.code($0, into: room) }
            bytes.removeAll(keepingCapacity: true)
            bytes.put(start)
            Self.appendNames(headers, to: &bytes)
            bytes.put(", Signature=")
            Hex.append(UnsafeBufferPointer(digest), to: &bytes)
        }
        return bytes
    }

    private var newline: UInt8 { 0x0A }

    private static func appendNames(_ headers: [Field], to bytes: inout [UInt8]) {
        for index in headers.indices {
            if index > 0 { bytes.append(0x3B) }
            bytes.put(headers[index].name)
        }
    }

    /// Without spaces at the ends, and inner runs of them made one.
    private static func appendTrimmed(_ value: String, to bytes: inout [UInt8]) {
        let start = bytes.count
        var pendingSpace = false
        var value = value
        value.withUTF8 { value in
            // Nearly always.
            if !value.contains(0x20) { return bytes.append(contentsOf: value) }
            for byte in value {
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
}

extension [UInt8] {
    /// The bytes of `text`, behind the others.
    mutating func put(_ text: String) {
        var text = text
        text.withUTF8 { append(contentsOf: $0) }
    }
}
