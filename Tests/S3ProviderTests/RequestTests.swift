import CloudMountCrypto
import CloudMountHTTP
import CloudMountPlatform
import CloudMountVFS
import TestServers
import Testing

@testable import S3Provider

/// Signatures of odd keys and parameters; the expected values were computed with botocore 1.43.11.
@Suite("Requests on the wire")
struct RequestTests {
    private static let route = S3Route(
        endpoint: S3Endpoint(https: false, host: "[::1]", port: 9000, bucket: "bucket", pathStyle: true),
        region: "eu-west-1")
    private static let signer = S3Signer(
        S3Credentials(
            accessKeyID: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            sessionToken: "token/with+signs=="), region: "eu-west-1", day: "20261123")

    private func http(_ request: S3Request) -> HTTPRequest {
        request.http(
            route: Self.route, signer: Self.signer, payloadHash: S3Payload.empty, time: "20261123T093000Z",
            options: HTTPOptions())
    }

    @Test("Every byte of a key that is not unreserved is escaped once")
    func key() {
        let request = http(S3Request("GetObject", .get, "a b+c%d&e?f#g\"'<>=@:;,!*()[]{}|^`~\\"))
        #expect(
            request.url == "http://[::1]:9000/bucket/a%20b%2Bc%25d%26e%3Ff%23g%22%27%3C%3E%3D%40%3A%3B%2C%21%2A%28%29"
                + "%5B%5D%7B%7D%7C%5E%60~%5C")
        #expect(
            request.headers["authorization"]?.suffix(64)
                == "6a85138ff4c5a273b6fe38cf7db80141333b8898769be7a7e3c398d2f6697864")
    }

    @Test("Paths are not normalised; parameters are escaped and sorted")
    func path() {
        var request = S3Request("UploadPart", .get, "caf\u{E9}/日本\n\u{1}//./../x")
        request.parameter("uploadId", "a/b+c==&\u{E9}")
        request.parameter("partNumber", "1")
        let sent = http(request)
        #expect(
            sent.url == "http://[::1]:9000/bucket/caf%C3%A9/%E6%97%A5%E6%9C%AC%0A%01//./../x"
                + "?partNumber=1&uploadId=a%2Fb%2Bc%3D%3D%26%C3%A9")
        #expect(
            sent.headers["authorization"]?.suffix(64)
                == "14bd8e5d240ad6ad0759eac40d6f29ff6fb22b9dea2b358de4679c11cbfe2eca")
    }

    @Test("Composed and decomposed keys stay apart; headers are signed in order")
    func headers() {
        var request = S3Request("CreateMultipartUpload", .put, "cafe\u{301}")
        request.parameter("uploads")
        request.field("x-amz-meta-b", "two  spaces")
        request.field("content-type", "text/plain")
        request.field("x-amz-meta-a", "1")
        request.field("cache-control", "no-cache")
        let sent = http(request)
        #expect(sent.url == "http://[::1]:9000/bucket/cafe%CC%81?uploads=")
        #expect(
            sent.headers["authorization"]?.suffix(64)
                == "173e7e97a8fbf9da6d24effd0dd1f3171ffa49bdec7c5a8ac9fb350fbc47a140")
        #expect(sent.headers["x-amz-security-token"] == "token/with+signs==")
        #expect(sent.headers["cache-control"] == "no-cache")
    }

    @Test("Without credentials nothing of a signature is sent")
    func anonymous() {
        let request = S3Request("GetObject", .get, "k").http(
            route: Self.route, signer: nil, payloadHash: S3Payload.empty, time: "", options: HTTPOptions())
        #expect(request.headers.isEmpty)
    }

    @Test("A payload is hashed over plain HTTP to other machines, unless told otherwise")
    func payload() async throws {
        let urls = ["http://127.0.0.1:1", "http://[::1]:1", "http://nas:9000", "https://s3.example.com"]
        for (mode, expected) in [
            ("auto", [false, false, true, false]), ("always", [true, true, true, true]),
            ("never", [false, false, false, false]),
        ] {
            let signs = urls.map { url in
                let options = S3Options(
                    ProviderContext(
                        mountName: "m", bucket: "b",
                        options: OptionValues(["endpoint": .string(url), "sign_payload": .string(mode)])))
                return options.endpoint(region: "r").map { options.signsPayload(to: $0) }
            }
            #expect(signs == expected, "\(mode)")
        }
        let hash = Hex.string(SHA256.digest(Array("body".utf8)))
        for (mode, expected) in [("always", hash), ("never", "UNSIGNED-PAYLOAD")] {
            let server = try ScriptedServer { _, _ in ScriptedAnswer(headers: [("ETag", "\"e\"")]) }
            let provider = try provider(server, known.merging(["sign_payload": .string(mode)]) { $1 })
            _ = try await provider.put(PutRequest(key: "k"), from: BytesSource("body"))
            #expect(server.seen.first?.headers["x-amz-content-sha256"] == expected)
            #expect(server.seen.first?.text == "body")
        }
    }

    @Test("Large sources are hashed in pieces to the same value; short ones are an error")
    func pieces() async throws {
        let bytes = [UInt8](unsafeUninitializedCapacity: 20_000_003) { buffer, count in
            for index in 0..<20_000_003 { buffer[index] = UInt8(truncatingIfNeeded: index &* 31) }
            count = 20_000_003
        }
        #expect(try await S3Payload.sha256(BytesSource(bytes)) == Hex.string(SHA256.digest(bytes)))
        #expect(try await S3Payload.sha256(BytesSource([])) == S3Payload.empty)
        for count in [10, 500_000] {
            let error = await #expect(throws: VFSError.self) { try await S3Payload.sha256(Short(count: count)) }
            #expect(error?.code == .io)
        }
    }

    private struct Short: ByteSource {
        var count: Int
        func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
            min(buffer.count, max(0, count - 1 - offset))
        }
    }

    @Test("MD5 is base64", arguments: [("", "1B2M2Y8AsgTpgAmY7PhCfg=="), ("a", "DMF1ucDxtqgxw5niaXcmYQ==")])
    func md5(text: String, expected: String) { #expect(S3Payload.md5(Array(text.utf8)) == expected) }

    @Test(
        "Base64 of every length",
        arguments: [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")])
    func base64(text: String, expected: String) { #expect(Base64.encode(Array(text.utf8)) == expected) }
}
