import CloudMountVFS
import CloudMountXML
import TestServers
import Testing

@testable import S3Provider

@Suite("Listings")
struct ListTests {
    private func list(
        _ body: String, _ request: ListRequest = ListRequest(prefix: "", delimited: true),
        _ options: [String: OptionValue] = [:]
    ) async throws -> (ListPage, SeenRequest?) {
        let server = try ScriptedServer { _, _ in .xml(body) }
        let page = try await provider(server, known.merging(options) { $1 }).list(request)
        return (page, server.seen.first)
    }

    private func entry(_ key: String, _ rest: String = "<Size>1</Size>") -> String {
        "<Contents><Key>\(key)</Key><LastModified>2026-11-05T10:10:10.123Z</LastModified><ETag>&quot;e&quot;</ETag>"
            + "\(rest)</Contents>"
    }

    @Test("Objects carry key, size, ETag, time and storage class; prefixes come apart")
    func fields() async throws {
        let (page, seen) = try await list(
            """
            <?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>p/</Prefix>
            <KeyCount>3</KeyCount><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><EncodingType>url</EncodingType>
            <IsTruncated>true</IsTruncated><NextContinuationToken>tok+en/==</NextContinuationToken>
            \(entry("p%2Fa+b%2Bc%25", "<Size>5368709121</Size><Owner><ID>x</ID><DisplayName>Key</DisplayName></Owner>"
                + "<StorageClass>STANDARD_IA</StorageClass><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"))
            \(entry("p/", "<Size>0</Size><StorageClass>STANDARD</StorageClass>"))
            <CommonPrefixes><Prefix>p/d%20x/</Prefix></CommonPrefixes></ListBucketResult>
            """, ListRequest(prefix: "p/", delimited: true, continuation: "before+", limit: 7))
        #expect(page.objects.map(\.key) == ["p/a b+c%", "p/"])
        #expect(page.objects.map(\.size) == [5_368_709_121, 0])
        #expect(page.objects.map(\.storageClass) == ["STANDARD_IA", "STANDARD"])
        #expect(page.objects.allSatisfy { $0.etag == ETag("e") && $0.metadata == nil })
        #expect(page.objects.first?.stored == Timestamp(seconds: 1_793_873_410, nanoseconds: 123_000_000))
        #expect(page.commonPrefixes == ["p/d x/"])
        #expect(page.continuation == "tok+en/==")
        #expect(
            seen?.query
                == "continuation-token=before%2B&delimiter=%2F&encoding-type=url&list-type=2&max-keys=7&prefix=p%2F")
    }

    @Test("A long page is read as a short one is; one of far more entries than were asked for is refused")
    func manyEntries() async throws {
        let name = String(repeating: "n", count: 200)
        for isFolder in [false, true] {
            func body(_ count: Int) -> String {
                let entries = (0..<count).map {
                    isFolder
                        ? "<CommonPrefixes><Prefix>\(name)\(10_000 + $0)/</Prefix></CommonPrefixes>"
                        : entry("\(name)\(10_000 + $0)")
                }
                return "<ListBucketResult><Name>b</Name>\(entries.joined())</ListBucketResult>"
            }
            let page = try await list(body(4000)).0
            #expect(page.objects.count + page.commonPrefixes.count == 4000)
            let last = isFolder ? page.commonPrefixes.last?.string : page.objects.last?.key.string
            #expect(last?.contains("13999") ?? false)
            let error = await #expect(throws: VFSError.self) { try await list(body(11_000)) }
            #expect(error?.code == .malformedResponse)
        }
        let cut = "<ListBucketResult>" + String(repeating: entry(name), count: 4000)
        let error = await #expect(throws: VFSError.self) { try await list(cut) }
        #expect(error?.code == .corrupted)
    }

    @Test("An impossible size is the largest that there is")
    func impossibleSize() async throws {
        let page = try await list(
            "<ListBucketResult>\(entry("k", "<Size>9223372036854775807</Size>"))</ListBucketResult>"
        ).0
        #expect(page.objects.map(\.size) == [ObjectInfo.sizeLimit])
    }

    @Test("Keys are decoded only when the answer says that they are encoded, wherever it says so")
    func encoding() async throws {
        let plain = try await list("<ListBucketResult>\(entry("a+b%20"))</ListBucketResult>").0
        #expect(plain.objects.map(\.key) == ["a+b%20"])
        let late = try await list(
            "<ListBucketResult>\(entry("a+b%20%0a%01"))<EncodingType>url</EncodingType></ListBucketResult>"
        ).0
        #expect(late.objects.map(\.key) == ["a b \n\u{1}"])
        let broken = try await list(
            "<ListBucketResult><EncodingType>url</EncodingType>\(entry("50%"))\(entry("%zz"))</ListBucketResult>"
        ).0
        #expect(broken.objects.map(\.key) == ["50%", "%zz"])
    }

    @Test("Keys are bytes: composed and decomposed stay apart, what is not UTF-8 is left out")
    func bytes() async throws {
        let page = try await list(
            "<ListBucketResult><EncodingType>url</EncodingType>\(entry("caf%C3%A9"))\(entry("cafe%CC%81"))"
                + "\(entry("%FF"))</ListBucketResult>"
        ).0
        #expect(page.objects.map(\.key) == [ObjectKey("caf\u{E9}"), ObjectKey("cafe\u{301}")])
    }

    @Test("What does not begin with the prefix is not passed on")
    func prefix() async throws {
        let page = try await list(
            "<ListBucketResult>\(entry("p/a"))\(entry("q/a"))<CommonPrefixes><Prefix>q/</Prefix></CommonPrefixes>"
                + "<CommonPrefixes><Prefix>p/x</Prefix></CommonPrefixes></ListBucketResult>",
            ListRequest(prefix: "p/", delimited: true)
        ).0
        #expect(page.objects.map(\.key) == ["p/a"])
        #expect(page.commonPrefixes.isEmpty)
    }

    @Test("Version 1 goes on by marker: the one given, or the last name of the page")
    func versionOne() async throws {
        let options = ["list_version": OptionValue.string("1")]
        let (given, seen) = try await list(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextMarker>m</NextMarker>\(entry("a"))"
                + "</ListBucketResult>",
            ListRequest(prefix: "", delimited: true, continuation: "before"), options)
        #expect(given.continuation == "m")
        #expect(seen?.query == "delimiter=%2F&encoding-type=url&marker=before&max-keys=1000&prefix=")
        let last = try await list(
            "<ListBucketResult><IsTruncated>true</IsTruncated>\(entry("a"))\(entry("b"))"
                + "<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes></ListBucketResult>",
            ListRequest(prefix: "", delimited: true), options
        ).0
        #expect(last.continuation == "c/")
    }

    @Test("A limit of nothing asks nothing")
    func nothing() async throws {
        let (page, seen) = try await list("", ListRequest(prefix: "", delimited: false, limit: 0))
        #expect(page.objects.isEmpty && page.continuation == nil && seen == nil)
    }

    @Test(
        "An answer that is no listing is an error and not an empty directory",
        arguments: [
            ("", VFSError.Code.corrupted), ("<ListBucketResult><IsTruncated>false</IsTruncated>", .corrupted),
            ("<html><body>login</body></html>", .malformedResponse), ("<ListBucketResult/", .corrupted),
            ("<Error><Code>SlowDown</Code></Error>", .throttled), ("<ListBucketResult/>", .malformedResponse),
            ("<ListBucketResult><Prefix/></ListBucketResult>", .malformedResponse),
            ("<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>", .malformedResponse),
            ("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", .malformedResponse),
            (
                "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>before</NextContinuationToken>"
                    + "</ListBucketResult>", .malformedResponse
            ),
            ("<!DOCTYPE a [<!ENTITY x \"y\">]><ListBucketResult>&x;</ListBucketResult>", .corrupted),
        ])
    func malformed(body: String, code: VFSError.Code) async throws {
        let error = await #expect(throws: VFSError.self) {
            try await list(body, ListRequest(prefix: "", delimited: true, continuation: "before"))
        }
        #expect(error?.code == code)
        #expect(error?.retry != .never)
        #expect(error?.wire?.operation == "ListObjectsV2")
    }

    @Test("An empty marker is none")
    func emptyMarker() async throws {
        let page = try await list(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextMarker></NextMarker>\(entry("a"))</ListBucketResult>",
            ListRequest(prefix: "", delimited: true), ["list_version": .string("1")]
        ).0
        #expect(page.continuation == "a")
    }

    @Test("A 404 means the bucket")
    func missing() async throws {
        for code in ["NoSuchBucket", "NoSuchKey"] {
            let server = try ScriptedServer { _, _ in .error(404, code) }
            let error = await #expect(throws: VFSError.self) {
                try await provider(server, known).list(ListRequest(prefix: "", delimited: false))
            }
            #expect(error?.code == .bucketNotFound)
        }
    }

    @Test("Versions of one key end where another key begins")
    func versions() async throws {
        let pages = [
            """
            <ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
            <NextKeyMarker>a+b</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>
            <DeleteMarker><Key>a+b</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest>
            <LastModified>2026-11-05T10:10:11Z</LastModified></DeleteMarker>
            <Version><Key>a+b</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest>
            <LastModified>2026-11-05T10:10:10Z</LastModified><ETag>"e1"</ETag><Size>3</Size></Version>
            </ListVersionsResult>
            """,
            """
            <ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
            <Version><Key>a+b</Key><ETag>"e0"</ETag><Size>2</Size></Version>
            <Version><Key>a+bc</Key><ETag>"e9"</ETag><Size>9</Size></Version></ListVersionsResult>
            """,
        ]
        let server = try ScriptedServer { _, index in .xml(pages[min(index, 1)]) }
        let provider = try provider(server, known)
        provider.bucket.client.features.versions = true
        let versions = try await provider.versions(of: "a b")
        #expect(versions.map(\.info.etag.value) == ["", "e1", "e0"])
        #expect(versions.map(\.isDeleteMarker) == [true, false, false])
        #expect(versions.map(\.isLatest) == [true, false, false])
        #expect(server.seen.last?.query.contains("key-marker=a%20b&prefix=a%20b&version-id-marker=v1") == true)
    }
}
