import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import CloudMountXML
import TestSeeds
import Testing

@testable import S3Provider

/// Answers of a store's that are none, and files that are: each gives an error or a value.
@Suite("Damaged answers")
struct DamageTests {
    @Test("Listings and errors in XML")
    func xml() {
        let samples = [
            """
            <?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><IsTruncated>true\
            </IsTruncated><NextMarker>d/k</NextMarker><NextContinuationToken>t</NextContinuationToken><EncodingType>url</EncodingType>\
            <Contents><Key>d/%C3%BC+k</Key><Size>12345</Size><ETag>&quot;0123456789abcdef0123456789abcdef-12&quot;</ETag>\
            <LastModified>2026-11-01T10:10:10.123Z</LastModified></Contents><CommonPrefixes><Prefix>d/e/</Prefix></CommonPrefixes>\
            </ListBucketResult>
            """,
            "<Error><Code>SlowDown</Code><Message>Because.</Message><Region>eu-1</Region><RequestId>R1</RequestId></Error>",
        ]
        let request = ListRequest(prefix: "d/", delimited: true)
        var pages = 0
        for bytes in Damage(samples, marks: "<>/&;#x?!-[]'\"= \n%+TZ:.", count: 6000) {
            _ = S3ErrorBody(bytes)
            let parser = ListParser()
            guard (try? XMLReader().read(bytes, into: parser)) != nil else { continue }
            for version in [1, 2] {
                guard let page = parser.page(request, version: version) else { continue }
                pages += 1
                #expect(page.objects.allSatisfy { $0.key.hasPrefix("d/") && 0...ObjectInfo.sizeLimit ~= $0.size })
            }
        }
        #expect(pages > 100)
    }

    @Test("Metadata in headers, and times")
    func metadata() {
        let samples = [
            "1795426200.123456789", "0100644", "=?UTF-8?B?w7w=?=", "=?UTF-8?Q?=C3=BC?=", "text/plain; charset=utf-8",
            "%C3%BC",
            "2026-11-01T10:10:10.123+01:30", "Sun, 01 Nov 2026 10:10:10 GMT",
        ]
        let names = [
            "x-amz-meta-mtime", "x-amz-meta-mode", "X-Amz-Meta-cloudmount-nonce", "content-type", "x-amz-meta-a",
        ]
        let values = Array(Damage(samples, marks: "=?%BQ.,:+-TZ \t", count: 8000)).map {
            String(decoding: $0, as: UTF8.self)
        }
        for index in 0..<values.count - names.count {
            var headers = HTTPHeaders()
            for (offset, name) in names.enumerated() { headers.append(name, values[index + offset]) }
            let metadata = S3Metadata.metadata(headers)
            #expect(metadata.nonce.map(ObjectMetadata.isNonce) ?? true)
            _ = try? S3Metadata.fields(metadata)
            for time in [WireDate.iso8601(values[index]), WireDate.http(values[index])] {
                _ = time.map { WireDate.basic($0.seconds) }
            }
        }
    }

    @Test("Files of credentials, and what programs print")
    func credentials() {
        let samples = [
            "[default]\naws_access_key_id = AKID\naws_secret_access_key=S\n[profile \"a b\"]\ncredential_process = /x 'y z' \\\"q\n",
            #"{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "T", "Expiration": "2026-11-01T10:10:10Z"}"#,
        ]
        for bytes in Damage(samples, marks: "[]=#;\"'\\{}:, \n\r\t", count: 3000) {
            let text = String(decoding: bytes, as: UTF8.self)
            var files = S3SharedFiles()
            try? files.take(config: text, fault: nil)
            try? files.take(credentials: text, fault: nil)
            let service = S3CredentialService("x", caFile: nil)
            _ = try? GivenCredentials.parse(bytes, by: service, hiding: ["secret of 16 and more"])
            _ = SSOCredentials.parse(bytes)
            _ = LoginToken.parse(bytes)
            _ = ProcessCredentials.words(text)
            _ = try? ProcessCredentials.parse(bytes, of: "x")
        }
    }
}
