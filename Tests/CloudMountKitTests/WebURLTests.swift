import CloudMountKit
import Testing

@Suite("Addresses of stores")
struct WebURLTests {
    @Test(
        "What a person may write",
        arguments: [
            ("https://s3.example.com", WebURL(isTLS: true, host: "s3.example.com")),
            ("http://Host:9000/", WebURL(isTLS: false, host: "host", port: 9000)),
            ("https://h:443/dav//", WebURL(isTLS: true, host: "h", path: "/dav")),
            ("http://h:80", WebURL(isTLS: false, host: "h")),
            ("http://h:443", WebURL(isTLS: false, host: "h", port: 443)),
            ("http://[::1]:8080/a/b", WebURL(isTLS: false, host: "[::1]", port: 8080, path: "/a/b")),
            ("https://[fe80::1]", WebURL(isTLS: true, host: "[fe80::1]")),
        ])
    func good(text: String, expected: WebURL) { #expect(WebURL(text) == expected) }

    @Test(
        "What is no address",
        arguments: [
            "", "host", "ftp://h", "https://", "https:///p", "http://u@h", "http://u:p@h/", "http://h?x", "http://h#f",
            "http://h/a%20b", "http://h/a b", "http://h/ü", "http://h:0", "http://h:65536", "http://h:x", "http://h:",
            "http://h:+80", "http://[::1", "http://[::1]x", "http://[]", "http://h\\a", "http://:80", "HTTP://h",
        ])
    func bad(text: String) { #expect(WebURL(text) == nil) }

    @Test("What an answer names may have a query and escapes, and no user")
    func answered() {
        let url = WebURL(answered: "https://pod-1.example.com:8443/b2api/v4/x?cvt=a_b&bucket=%2F@")
        #expect(url == WebURL(isTLS: true, host: "pod-1.example.com", port: 8443, path: "/b2api/v4/x"))
        #expect(WebURL(answered: "http://h#f@x")?.host == "h")
        #expect(WebURL(answered: "http://h/a%20b")?.path == "/a%20b")
        #expect(WebURL(answered: "https://good.example.com@evil.example.com/") == nil)
        #expect(WebURL(answered: "/relative") == nil)
    }

    @Test("Its parts in the words of the wire")
    func parts() throws {
        let url = try #require(WebURL("http://Host:9000/x/"))
        #expect(url.authority == "host:9000")
        #expect(url.origin == "http://host:9000")
        #expect(url.text == "http://host:9000/x")
        #expect(url.hasOrigin(of: WebURL(isTLS: false, host: "host", port: 9000)))
        #expect(!url.hasOrigin(of: WebURL(isTLS: true, host: "host", port: 9000)))
        #expect(!url.hasOrigin(of: WebURL(isTLS: false, host: "host")))
    }

    @Test(
        "Loopback",
        arguments: [
            ("http://localhost", true), ("http://127.0.0.1:9000", true), ("http://127.1.2.3", true),
            ("http://[::1]", true), ("http://127.example.com", false), ("http://10.0.0.1", false),
            ("http://bucket.localhost:1", true), ("http://notlocalhost", false),
        ])
    func loopback(text: String, isLoopback: Bool) { #expect(WebURL(text)?.isLoopback == isLoopback) }

    @Test(
        "Of a URL that an answer names a log shows neither user nor query nor fragment",
        arguments: [
            ("https://h:1/a/b?X-Amz-Signature=s", "https://h:1/a/b"), ("https://h/#s", "https://h/"),
            ("https://u:s@h/a@b", "https://h/a@b"), ("https://u:s@s@h", "https://h"), ("//u:s@h/x", "//h/x"),
            ("/a@b//c@d?s", "/a@b//c@d"), ("u:s@h", "h"), ("u:s@h/a//b", "h/a//b"), ("http:u:s@h/", "h/"),
            ("https://h/a?\u{301}s", "https://h/a"), ("?s", ""), ("", ""), ("h\u{1B}[2J", "h\\u{1b}[2J"),
            ("https://u:p?w@h/x", "https://h/x"), ("https://u:p/w@h/x#y", "https://h/x"), ("https://u:s@", "https://"),
            ("not a URL", "not a URL"), ("a/http://u@h", "a/http://u@h"),
        ])
    func shown(text: String, expected: String) { #expect(WebURL.shown(text) == expected) }

    @Test("Of a long URL the beginning is shown")
    func shownCut() {
        #expect(WebURL.shown("https://h/" + String(repeating: "x", count: 9000)).unicodeScalars.count == 201)
    }
}
