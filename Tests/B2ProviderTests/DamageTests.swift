import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import TestSeeds
import Testing

@testable import B2Provider

/// Answers of B2's that are none: each gives an error or a value.
@Suite("Damaged answers")
struct DamageTests {
    private static let info =
        #"{"src_last_modified_millis": "1795426200123", "mtime": "1795426200.123456789", "mode": "0100644"}"#
    private static let marks = "{}[]:,\"\\u/bfnrteE+-.0truefalsnl \n%=&"

    @Test("Files, logins and errors in JSON")
    func json() {
        let samples = [
            file(
                "a/\\u00fc\\ud83d\\ude80", id: "4_z", size: 12_345, sha1: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
                info: Self.info),
            """
            {"accountId": "acc", "authorizationToken": "t", "apiInfo": {"storageApi": {"apiUrl": "http://h/", "downloadUrl": "u",
             "recommendedPartSize": 100000000, "absoluteMinimumPartSize": 5000000, "allowed": {"capabilities": ["listFiles"],
             "buckets": [{"id": "b", "name": null}], "namePrefix": ""}}}}
            """,
            "{\"status\": 400, \"code\": \"bad_request\", \"message\": \"Because.\", \"x\": [1, [2.5e3, {\"a\": null}], true]}",
        ]
        var whole = 0
        for bytes in Damage(samples, marks: Self.marks, count: 9000) {
            _ = B2Authorisation(bytes)
            _ = B2ErrorBody(bytes)
            let read = JSONReader.read(bytes) { reader throws(JSONError) in try B2File.read(&reader, listed: true) }
            guard let file = read ?? nil else { continue }
            whole += 1
            let object = file.object(B2Names.key(file.name) ?? "k")
            #expect(0...ObjectInfo.sizeLimit ~= object.size)
            _ = object.metadata?.modified?.milliseconds
        }
        #expect(whole > 100)
    }

    @Test("File information, of listings and of headers")
    func fileInfo() {
        let samples = [
            "1795426200123", "-1.5", "1795426200.123456789", "a=b&c=%C3%BC&mtime=5&src_last_modified_millis=9",
            "0100644",
        ]
        let names = [
            B2FileInfo.millis, B2FileInfo.exactTime, B2FileInfo.more, B2FileInfo.nonce, B2FileInfo.session, "mode",
            "b2-expires",
        ]
        let values = Array(Damage(samples, marks: Self.marks, count: 8000)).map { String(decoding: $0, as: UTF8.self) }
        for index in stride(from: 0, to: values.count - names.count, by: 2) {
            var info: [String: String] = [:]
            var headers = HTTPHeaders()
            for (offset, name) in names.enumerated() {
                info[name] = values[index + offset]
                headers.append("X-Bz-Info-\(name)", values[index + offset])
            }
            for metadata in [B2FileInfo.metadata(info, contentType: nil), B2FileInfo.metadata(headers)] {
                #expect(metadata.nonce.map(ObjectMetadata.isNonce) ?? true)
                _ = try? B2FileInfo.entries(metadata, name: "k", isProtected: index % 4 == 0)
            }
        }
    }
}
