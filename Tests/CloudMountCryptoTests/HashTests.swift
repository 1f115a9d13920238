import CloudMountCrypto
import CloudMountPlatform
import Testing

/// By the examples of FIPS 180-4, RFC 1321, RFC 2202 and RFC 4231.
@Suite("Hashes")
struct HashTests {
    private static let abc = Array("abc".utf8)

    @Test("SHA-256, SHA-1 and MD5 of published messages")
    func published() {
        #expect(
            Hex.string(SHA256.digest(Self.abc)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(Hex.string(SHA256.digest([])) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(Hex.string(SHA1.digest(Self.abc)) == "a9993e364706816aba3e25717850c26c9cd0d89d")
        #expect(Hex.string(SHA1.digest([])) == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
        #expect(Hex.string(MD5.digest(Self.abc)) == "900150983cd24fb0d6963f7d28e17f72")
        #expect(Hex.string(MD5.digest([])) == "d41d8cd98f00b204e9800998ecf8427e")
    }

    private func inPieces<Hash: Hashing>(_ hash: Hash, _ bytes: [UInt8], _ step: Int) -> [UInt8] {
        var hash = hash
        bytes.withUnsafeBytes { bytes in
            for start in stride(from: 0, to: bytes.count, by: step) {
                hash.update(UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + step, bytes.count)]))
            }
        }
        return hash.finish()
    }

    @Test("Pieces of any length give the digest of the whole", arguments: [1, 7, 63, 64, 65, 1000])
    func pieces(_ step: Int) {
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        #expect(inPieces(SHA256(), bytes, step) == SHA256.digest(bytes))
        #expect(inPieces(SHA1(), bytes, step) == SHA1.digest(bytes))
        #expect(inPieces(MD5(), bytes, step) == MD5.digest(bytes))
    }

    @Test("A copy goes on by itself")
    func copies() {
        var hash = SHA1()
        Self.abc.withUnsafeBytes { hash.update($0) }
        var other = hash
        Self.abc.withUnsafeBytes { other.update($0) }
        #expect(hash.finish() == SHA1.digest(Self.abc))
        #expect(other.finish() == SHA1.digest(Self.abc + Self.abc))
    }

    @Test("HMAC-SHA-256 of RFC 4231, with keys shorter and longer than a block")
    func hmac() {
        let jefe = HMACKey(Array("Jefe".utf8))
        let question = Array("what do ya want for nothing?".utf8)
        // Twice: a key serves many messages.
        for _ in 0..<2 {
            #expect(
                Hex.string(jefe.code(question)) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        }
        let long = HMACKey([UInt8](repeating: 0xAA, count: 131))
        #expect(
            Hex.string(long.code(Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8)))
                == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    }
}
