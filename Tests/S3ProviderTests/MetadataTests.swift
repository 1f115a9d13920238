import CloudMountHTTP
import CloudMountVFS
import Testing

@testable import S3Provider

@Suite("Metadata")
struct MetadataTests {
    @Test(
        "What headers can hold goes as it is; what they cannot is percent-encoded",
        arguments: [
            ("plain", "plain"), ("", ""), ("50%", "50%"), ("%41", "%41"), ("%7B%22a%22%7D", "%7B%22a%22%7D"),
            ("caf\u{E9}", "caf%C3%A9"), ("100% caf\u{E9}", "100%25 caf%C3%A9"), ("a\nb", "a%0Ab"), (" a", "%20a"),
            ("a ", "a%20"), ("a  b", "a %20b"), ("%C3%A9", "%25C3%25A9"), ("%25", "%2525"), ("%0a", "%250a"),
            ("\u{7F}", "%7F"),
        ])
    func values(value: String, wire: String) {
        #expect(S3Metadata.encode(value) == wire)
        #expect(Array(S3Metadata.decode(wire).utf8) == Array(value.utf8))
    }

    @Test(
        "Foreign values are left as they are",
        arguments: ["%7B%22user.a%22%3A%22eA%3D%3D%22%7D", "%zz", "%", "%FF", "a%2"])
    func foreign(value: String) { #expect(S3Metadata.decode(value) == value) }

    @Test("Every value comes back as given, and needs nothing that a header cannot hold")
    func random() {
        let seed = UInt64.random(in: .min ... .max)
        print("seed \(seed)")
        var state = seed
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        let pieces = [
            "%", "2", "5", "C", "3", "a9", " ", "x", "\u{E9}", "\n", "\u{301}", "\u{1F600}", "\u{7F}", "=", "%25",
        ]
        for _ in 0..<20_000 {
            let value = (0..<next(9)).map { _ in pieces[next(pieces.count)] }.joined()
            let wire = S3Metadata.encode(value)
            #expect(S3Metadata.isPlain(wire))
            #expect(wire.first != " " && wire.last != " " && !wire.contains("  "))
            #expect(Array(S3Metadata.decode(wire).utf8) == Array(value.utf8), "\(value.debugDescription)")
        }
    }

    @Test(
        "Times are seconds with nine decimals or none",
        arguments: [
            (Timestamp(seconds: 1_595_002_920, nanoseconds: 123_456_789), "1595002920.123456789"),
            (Timestamp(seconds: 1_595_002_920), "1595002920"),
            (Timestamp(seconds: 5, nanoseconds: 7), "5.000000007"),
            (Timestamp(seconds: -1, nanoseconds: 500_000_000), "-0.500000000"),
            (Timestamp(seconds: -2, nanoseconds: 1), "-1.999999999"), (Timestamp(seconds: -7), "-7"),
        ])
    func times(time: Timestamp, text: String) {
        #expect(time.decimalSeconds == text)
        #expect(Timestamp(decimalSeconds: text) == time)
    }

    @Test(
        "Other writers' times are read",
        arguments: [
            ("1595002920.5", Timestamp(seconds: 1_595_002_920, nanoseconds: 500_000_000)),
            ("1595002920.1234567891234", Timestamp(seconds: 1_595_002_920, nanoseconds: 123_456_789)),
            ("12.", Timestamp(seconds: 12)), ("", nil), (".5", nil), ("1e9", nil), ("2020-07-17T16:22:00Z", nil),
            ("99999999999999999999", nil), ("1.5x", nil), ("-", nil),
        ] as [(String, Timestamp?)])
    func foreignTimes(text: String, time: Timestamp?) { #expect(Timestamp(decimalSeconds: text) == time) }

    @Test("All of it goes out and comes back")
    func roundTrip() throws {
        let given = ObjectMetadata(
            contentType: "text/plain; charset=utf-8", modified: Timestamp(seconds: 5, nanoseconds: 7),
            user: ["mode": "33188", "name": "caf\u{E9}", "empty": "", "mtime": "hidden by modified"],
            headers: [
                "cache-control": "no-cache", "content-encoding": "gzip", "expires": "Wed, 21 Oct 2015 07:28:00 GMT",
            ])
        var headers = HTTPHeaders()
        for field in try S3Metadata.fields(given) { headers.append(field.name.uppercased(), field.value) }
        headers.append("X-Amz-Request-Id", "r")
        headers.append("Content-Length", "3")
        headers.append("ETag", "\"e\"")
        var expected = given
        expected.user["mtime"] = nil
        #expect(S3Metadata.metadata(headers) == expected)
    }

    @Test(
        "The framing of an upload is no encoding of the content",
        arguments: [
            ("aws-chunked", nil), ("gzip, aws-chunked", "gzip"), ("aws-chunked,br,gzip", "br, gzip"), ("gzip", "gzip"),
        ]
            as [(String, String?)])
    func chunked(value: String, expected: String?) {
        var headers = HTTPHeaders()
        headers.append("Content-Encoding", value)
        #expect(S3Metadata.metadata(headers).headers["content-encoding"] == expected)
    }

    @Test("A time that cannot be read stays what it is")
    func unreadableTime() {
        var headers = HTTPHeaders()
        headers.append("x-amz-meta-mtime", "tomorrow")
        let metadata = S3Metadata.metadata(headers)
        #expect(metadata.modified == nil)
        #expect(metadata.user == ["mtime": "tomorrow"])
    }

    @Test(
        "Names and standard values that no header can hold are refused",
        arguments: [
            ObjectMetadata(user: ["a b": "x"]), ObjectMetadata(user: ["": "x"]), ObjectMetadata(user: ["a\r\nb": "x"]),
            ObjectMetadata(user: ["Upper": "x"]), ObjectMetadata(contentType: "a\r\nx-evil: 1"),
            ObjectMetadata(headers: ["cache-control": "caf\u{E9}"]),
        ])
    func refused(metadata: ObjectMetadata) {
        let error = #expect(throws: VFSError.self) { try S3Metadata.fields(metadata) }
        #expect(error?.code == .invalidArgument)
    }

    @Test("More than S3 keeps is refused, also when only its encoding is too long")
    func tooLarge() throws {
        let nonce = ObjectMetadata.newNonce()
        for (limit, nonce) in [(S3Metadata.limit, nonce), (S3Metadata.limit + S3Metadata.reserve, nil)] {
            func fields(_ value: String) throws {
                _ = try S3Metadata.fields(ObjectMetadata(user: ["k": value], nonce: nonce))
            }
            try fields(String(repeating: "v", count: limit - 1))
            for value in [String(repeating: "v", count: limit), String(repeating: "\u{E9}", count: 900)] {
                let error = #expect(throws: VFSError.self) { try fields(value) }
                #expect(error?.code == .tooLarge)
            }
        }
    }
}
