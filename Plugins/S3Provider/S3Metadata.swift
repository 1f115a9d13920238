import CloudMountHTTP
import CloudMountPlatform
import CloudMountVFS

/// Object metadata as header fields, and back.
///
/// `modified` is `x-amz-meta-mtime`, seconds with up to nine decimals, as rclone and s3fs write it.
enum S3Metadata {
    static let prefix = "x-amz-meta-"
    /// Holds `ObjectMetadata.nonce`.
    static let nonce = "cloudmount-nonce"
    static let headers = ["cache-control", "content-disposition", "content-encoding", "content-language", "expires"]

    /// Names and values of `ObjectMetadata.user` together: of S3's 2 KB, `mtime` and the nonce take their share.
    static let limit = 1952
    /// What those two take.
    static let reserve = 96
    /// The same as sent, where what is not US-ASCII is longer.
    private static let wireLimit = 1968

    // MARK: To the wire

    /// - Throws: `invalidArgument` for a name or value that no header can hold.
    static func fields(_ metadata: ObjectMetadata) throws(VFSError) -> [S3Signer.Field] {
        var fields: [S3Signer.Field] = []
        if let type = metadata.contentType { fields.append(try standard("content-type", type)) }
        for name in headers {
            if let value = metadata.headers[name] { fields.append(try standard(name, value)) }
        }
        if let modified = metadata.modified {
            fields.append(S3Signer.Field(name: "x-amz-meta-mtime", value: modified.decimalSeconds))
        }
        if let nonce = metadata.nonce {
            guard ObjectMetadata.isNonce(nonce) else { throw VFSError(.invalidArgument, "“\(nonce)” is no nonce") }
            fields.append(S3Signer.Field(name: prefix + Self.nonce, value: nonce))
        }
        var (given, sent) = (0, 0)
        for (name, value) in metadata.user {
            if name.utf8.elementsEqual(Self.nonce.utf8) { continue }
            if metadata.modified != nil, name.utf8.elementsEqual("mtime".utf8) { continue }
            guard isToken(name) else {
                throw VFSError(.invalidArgument, "metadata name '\(name)' cannot be stored on S3")
            }
            let text = encode(value)
            given += name.utf8.count + value.utf8.count
            sent += name.utf8.count + text.utf8.count
            fields.append(S3Signer.Field(name: prefix + name, value: text))
        }
        let isBare = metadata.modified == nil && metadata.nonce == nil
        guard given <= limit + (isBare ? reserve : 0), sent <= (isBare ? limit + reserve : wireLimit) else {
            throw VFSError(.tooLarge, "S3 keeps at most 2 KB of metadata with an object")
        }
        return fields
    }

    private static func standard(_ name: String, _ value: String) throws(VFSError) -> S3Signer.Field {
        guard isPlain(value) else {
            throw VFSError(.invalidArgument, "\(name) of an object holds characters that no header can")
        }
        return S3Signer.Field(name: name, value: value)
    }

    /// Printable US-ASCII.
    static func isPlain(_ value: String) -> Bool { value.utf8.allSatisfy { 0x20...0x7E ~= $0 } }

    /// What a header name may hold, in lower case.
    private static func isToken(_ name: String) -> Bool {
        !name.isEmpty
            && name.utf8.allSatisfy {
                0x61...0x7A ~= $0 || 0x30...0x39 ~= $0 || "!#$%&'*+-.^_`|~".utf8.contains($0)
            }
    }

    // MARK: From the wire

    static func metadata(_ headers: HTTPHeaders) -> ObjectMetadata {
        var metadata = ObjectMetadata()
        headers.forEach { name, value in
            guard let first = name.first else { return }
            switch first | 0x20 {
            case UInt8(ascii: "x"):
                guard let key = userName(name) else { return }
                let value = String(decoding: value, as: UTF8.self)
                if key.utf8.elementsEqual("mtime".utf8), let time = Timestamp(decimalSeconds: value) {
                    metadata.modified = time
                } else if key.utf8.elementsEqual(Self.nonce.utf8) {
                    metadata.nonce = ObjectMetadata.isNonce(value) ? value : nil
                } else {
                    metadata.user[key] = decode(value)
                }
            case UInt8(ascii: "c"), UInt8(ascii: "e"):
                if isNamed(name, "content-type") {
                    metadata.contentType = String(decoding: value, as: UTF8.self)
                } else if let lower = Self.headers.first(where: { isNamed(name, $0) }),
                    let value = stored(lower, String(decoding: value, as: UTF8.self))
                {
                    metadata.headers[lower] = value
                }
            default: return
            }
        }
        return metadata
    }

    /// - Parameter other: in lower case.
    private static func isNamed(_ name: UnsafeBufferPointer<UInt8>, _ other: String) -> Bool {
        var other = other
        return other.withUTF8 { $0.count == name.count && isLower(name, $0) }
    }

    /// Whether `name` begins with `start`, which is in lower case and not longer.
    private static func isLower(_ name: UnsafeBufferPointer<UInt8>, _ start: UnsafeBufferPointer<UInt8>) -> Bool {
        for index in start.indices {
            let byte = name[index]
            guard (byte &- 65 < 26 ? byte | 32 : byte) == start[index] else { return false }
        }
        return true
    }

    /// Some stores keep `aws-chunked`, the framing of the upload, among the encodings of the content. Nil: nothing is
    /// left.
    private static func stored(_ name: String, _ value: String) -> String? {
        guard name.utf8.elementsEqual("content-encoding".utf8), value.contains("aws-chunked") else { return value }
        let encodings = value.split(separator: ",").map { String($0.filter { $0 != " " }) }
        let own = encodings.filter { !$0.utf8.elementsEqual("aws-chunked".utf8) && !$0.isEmpty }
        return own.isEmpty ? nil : own.joined(separator: ", ")
    }

    private static func userName(_ name: UnsafeBufferPointer<UInt8>) -> String? {
        var prefix = prefix
        return prefix.withUTF8 { prefix in
            guard name.count > prefix.count, isLower(name, prefix) else { return nil }
            return String(decoding: name[prefix.count...], as: UTF8.self).lowercased()
        }
    }

    // MARK: Values

    /// A value goes as it is when it is printable US-ASCII without spaces at its ends or in runs; otherwise what is
    /// not, and every `%`, is percent-encoded. A value that reads like such an encoding is encoded as well, so that
    /// every value comes back as given, and foreign ones (s3fs keeps URL-encoded JSON) are left alone.
    static func encode(_ value: String) -> String {
        let bytes = Array(value.utf8)
        var needed = false
        for index in bytes.indices where isSpecial(bytes, index) || isEscapeOfSpecial(bytes, index) {
            needed = true
            break
        }
        guard needed else { return value }
        var output: [UInt8] = []
        output.reserveCapacity(bytes.count * 2)
        for index in bytes.indices {
            if isSpecial(bytes, index) || bytes[index] == 0x25 {
                output.append(0x25)
                output.append(digit(bytes[index] >> 4))
                output.append(digit(bytes[index] & 15))
            } else {
                output.append(bytes[index])
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    static func decode(_ value: String) -> String {
        guard value.utf8.contains(0x25) else { return value }
        guard let decoded = PercentEncoding.decode(value, plusIsSpace: false),
            encode(decoded).utf8.elementsEqual(value.utf8)
        else { return value }
        return decoded
    }

    private static func isSpecial(_ bytes: [UInt8], _ index: Int) -> Bool {
        switch bytes[index] {
        case 0x20: index == 0 || index == bytes.count - 1 || bytes[index - 1] == 0x20
        case 0x21...0x7E: false
        default: true
        }
    }

    /// Whether `%XX` of something that `encode` would escape stands at `index`.
    private static func isEscapeOfSpecial(_ bytes: [UInt8], _ index: Int) -> Bool {
        guard bytes[index] == 0x25, index + 2 < bytes.count, let high = Hex.value(bytes[index + 1]),
            let low = Hex.value(bytes[index + 2])
        else { return false }
        let byte = high << 4 | low
        return byte <= 0x20 || byte >= 0x7F || byte == 0x25
    }

    private static func digit(_ nibble: UInt8) -> UInt8 { nibble < 10 ? nibble + 0x30 : nibble + 0x37 }
}
