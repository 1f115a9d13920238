import CloudMountHTTP
import CloudMountVFS
import Testing

@testable import B2Provider

@Suite("File information and names")
struct FileInfoTests {
    private static func roundTrip(_ given: ObjectMetadata, session: String? = nil) throws -> ObjectMetadata {
        let entries = try B2FileInfo.entries(given, name: "k", isProtected: false, session: session)
        #expect(entries.count <= 10)
        var fields = HTTPHeaders()
        B2FileInfo.addHeaders(entries, to: &fields)
        let fromHeaders = B2FileInfo.metadata(fields)
        let fromJSON = B2FileInfo.metadata(
            Dictionary(entries.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 }), contentType: nil)
        #expect(fromHeaders == fromJSON)
        return fromJSON
    }

    @Test(
        "Times are milliseconds for all, and nanoseconds for us",
        arguments: [
            (Timestamp(seconds: 5, nanoseconds: 7_000_000), ["src_last_modified_millis": "5007"]),
            (
                Timestamp(seconds: 5, nanoseconds: 7_000_001),
                ["src_last_modified_millis": "5007", "mtime": "5.007000001"]
            ), (Timestamp(seconds: -1, nanoseconds: 999_999_999), ["mtime": "-0.000000001"]),
            (Timestamp(seconds: 0), ["src_last_modified_millis": "0"]),
        ])
    func times(time: Timestamp, entries: [String: String]) throws {
        let given = ObjectMetadata(modified: time, user: ["mtime": "old"])
        let made = try B2FileInfo.entries(given, name: "k", isProtected: false)
        #expect(Dictionary(made.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 }) == entries)
        #expect(try Self.roundTrip(given).modified == time)
    }

    @Test("Where another tool has set the milliseconds alone, they count")
    func otherTool() {
        let found = B2FileInfo.metadata(
            ["src_last_modified_millis": "9000", "mtime": "5.007000001", "x": "y"], contentType: nil)
        #expect(found.modified == Timestamp(seconds: 9))
        #expect(found.user == ["x": "y"])
        #expect(B2FileInfo.metadata(["src_last_modified_millis": "soon"], contentType: nil).modified == nil)
    }

    @Test("Times beyond all reason, of files and of callers, are the furthest that there is")
    func impossibleTimes() throws {
        let found = B2FileInfo.metadata(
            ["src_last_modified_millis": "1", "mtime": "\(Int.max)"], contentType: nil)
        #expect(found.modified == Timestamp(milliseconds: 1))
        let furthest = Timestamp(seconds: Timestamp.limit)
        #expect(B2FileInfo.metadata(["mtime": "\(Int.max)"], contentType: nil).modified == furthest)
        #expect(Timestamp(seconds: .min, nanoseconds: .min) < Timestamp(seconds: -Timestamp.limit + 1))
        #expect(try Self.roundTrip(ObjectMetadata(modified: Timestamp(seconds: .max))).modified == furthest)
    }

    @Test("More than ten entries share the last one, and come back")
    func packing() throws {
        var given = ObjectMetadata(modified: Timestamp(seconds: 5, nanoseconds: 1))
        for number in 0..<14 { given.user["name-\(number)"] = "välue & = % + \(number)\n" }
        given.headers = ["cache-control": "max-age=60", "expires": "Thu, 01 Jan 2032 00:00:00 GMT"]
        #expect(try Self.roundTrip(given, session: "s") == given)
        #expect(try B2FileInfo.entries(given, name: "k", isProtected: false).last?.name == "cm_more")
    }

    @Test(
        "Names that B2 takes, and others",
        arguments: [
            ("mode", true), ("--symlink-target", true), (String(repeating: "n", count: 50), true),
            (String(repeating: "n", count: 51), false), ("", false), ("a b", false), ("Mode", false), ("b2-x", false),
            ("ü", false),
        ])
    func entryNames(name: String, isFine: Bool) {
        let made = try? B2FileInfo.entries(ObjectMetadata(user: [name: "v"]), name: "k", isProtected: false)
        #expect((made != nil) == isFine)
    }

    @Test(
        "What is too much is refused before it is sent",
        arguments: [
            (5450, false, true), (5451, false, false), (1150, true, true), (1151, true, false),
        ])
    func limits(count: Int, isProtected: Bool, fits: Bool) {
        let given = ObjectMetadata(user: ["n": String(repeating: "v", count: count - 1)])
        let made = try? B2FileInfo.entries(given, name: "k", isProtected: isProtected)
        #expect((made != nil) == fits)
    }

    @Test("An entry that holds more others than are ever put into one stays what it is")
    func packed() throws {
        func others(_ count: Int) -> [String: String] {
            Dictionary(uniqueKeysWithValues: (0..<count).map { ("n\($0)", "v") })
        }
        let most = try B2FileInfo.entries(ObjectMetadata(user: others(256)), name: "k", isProtected: false)
        let info = Dictionary(uniqueKeysWithValues: most.map { ($0.name, $0.value) })
        #expect(B2FileInfo.metadata(info, contentType: nil).user == others(256))
        #expect(throws: VFSError.self) {
            try B2FileInfo.entries(ObjectMetadata(user: others(257)), name: "k", isProtected: false)
        }
        let text = Array(repeating: "a=b", count: 257).joined(separator: "&")
        #expect(B2FileInfo.metadata([B2FileInfo.more: text], contentType: nil).user == [B2FileInfo.more: text])
    }

    @Test("What grows in headers counts as it is sent")
    func encodedLimit() {
        let given = ObjectMetadata(user: ["n": String(repeating: "ü", count: 2000)])
        #expect(throws: VFSError.self) { try B2FileInfo.entries(given, name: "k", isProtected: false) }
    }

    @Test(
        "Keys and the names that stand for them",
        arguments: [
            ("a/b", "a/b", ["a/b"]), ("a/", "a/.bzEmpty", ["a/.bzEmpty", "a/"]),
            (".bzEmptyish", ".bzEmptyish", [".bzEmptyish"]),
            ("x.bzEmpty", "x.bzEmpty", ["x.bzEmpty"]), ("a/.bzEmpty", "a/.bzEmpty", []), (".bzEmpty", ".bzEmpty", []),
        ])
    func names(key: String, name: String, found: [String]) {
        #expect(B2Names.name(ObjectKey(key)) == name)
        #expect(B2Names.names(ObjectKey(key)) == found)
        for name in found { #expect(B2Names.key(name) == ObjectKey(key)) }
    }

    @Test(
        "Keys that B2 takes, and others",
        arguments: [
            ("a", nil as VFSError.Code?), ("", .invalidName), ("a\nb", .invalidName), ("a\u{7F}", .invalidName),
            (String(repeating: "s", count: 250), nil), (String(repeating: "s", count: 251), .nameTooLong),
            (String(repeating: "abc/", count: 256), .nameTooLong), (String(repeating: "abc/", count: 254), nil),
            ("d/.bzEmpty", .invalidName), ("a//b", nil), ("/a", nil), ("a\\b", nil),
        ])
    func keys(key: String, code: VFSError.Code?) {
        var found: VFSError.Code?
        do throws(VFSError) { try B2Names.check(ObjectKey(key)) } catch { found = error.code }
        #expect(found == code)
    }
}
