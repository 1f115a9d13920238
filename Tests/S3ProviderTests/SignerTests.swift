import CloudMountCrypto
import CloudMountPlatform
import Testing

@testable import S3Provider

/// The published examples of the Amazon S3 documentation ("Authenticating Requests: Using the Authorization Header")
/// and of the Signature Version 4 test suite.
@Suite("Signature Version 4")
struct SignerTests {
    private static let s3 = S3Signer(
        S3Credentials(
            accessKeyID: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        region: "us-east-1", day: "20130524")

    private static let suite = S3Signer(
        S3Credentials(accessKeyID: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        region: "us-east-1", day: "20150830", service: "service")

    private func signature(
        _ signer: S3Signer, _ method: String, _ path: String, _ query: String = "", _ headers: [(String, String)],
        hash: String = S3Payload.empty, time: String
    ) -> (signature: String, header: String) {
        let header = signer.authorization(
            method: method, path: Array(path.utf8)[...], query: Array(query.utf8)[...],
            headers: headers.map { S3Signer.Field(name: $0.0, value: $0.1) }.sorted(by: S3Signer.Field.precedes),
            payloadHash: hash, time: time)
        return (String(decoding: header.suffix(64), as: UTF8.self), String(decoding: header, as: UTF8.self))
    }

    @Test("GET of a range")
    func get() {
        let result = signature(
            Self.s3, "GET", "/test.txt", "",
            [
                ("host", "examplebucket.s3.amazonaws.com"), ("range", "bytes=0-9"),
                ("x-amz-content-sha256", S3Payload.empty), ("x-amz-date", "20130524T000000Z"),
            ], time: "20130524T000000Z")
        #expect(
            result.header
                == "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
                + "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
                + "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
    }

    @Test("PUT with a body, the order of headers does not matter")
    func put() {
        let hash = Hex.string(SHA256.digest(Array("Welcome to Amazon S3.".utf8)))
        #expect(hash == "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072")
        let headers = [
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"), ("x-amz-date", "20130524T000000Z"),
            ("host", "examplebucket.s3.amazonaws.com"), ("x-amz-content-sha256", hash),
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        ]
        let result = signature(
            Self.s3, "PUT", "/test%24file.text", "", headers, hash: hash, time: "20130524T000000Z")
        #expect(result.signature == "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")
    }

    @Test(
        "GET of the bucket with parameters",
        arguments: [
            ("lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ])
    func bucket(query: String, expected: String) {
        let result = signature(
            Self.s3, "GET", "/", query,
            [
                ("host", "examplebucket.s3.amazonaws.com"), ("x-amz-content-sha256", S3Payload.empty),
                ("x-amz-date", "20130524T000000Z"),
            ], time: "20130524T000000Z")
        #expect(result.signature == expected)
    }

    @Test(
        "Cases of the test suite",
        arguments: [
            ("GET", "/", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "/", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "GET", "/", "Param1=value1&Param2=value2",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
            ),
            (
                "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "",
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"
            ),
        ])
    func suiteCases(method: String, path: String, query: String, expected: String) {
        let result = signature(
            Self.suite, method, path, query, [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")],
            time: "20150830T123600Z")
        #expect(result.signature == expected)
    }

    @Test("Values are trimmed and runs of spaces made one")
    func trimmed() {
        let result = signature(
            Self.suite, "GET", "/", "",
            [
                ("host", "example.amazonaws.com"), ("my-header1", " value1"), ("my-header2", " \"a   b   c\""),
                ("x-amz-date", "20150830T123600Z"),
            ], time: "20150830T123600Z")
        #expect(result.signature == "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736")
    }

    @Test("Nothing printed of credentials shows the secret")
    func secrecy() {
        let credentials = S3Credentials(
            accessKeyID: "AKID", secretAccessKey: "hush-secret", sessionToken: "hush-token")
        var dumped = ""
        dump(credentials, to: &dumped)
        dump(S3CredentialAnswer(credentials: credentials), to: &dumped)
        let texts = [
            "\(credentials)", String(reflecting: credentials), dumped, "\(StaticCredentials(credentials: credentials))",
            String(reflecting: S3CredentialAnswer(credentials: credentials)),
        ]
        for text in texts { #expect(!text.contains("hush")) }
    }
}
