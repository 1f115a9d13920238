import CloudMountHTTP
import Testing

@Suite("Percent-encoding")
struct PercentEncodingTests {
    @Test("Unreserved characters stay, everything else is escaped with upper-case digits")
    func encode() {
        let plain = "ABCXYZabcxyz0189-._~"
        #expect(PercentEncoding.encode(plain, keepSlash: false) == plain)
        #expect(
            PercentEncoding.encode("a/b c+d%e?f#g&h=i\"<>", keepSlash: true)
                == "a/b%20c%2Bd%25e%3Ff%23g%26h%3Di%22%3C%3E")
        #expect(PercentEncoding.encode("/", keepSlash: false) == "%2F")
        #expect(PercentEncoding.encode("é", keepSlash: false) == "%C3%A9")
        #expect(PercentEncoding.encode("e\u{301}", keepSlash: false) == "e%CC%81")
        #expect(PercentEncoding.encode([0xFF, 0x00, 0x2F], keepSlash: true) == "%FF%00/")
        #expect(PercentEncoding.encode("", keepSlash: true) == "")
    }

    @Test("Decoding undoes encoding for every byte")
    func roundTrip() {
        let all = (0...255).map { UInt8($0) }
        let encoded = PercentEncoding.encode(all, keepSlash: false)
        #expect(PercentEncoding.decodeBytes(encoded, plusIsSpace: true) == all)
        #expect(PercentEncoding.decode("%c3%A9+", plusIsSpace: false) == "é+")
        #expect(PercentEncoding.decode("a+b%2B", plusIsSpace: true) == "a b+")
    }

    @Test("What is malformed or not UTF-8 decodes to nothing", arguments: ["%", "a%2", "%zz", "%f", "%C3", "%FF"])
    func malformed(text: String) {
        #expect(PercentEncoding.decode(text, plusIsSpace: false) == nil)
    }
}

@Suite("Headers")
struct HeaderTests {
    @Test("Fields keep their order, and the first of a name is found whatever its case")
    func lookup() {
        var headers = HTTPHeaders()
        #expect(headers.isEmpty && headers["a"] == nil)
        headers.append("ETag", "\"1\"")
        headers.append("x-amz-meta-é", "ü")
        headers.append("etag", "\"2\"")
        headers.append("Empty", "")
        #expect(headers.count == 4)
        #expect(headers["ETAG"] == "\"1\"")
        #expect(headers["x-amz-meta-é"] == "ü")
        #expect(headers["empty"] == "")
        #expect(headers["eta"] == nil && headers["etagg"] == nil)
        #expect(headers.fields.map(\.value) == ["\"1\"", "ü", "\"2\"", ""])
    }
}

@Suite("Loopback")
struct LoopbackTests {
    @Test(
        "Addresses of this machine are told from others",
        arguments: [
            ("http://localhost/x", true), ("http://localhost:8080/x?y", true), ("https://127.0.0.1:1/", true),
            ("http://[::1]:9000/b/k", true), ("http://localhost.example.com/", false), ("http://127.evil.com/", false),
            ("http://10.0.0.1/127.0.0.1", false), ("http://example.com/localhost", false), ("localhost", false),
            ("http://[fe80::1]/", false), ("http://bucket.localhost:9000/k", true), ("http://a.b.localhost", true),
            ("http://localhost.localdomain/", false), ("http://notlocalhost/", false), ("http://.localhost/", false),
            ("http://example.com/.localhost", false), ("http://b.127.0.0.1/", false),
        ])
    func loopback(url: String, isLoopback: Bool) { #expect(Loopback.isHost(ofURL: url) == isLoopback) }
}
