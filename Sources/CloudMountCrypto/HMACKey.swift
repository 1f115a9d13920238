internal import COpenSSL

/// A key of HMAC-SHA-256 (RFC 2104), ready for many messages: what the key alone decides is hashed once. Wiped from memory
/// at its end.
public final class HMACKey: Sendable {
    private let inner: Wiped
    private let outer: Wiped

    /// A hash that has taken in a secret.
    private final class Wiped: Sendable {
        // SAFETY: changed by `init` and `deinit` alone.
        nonisolated(unsafe) private(set) var hash = SHA256()

        init(_ key: UnsafeMutableRawBufferPointer, _ pad: UInt8) {
            for index in key.indices { key[index] ^= pad }
            hash.update(UnsafeRawBufferPointer(key))
            for index in key.indices { key[index] ^= pad }
        }

        deinit { hash.wipe() }
    }

    public init(_ key: [UInt8]) {
        (inner, outer) = withUnsafeTemporaryAllocation(byteCount: 64, alignment: 16) { block in
            defer { OPENSSL_cleanse(block.baseAddress, block.count) }
            for index in block.indices { block[index] = 0 }
            if key.count <= block.count {
                block.copyBytes(from: key)
            } else if let start = block.assumingMemoryBound(to: UInt8.self).baseAddress {
                var hash = SHA256()
                key.withUnsafeBytes { hash.update($0) }
                hash.finish(into: start)
            }
            return (Wiped(block, 0x36), Wiped(block, 0x5C))
        }
    }

    /// The 32 bytes that prove who knows the key has seen `message`.
    public func code(_ message: [UInt8]) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: SHA256.digestCount) { output, count in
            guard let start = output.baseAddress else { return }
            message.withUnsafeBytes { code($0, into: start) }
            count = SHA256.digestCount
        }
    }

    /// The same, written to the first 32 bytes of `output`.
    public func code(_ message: UnsafeRawBufferPointer, into output: UnsafeMutablePointer<UInt8>) {
        var inner = inner.hash
        inner.update(message)
        inner.finish(into: output)
        var outer = outer.hash
        outer.update(UnsafeRawBufferPointer(start: output, count: SHA256.digestCount))
        outer.finish(into: output)
    }
}
