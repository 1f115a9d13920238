internal import COpenSSL

/// A hash that takes its bytes piece by piece. A value: a copy goes on by itself.
public protocol Hashing: Sendable {
    /// Bytes of a digest.
    static var digestCount: Int { get }

    init()
    mutating func update(_ bytes: UnsafeRawBufferPointer)
    /// Writes the digest of all bytes to the first `digestCount` of `output`, which has room for it. Ends the hash.
    mutating func finish(into output: UnsafeMutablePointer<UInt8>)
}

extension Hashing {
    /// The digest of all bytes. Ends the hash.
    public mutating func finish() -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: Self.digestCount) { output, count in
            guard let start = output.baseAddress else { return }
            finish(into: start)
            count = Self.digestCount
        }
    }

    public mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

    public static func digest(_ bytes: [UInt8]) -> [UInt8] {
        bytes.withUnsafeBytes { digest($0) }
    }

    public static func digest(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var hash = Self()
        hash.update(bytes)
        return hash.finish()
    }
}

public struct SHA256: Hashing {
    public static let digestCount = 32
    private var state = SHA256_CTX()

    public init() { SHA256_Init(&state) }
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        SHA256_Update(&state, bytes.baseAddress, bytes.count)
    }
    public mutating func finish(into output: UnsafeMutablePointer<UInt8>) { SHA256_Final(output, &state) }

    mutating func wipe() { OPENSSL_cleanse(&state, MemoryLayout.size(ofValue: state)) }
}

/// Not for anything that somebody could gain by forging.
public struct SHA1: Hashing {
    public static let digestCount = 20
    private var state = SHA_CTX()

    public init() { SHA1_Init(&state) }
    public mutating func update(_ bytes: UnsafeRawBufferPointer) { SHA1_Update(&state, bytes.baseAddress, bytes.count) }
    public mutating func finish(into output: UnsafeMutablePointer<UInt8>) { SHA1_Final(output, &state) }
}

/// Not for anything that somebody could gain by forging.
public struct MD5: Hashing {
    public static let digestCount = 16
    private var state = MD5_CTX()

    public init() { MD5_Init(&state) }
    public mutating func update(_ bytes: UnsafeRawBufferPointer) { MD5_Update(&state, bytes.baseAddress, bytes.count) }
    public mutating func finish(into output: UnsafeMutablePointer<UInt8>) { MD5_Final(output, &state) }
}
