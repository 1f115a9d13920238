import TestSeeds
import Testing

@testable import CloudMountHTTP

@Suite("Damaged headers")
struct DamageTests {
    @Test("Any line of a head is a field or none")
    func headers() {
        let head =
            "ETag: \"a\"\r\nContent-Length: 10\r\ncontent-range: bytes 5-14/100\r\nX-Amz-Meta-Mode:\t0100644 \r\n\r\n"
        var good = 0
        for bytes in Damage([head], marks: ":\r\n \t-/,\"bytes", count: 12_000) {
            var headers = HTTPHeaders()
            for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
                line.withUnsafeBufferPointer { headers.append(line: $0) }
            }
            _ = headers.fields.map { headers[$0.name] }
            if let length = headers.number("content-length") {
                good += 1
                #expect(length >= 0)
            }
        }
        #expect(good > 100)
    }

    @Test("What is percent-encoded is decoded to text or to nothing")
    func percent() {
        for bytes in Damage(["a%2Fb%C3%BC+c", "%F0%9F%9A%80%"], marks: "%+aF0", count: 6000) {
            let text = String(decoding: bytes, as: UTF8.self)
            if let decoded = PercentEncoding.decode(text, plusIsSpace: true) {
                #expect(
                    PercentEncoding.decode(PercentEncoding.encode(decoded, keepSlash: true), plusIsSpace: true)
                        == decoded)
            }
        }
    }
}
