internal import COpenSSL

/// A private key of the curve P-256, which signs (ECDSA with SHA-256: `ES256` of RFC 7518).
public final class ECKey {
    private let key: OpaquePointer
    /// The public point's coordinates, 32 bytes each.
    public let publicX: [UInt8]
    public let publicY: [UInt8]

    /// - Parameter der: as in a PEM file of `EC PRIVATE KEY` or `PRIVATE KEY`, without its armour.
    /// - Returns: nil when it is no such key.
    public init?(der: [UInt8]) {
        guard der.count < 4096, !der.isEmpty else { return nil }
        let parsed = der.withUnsafeBufferPointer { bytes in
            var start = bytes.baseAddress
            return d2i_AutoPrivateKey(nil, &start, bytes.count)
        }
        guard let parsed else { return nil }
        // The name of the curve tells P-256 from those that only have its length.
        var group = [CChar](repeating: 0, count: 64)
        var point = [UInt8](repeating: 0, count: 65)
        var count = 0
        guard EVP_PKEY_get_group_name(parsed, &group, group.count, nil) == 1,
            String(decoding: group.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) == "prime256v1",
            EVP_PKEY_get_octet_string_param(parsed, "pub", &point, point.count, &count) == 1, count == 65, point[0] == 4
        else {
            EVP_PKEY_free(parsed)
            return nil
        }
        key = parsed
        publicX = Array(point[1..<33])
        publicY = Array(point[33..<65])
    }

    deinit { EVP_PKEY_free(key) }

    /// - Returns: r and s, 32 bytes each; nil when the library cannot.
    public func signature(of bytes: [UInt8]) -> [UInt8]? {
        guard let context = EVP_MD_CTX_new() else { return nil }
        defer { EVP_MD_CTX_free(context) }
        var signature = [UInt8](repeating: 0, count: 128)
        var count = signature.count
        guard EVP_DigestSignInit(context, nil, EVP_sha256(), nil, key) == 1,
            EVP_DigestSign(context, &signature, &count, bytes, bytes.count) == 1
        else { return nil }
        return Self.pair(signature[..<count])
    }

    /// Of a DER sequence of two integers.
    private static func pair(_ der: ArraySlice<UInt8>) -> [UInt8]? {
        var rest = der
        func integer(_ rest: inout ArraySlice<UInt8>) -> [UInt8]? {
            guard rest.popFirst() == 2, let count = rest.popFirst(), count <= 33, rest.count >= Int(count) else {
                return nil
            }
            let digits = rest.prefix(Int(count)).drop { $0 == 0 }
            rest = rest.dropFirst(Int(count))
            guard digits.count <= 32 else { return nil }
            return [UInt8](repeating: 0, count: 32 - digits.count) + digits
        }
        guard rest.popFirst() == 0x30, let length = rest.popFirst(), Int(length) == rest.count, let r = integer(&rest),
            let s = integer(&rest), rest.isEmpty
        else { return nil }
        return r + s
    }
}
