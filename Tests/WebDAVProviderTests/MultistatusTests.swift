import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import TestServers
import Testing

@testable import WebDAVProvider

@Suite("WebDAV: answers, names and records")
struct MultistatusTests {
    private func read(_ text: String) -> [WebDAVResponse]? { WebDAVMultistatus.read(Array(text.utf8)) }

    @Test("Apache's, rclone's and Nextcloud's ways to say the same are read alike")
    func dialects() throws {
        let apache = """
            <?xml version="1.0" encoding="utf-8"?>
            <D:multistatus xmlns:D="DAV:" xmlns:ns1="urn:cloudmount:dav" xmlns:ns0="DAV:">
            <D:response xmlns:lp1="DAV:" xmlns:lp2="http://apache.org/dav/props/" xmlns:ns1="urn:cloudmount:dav">
            <D:href>/a%20b</D:href><D:propstat><D:prop><lp1:resourcetype/>
            <lp1:getcontentlength>7</lp1:getcontentlength><lp1:getetag>W/"7-66"</lp1:getetag>
            <lp1:getlastmodified>Thu, 26 Nov 2026 23:49:59 GMT</lp1:getlastmodified><ns1:record> v=1 </ns1:record>
            </D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>
            """
        let rclone = """
            <?xml version="1.0" encoding="UTF-8"?><D:multistatus xmlns:D="DAV:"><D:response><D:href>/a%20b</D:href>\
            <D:propstat><D:prop><record xmlns="urn:cloudmount:dav">v=1</record><D:getetag>W/"7-66"</D:getetag>\
            <D:getcontentlength>7</D:getcontentlength><D:resourcetype></D:resourcetype>\
            <D:getlastmodified>Thu, 26 Nov 2026 23:49:59 GMT</D:getlastmodified></D:prop><D:status>HTTP/1.1 200 OK</D:status>\
            </D:propstat><D:propstat><D:prop><D:quota-available-bytes>5</D:quota-available-bytes></D:prop>\
            <D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response></D:multistatus>
            """
        var expected = WebDAVResponse()
        expected.href = "/a%20b"
        expected.isFolder = false
        expected.size = 7
        expected.tag = "W/\"7-66\""
        expected.modified = Timestamp(seconds: 1_795_736_999)
        expected.record = "v=1"
        expected.worst = 200
        #expect(read(apache) == [expected])
        expected.worst = 404
        #expect(read(rclone) == [expected])
        let folder = """
            <multistatus xmlns="DAV:" xmlns:oc="http://owncloud.org/ns"><response><href>/d/</href><propstat><prop>\
            <resourcetype><collection/></resourcetype><oc:size>9</oc:size><oc:getcontentlength>9</oc:getcontentlength></prop>\
            <status>HTTP/1.1 200 OK</status></propstat></response></multistatus>
            """
        #expect(read(folder)?.first?.isFolder == true)
        #expect(read(folder)?.first?.size == nil, "of another namespace")
    }

    @Test(
        "What is no multistatus, or only half of one, is none",
        arguments: [
            "", "<html><body>Log in</body></html>", "<multistatus/>", "<x:multistatus xmlns:x=\"urn:x\"/>",
            "<multistatus xmlns=\"DAV:\"><response>", "<response xmlns=\"DAV:\"><href>/</href></response>",
            "<multistatus xmlns=\"DAV:\"><response><status>HTTP/1.1 200 OK</status></response></multistatus>",
            "<multistatus xmlns=\"DAV:\"><response><href>/</href><propstat><prop/></propstat></response></multistatus>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><multistatus xmlns=\"DAV:\"/>",
            "<multistatus xmlns=\"DAV:\">" + String(repeating: "<a>", count: 50) + "</multistatus>",
        ])
    func garbage(text: String) { #expect(read(text) == nil) }

    @Test("A status, a size or a href that is none does not become one")
    func odd() {
        func size(_ text: String) -> Int? {
            read(
                "<multistatus xmlns=\"DAV:\"><response><href>/</href><propstat><prop><getcontentlength>\(text)"
                    + "</getcontentlength></prop><status>HTTP/1.1 200 OK</status></propstat></response></multistatus>"
            )?.first?.size
        }
        #expect(size("12") == 12)
        for text in ["-1", "", "1e3", "99999999999999999999", "0x10", "1 2"] { #expect(size(text) == nil, "\(text)") }
        let response = WebDAVResponse(href: "/x", isFolder: false, size: .max)
        #expect(WebDAVEntry(response, key: "x") == nil, "more than there can be")
        #expect(WebDAVEntry(WebDAVResponse(href: "/x", isFolder: false), key: "x") == nil, "no size")
    }

    @Test("Only what lies in the folder has a key")
    func places() throws {
        let url = try #require(WebURL(answered: "https://cloud.example:8443/remote.php/dav/files/J%C3%BCrgen"))
        let root = try #require(WebDAVRoot(url))
        let top = "/remote.php/dav/files/J%C3%BCrgen"
        #expect(root.path("a b/c") == top + "/a%20b/c")
        #expect(root.path("d/") == top + "/d" && root.folderPath("d/") == top + "/d/")
        #expect(root.path("") == top + "/")
        #expect(root.uploads == "/remote.php/dav/uploads/J%C3%BCrgen")
        let found: [(String, WebDAVRoot.Place)] = [
            (top, .key("")), (top + "/", .key("")), (top + "/a%20b/c", .key("a b/c")), (top + "/d/", .key("d")),
            ("/remote.php//dav/files/J%c3%bcrgen/x", .key("x")),
            ("http://inner/remote.php/dav/files/J%C3%BCrgen/x", .key("x")),
            (top + "/%FF", .nameless), (top + "/a%2Fb", .nameless), (top + "/../x", .outside), (top + "/./x", .outside),
            ("/remote.php/dav/files/other/x", .outside), ("/", .outside), ("x", .outside), (top + "/%zz", .outside),
        ]
        for (href, place) in found { #expect(root.place(href) == place, "\(href)") }
    }

    @Test("Names that no folder can hold are refused")
    func names() throws {
        for key in ["a", "a/b", "a/b/", "ä/…", "a:b*?", "..a"] as [ObjectKey] { try WebDAVRoot.check(key) }
        for key in ["", "/a", "a//b", ".", "a/..", "../a", "a/./b", "a\u{0}b", "/"] as [ObjectKey] {
            #expect(throws: VFSError.self, "\(key)") { try WebDAVRoot.check(key) }
        }
    }

    @Test("A record holds any metadata, and a damaged one holds none")
    func records() throws {
        let metadata = ObjectMetadata(
            contentType: "text/x; a=\"b\"", modified: Timestamp(seconds: -1, nanoseconds: 999_999_999),
            user: ["mode": "33188", "odd; name=": " <&>\"'\u{1}\n日本語 ]]> ", "empty": ""],
            headers: ["cache-control": "no-cache"], nonce: String(repeating: "~", count: 32))
        let record = WebDAVRecord(tag: "7-66 x", metadata: metadata)
        #expect(record.text.utf8.allSatisfy { 0x21...0x7E ~= $0 && !"<>&\"'".utf8.contains($0) })
        #expect(WebDAVRecord(record.text) == record)
        for text in ["", "v", "v=%zz", "t=text", "v=1;m=later", "v=1;n=a%20b", "v=1;x"] {
            #expect(WebDAVRecord(text) == nil, "\(text)")
        }
    }

    @Test("A record that is longer than any of ours is passed over, and the rest of the answer stands")
    func longRecord() throws {
        for (count, isRead) in [(1000, true), (16 << 10, true), (1 + 16 << 10, false), (1 << 20, false)] {
            let answer = FakeDAV.multistatus(
                """
                <D:response><D:href>/dav/f</D:href><D:propstat><D:prop><D:getcontentlength>7</D:getcontentlength>\
                <x:record xmlns:x="urn:cloudmount:dav">\(String(repeating: "v", count: count))</x:record></D:prop>\
                <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
                """)
            let read = try #require(WebDAVMultistatus.read(answer.body)?.first)
            #expect(read.size == 7 && (read.record != nil) == isRead)
        }
        // The longest that is written is read.
        let metadata = ObjectMetadata(user: ["n": String(repeating: "“", count: WebDAVRecord.maxMetadataBytes / 3)])
        #expect(WebDAVRecord(tag: "t", metadata: metadata).text.utf8.count < WebDAVMultistatus.mostRecord)
    }

    @Test("A record of more names or longer ones than are written is none, and is not written")
    func manyEntries() throws {
        func metadata(_ names: Int, _ length: Int = 1, headers: Int = 0, type: Int? = nil) -> ObjectMetadata {
            var metadata = ObjectMetadata(contentType: type.map { String(repeating: "t", count: $0) })
            for number in 0..<names { metadata.user["\(100 + number)"] = String(repeating: "v", count: length) }
            for number in 0..<headers { metadata.headers["\(number)"] = "" }
            return metadata
        }
        for whole in [metadata(128), metadata(100, headers: 28), metadata(1, 2045), metadata(0, type: 2048)] {
            let record = WebDAVRecord(tag: "t", metadata: whole)
            try WebDAVRecord.check(whole)
            #expect(record.text.utf8.count <= WebDAVMultistatus.mostRecord && WebDAVRecord(record.text) == record)
        }
        for tooLarge in [
            metadata(129), metadata(0, headers: 129), metadata(100, headers: 29), metadata(1, 2046),
            metadata(0, type: 2049),
        ] {
            #expect(WebDAVRecord(WebDAVRecord(tag: "t", metadata: tooLarge).text) == nil)
            let error = #expect(throws: VFSError.self) { try WebDAVRecord.check(tooLarge) }
            #expect(error?.code == .tooLarge)
        }
    }

    @Test("A redirect is told without what may be secret in it, and so is an entry elsewhere")
    func secrets() async throws {
        var headers = HTTPHeaders()
        headers.append("Location", "//u:secret@h/x?token=secret")
        let response = HTTPResponse(
            head: HTTPResponseHead(status: 302, headers: headers), body: [], sunk: false, timings: HTTPTimings())
        let error = WebDAVErrors.error(response, wire: VFSError.Wire(operation: "GET", endpoint: "h"))
        #expect(error.message.hasSuffix(" elsewhere, to //h/x"))
        let server = try ScriptedServer { _, _ in
            FakeDAV.multistatus("<D:response><D:href>http://u:secret@h/else?secret</D:href></D:response>")
        }
        let odd = await failure { () async throws(VFSError) in try await client(server).children(of: "d") }
        #expect(odd?.message.hasSuffix("elsewhere: http://h/else") ?? false)
    }

    private func client(_ server: ScriptedServer, mostHeld: Int = WebDAVClient.mostHeld) throws(VFSError)
        -> WebDAVClient
    {
        guard let root = WebURL("http://127.0.0.1:\(server.port)/dav").flatMap({ WebDAVRoot($0) }) else {
            throw VFSError(.invalidArgument, "no URL")
        }
        return WebDAVClient(root, WebDAVCredentials(OptionValues([:])), caFile: nil, mostHeld: mostHeld)
    }

    @Test("One folder is no more than memory holds, the metadata of its files among it")
    func heavyFolder() async throws {
        let record = (0..<100).map { ";h.\($0)=" }.joined()
        let files = (0..<10).map { index in
            """
            <D:response><D:href>/dav/d/\(index)</D:href><D:propstat><D:prop><D:getcontentlength>7</D:getcontentlength>\
            <D:getetag>"t"</D:getetag><x:record xmlns:x="urn:cloudmount:dav">v=t\(record)</x:record></D:prop>\
            <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
            """
        }
        let folder = """
            <D:response><D:href>/dav/d/</D:href><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop>\
            <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
            """
        let server = try ScriptedServer { _, _ in FakeDAV.multistatus(folder + files.joined()) }
        #expect(try await client(server, mostHeld: 110_000).children(of: "d")?.entries.count == 10)
        let error = await failure { () async throws(VFSError) in
            try await client(server, mostHeld: 90_000).children(of: "d")
        }
        #expect(error?.code == .tooLarge)
    }

    @Test("A version is the tag, and the nonce where there is one; a record of another tag is not believed")
    func versions() {
        for version in [
            WebDAVVersion(tag: "7-66"), WebDAVVersion(tag: "7-66", nonce: "~n~"), WebDAVVersion(tag: "a b"),
        ] {
            #expect(WebDAVVersion(version.etag) == version)
        }
        #expect(WebDAVVersion(tag: "7-66").etag == ETag("7-66"))
        var response = WebDAVResponse(href: "/x", isFolder: false, size: 7, tag: "\"new\"")
        response.record = WebDAVRecord(tag: "old", metadata: ObjectMetadata(nonce: "n")).text
        #expect(WebDAVEntry(response, key: "x")?.metadata == nil)
        response.record = WebDAVRecord(tag: "new", metadata: ObjectMetadata(nonce: "n")).text
        #expect(WebDAVEntry(response, key: "x")?.version.etag == ETag("n new"))
    }
}
