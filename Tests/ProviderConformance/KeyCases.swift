import CloudMountVFS
import Testing

/// Keys that break clients and stores, with the name of what is odd in them.
private let oddKeys: [(String, String, Need?)] = [
    ("a space", "a b c", nil), ("a plus sign", "a+b c", nil), ("a percent sign", "100% %41 %zz", nil),
    ("an ampersand", "a&b=c", nil),
    ("a question mark", "a?b", nil), ("a hash", "a#b", nil), ("quotes", "a\"b'c`d", nil), ("a backslash", "a\\b", nil),
    ("reserved characters", "!$*(),:;=@[]{}|^~", nil), ("angle brackets and entities", "<a>&amp;]]>", nil),
    ("composed unicode", "caf\u{E9}", nil), ("decomposed unicode", "cafe\u{301}", nil), ("an emoji", "🚀/👩‍👩‍👧.txt", nil),
    ("a newline", "a\nb", .controlCharacters), ("a tab and a carriage return", "a\tb\rc", .controlCharacters),
    ("control characters", "a\u{1}b\u{1F}c\u{7F}", .controlCharacters),
    ("two slashes", "a//b", .oddSegments), ("a leading slash", "/a", .oddSegments),
    ("a dot segment", "a/./b", .oddSegments), ("a dot-dot segment", "a/../b", .oddSegments),
    ("a trailing dot segment", "a/..", .oddSegments),
    ("a segment of 300 bytes", String(repeating: "s", count: 300), .longSegments),
    ("a slash at the end", "folder/", .filesBesideFolders), ("spaces at its ends", " a ", nil),
    ("a hidden name", ".a/.b", nil),
    ("a version-like query", "a?versionId=null&uploads", nil),
]

extension Conformance {
    static let keyCases: [ConformanceCase] =
        oddKeys.map { oddity, name, need in
            ConformanceCase("key with \(oddity)", needs: need.map { [$0] } ?? []) { bench in
                try await roundTrip(bench, name, Array("odd".utf8))
            }
        } + [
            ConformanceCase("key with a slash at the end, and a body", needs: .filesBesideFolders) { bench in
                try await roundTrip(bench, "folder/", pattern(100))
            },
            ConformanceCase("key with a slash at the end, empty", needs: .emptyFolders, .without(.realFolders)) {
                bench in
                try await roundTrip(bench, "folder/", [])
            },
            ConformanceCase("key of the greatest length") { bench in
                let count = bench.capabilities.maxKeyBytes - bench.prefix.utf8.count
                let name = String(
                    String(repeating: String(repeating: "n", count: 99) + "/", count: 40).prefix(count - 1))
                try await roundTrip(bench, name + "x", pattern(10))
            },
            ConformanceCase("keys that differ only in unicode composition") { bench in
                try await bench.put("caf\u{E9}", [1])
                try await bench.put("cafe\u{301}", [2, 2])
                #expect(try await bench.read("caf\u{E9}").bytes == [1])
                #expect(try await bench.read("cafe\u{301}").bytes == [2, 2])
                #expect(try await bench.names().count == 2)
            },
            ConformanceCase("keys that differ only in case") { bench in
                try await bench.put("Readme", [1])
                try await bench.put("README", [2, 2])
                #expect(try await bench.read("Readme").bytes == [1])
                #expect(try await bench.read("README").bytes == [2, 2])
            },
            ConformanceCase("key beside keys below it", needs: .filesBesideFolders) { bench in
                try await bench.put("x", [1])
                try await bench.put("x/y", [2])
                try await bench.put("x/y/z", [3])
                #expect(try await bench.read("x").bytes == [1])
                #expect(try await bench.read("x/y").bytes == [2])
                #expect(try await bench.read("x/y/z").bytes == [3])
                #expect(sameNames(try await bench.names().sorted(), ["x", "x/y", "x/y/z"]))
                let page = try await bench.list(delimited: true)
                #expect(page.objects.map { bench.bare($0.key) } == ["x"])
                #expect(page.prefixes == ["x/"])
                try await bench.delete(["x"])
                #expect(try await bench.read("x/y").bytes == [2])
                await bench.refuses(.notFound) { _ = try await bench.head("x") }
            },
            ConformanceCase("key below an existing key, put in the other order", needs: .filesBesideFolders) { bench in
                try await bench.put("x/y", [2])
                try await bench.put("x", [1])
                #expect(try await bench.read("x").bytes == [1])
                try await bench.delete(["x/y"])
                #expect(try await bench.read("x").bytes == [1])
                #expect(sameNames(try await bench.names(), ["x"]))
            },
        ]

    /// Put, head, read, list and delete under one key, beside a neighbour that must not be taken for it.
    private static func roundTrip(_ bench: Bench, _ name: String, _ bytes: [UInt8]) async throws {
        try await bench.put("neighbour", [9])
        let stored = try await bench.put(name, bytes)
        #expect(stored.key == bench.key(name))
        let found = try await bench.head(name)
        #expect(found.key == bench.key(name))
        #expect(found.size == bytes.count)
        #expect(found.etag == stored.etag)
        #expect(try await bench.read(name).bytes == bytes)
        let listed = try await bench.list().objects
        let ours = listed.filter { $0.key == bench.key(name) }
        #expect(listed.count == 2, "\(listed.map { bench.bare($0.key).debugDescription })")
        #expect(ours.count == 1)
        #expect(ours.first?.size == bytes.count)
        #expect(ours.first?.etag == stored.etag)
        try await bench.delete([name])
        await bench.refuses(.notFound) { _ = try await bench.head(name) }
        #expect(try await bench.names() == ["neighbour"])
    }
}
