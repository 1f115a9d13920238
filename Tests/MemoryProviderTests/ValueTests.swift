import CloudMountVFS
import Foundation
import Testing

/// What a sealed write keeps of the protocol must come back from a file as it was.
@Suite("Values of the provider protocol") struct ValueTests {
    private func again<Value: Codable>(_ value: Value) throws -> Value {
        try JSONDecoder().decode(Value.self, from: JSONEncoder().encode(value))
    }

    @Test("Values survive being written down and read again")
    func codable() throws {
        let metadata = ObjectMetadata(
            contentType: "t/x", modified: Timestamp(seconds: -5, nanoseconds: 999_999_999), user: ["ü": "\u{1}\n"],
            headers: ["expires": "0"], nonce: ObjectMetadata.newNonce())
        // Composed and decomposed are two keys.
        for key in ["caf\u{E9}/\u{7F}", "cafe\u{301}", "a\u{0}b"] as [ObjectKey] {
            let info = ObjectInfo(
                key: key, size: 1 << 50, etag: ETag("\"e\""), stored: Timestamp(seconds: 1),
                storageClass: "STANDARD_IA",
                encryption: "aws:kms k", metadata: metadata)
            #expect(try again(info) == info)
            let upload = Upload(key: key, id: "id", nonce: metadata.nonce)
            #expect(try again(upload) == upload)
        }
        let part = UploadedPart(number: 3, size: 5, tag: "\"t\"")
        #expect(try again(part) == part)
        for precondition in [Precondition.none, .absent, .match(ETag("e"))] {
            #expect(try again(precondition) == precondition)
        }
        #expect(try again(Extent(5, 9)) == Extent(5, 9))
        // Keys and tags are plain strings in what is written.
        #expect(try String(decoding: JSONEncoder().encode([ObjectKey("a b")]), as: UTF8.self) == "[\"a b\"]")
        #expect(try String(decoding: JSONEncoder().encode([ETag("e")]), as: UTF8.self) == "[\"e\"]")
    }

    @Test("A nonce is new each time, and one that stores can keep")
    func nonces() {
        let nonces = (0..<1000).map { _ in ObjectMetadata.newNonce() }
        #expect(Set(nonces).count == 1000)
        #expect(nonces.allSatisfy { ObjectMetadata.isNonce($0) && $0.utf8.count == 26 })
        for text in ["", "a b", "ü", "\n", String(repeating: "n", count: 33)] { #expect(!ObjectMetadata.isNonce(text)) }
    }
}
