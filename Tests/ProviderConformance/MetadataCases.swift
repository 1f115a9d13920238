import CloudMountVFS
import Testing

extension Conformance {
    private static let full = ObjectMetadata(
        contentType: "text/x-case; charset=utf-8",
        modified: Timestamp(seconds: 1_595_002_920, nanoseconds: 123_456_789),
        user: ["mode": "33188", "uid": "1000", "a-name": "a value, with: signs; = and %41 + spaces"],
        headers: [
            "cache-control": "max-age=60", "content-disposition": "attachment; filename=\"a b.txt\"",
            "content-encoding": "gzip", "content-language": "de, en", "expires": "Thu, 01 Jan 2032 00:00:00 GMT",
        ])

    private static func expect(
        _ found: ObjectMetadata?, _ given: ObjectMetadata, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(found?.modified == given.modified, sourceLocation: sourceLocation)
        #expect(found?.user == given.user, sourceLocation: sourceLocation)
        #expect(found?.headers == given.headers, sourceLocation: sourceLocation)
        if let type = given.contentType { #expect(found?.contentType == type, sourceLocation: sourceLocation) }
    }

    static let metadataCases: [ConformanceCase] = [
        ConformanceCase("content type, time and user metadata come back as given", needs: .metadata) { bench in
            var given = full
            given.headers = [:]
            try await bench.put("o", pattern(100), given)
            expect(try await bench.head("o").metadata, given)
        },
        ConformanceCase("standard headers come back as given", needs: .metadata) { bench in
            try await bench.put("o", pattern(100), full)
            expect(try await bench.head("o").metadata, full)
            #expect(same(try await bench.read("o").bytes, pattern(100)), "content-encoding is not acted upon")
        },
        ConformanceCase("metadata of any text comes back as given", needs: .metadata) { bench in
            let given = ObjectMetadata(user: [
                "unicode": "naïve – 日本語 🚀", "composed": "caf\u{E9}", "decomposed": "cafe\u{301}",
                "line": "two\nlines\tand a tab", "quoted": "\"'\\<&>%20", "ends": " spaces at its ends ",
            ])
            try await bench.put("o", [1], given)
            let found = try await bench.head("o").metadata?.user ?? [:]
            #expect(found.keys.sorted() == given.user.keys.sorted())
            for (name, value) in given.user {
                #expect(Array((found[name] ?? "(none)").utf8) == Array(value.utf8), "\(name): \(found[name] ?? "")")
            }
        },
        ConformanceCase("an empty metadata value comes back", needs: .metadata) { bench in
            try await bench.put("o", [1], ObjectMetadata(user: ["empty": "", "full": "x"]))
            #expect(try await bench.head("o").metadata?.user == ["empty": "", "full": "x"])
        },
        ConformanceCase("times before 1970 and far ahead come back", needs: .metadata) { bench in
            let times = [
                Timestamp(seconds: -1, nanoseconds: 999_999_999), Timestamp(seconds: 0),
                Timestamp(seconds: 4_102_444_800),
                Timestamp(seconds: -86_400, nanoseconds: 1),
            ]
            for time in times {
                try await bench.put("o", [1], ObjectMetadata(modified: time))
                #expect(try await bench.head("o").metadata?.modified == time)
            }
        },
        ConformanceCase("almost as much metadata as is allowed", needs: .metadata) { bench in
            let count = min(bench.capabilities.maxMetadataBytes, 30_000) - 100
            let given = ObjectMetadata(user: ["big": String(repeating: "v", count: count)])
            try await bench.put("o", [1], given)
            #expect(try await bench.head("o").metadata?.user == given.user)
        },
        ConformanceCase("the nonce of a write comes back, and never among the rest", needs: .metadata) { bench in
            let nonce = ObjectMetadata.newNonce()
            let given = ObjectMetadata(contentType: "text/x-case", user: ["mode": "33188"], nonce: nonce)
            let stored = try await bench.put("o", [1], given)
            let found = try await bench.head("o").metadata
            #expect(found?.nonce == nonce)
            #expect(found?.user == given.user)
            #expect(try await bench.read("o").info.metadata?.nonce == nonce)
            if bench.capabilities.listingCarriesMetadata {
                #expect(try await bench.list().objects.first?.metadata?.nonce == nonce)
            }
            if bench.capabilities.serverCopy {
                _ = try await bench.provider.copy(CopyRequest(source: stored, destination: bench.key("copy")))
                #expect(try await bench.head("copy").metadata?.nonce == nonce)
                var other = given
                other.nonce = String(repeating: "~", count: 32)
                _ = try await bench.provider.copy(
                    CopyRequest(source: stored, destination: bench.key("copy"), metadata: other))
                #expect(try await bench.head("copy").metadata?.nonce == other.nonce)
            }
            if bench.capabilities.multipart {
                let upload = try await bench.provider.beginUpload(bench.key("parts"), metadata: given)
                let parts = try await bench.lead(upload, then: [1])
                _ = try await bench.provider.completeUpload(upload, parts: parts, precondition: .none)
                #expect(try await bench.head("parts").metadata?.nonce == nonce)
            }
            await bench.refuses(.invalidArgument) {
                try await bench.put("o", [2], ObjectMetadata(nonce: String(repeating: "n", count: 33)))
            }
        },
        ConformanceCase("as much metadata as is allowed, with a nonce and a time", needs: .metadata) { bench in
            let count = min(bench.capabilities.maxMetadataBytes, 30_000) - 3
            let given = ObjectMetadata(
                modified: Timestamp(seconds: 1_600_000_000, nanoseconds: 123_456_789),
                user: ["big": String(repeating: "v", count: count)], nonce: ObjectMetadata.newNonce())
            try await bench.put("o", [1], given)
            let found = try await bench.head("o").metadata
            #expect(found?.user == given.user)
            #expect(found?.nonce == given.nonce && found?.modified == given.modified)
        },
        ConformanceCase("no metadata is none", needs: .metadata) { bench in
            try await bench.put("o", [1])
            let found = try await bench.head("o").metadata
            #expect(found?.modified == nil)
            #expect(found?.user == [:])
            #expect(found?.headers == [:])
        },
        ConformanceCase("overwriting replaces all metadata", needs: .metadata) { bench in
            try await bench.put("o", [1], full)
            let second = ObjectMetadata(contentType: "image/png", user: ["only": "this"])
            try await bench.put("o", [2], second)
            expect(try await bench.head("o").metadata, second)
        },
        ConformanceCase("an upload in parts keeps its metadata", needs: .metadata, .multipart) { bench in
            let upload = try await bench.provider.beginUpload(bench.key("o"), metadata: full)
            let parts = try await bench.lead(upload, then: pattern(500))
            _ = try await bench.provider.completeUpload(upload, parts: parts, precondition: .none)
            expect(try await bench.head("o").metadata, full)
        },
        ConformanceCase(
            "an upload in parts has the metadata of its end",
            needs: .metadata, .multipart, .completeSetsMetadata
        ) { bench in
            let nonce = ObjectMetadata.newNonce()
            var upload = try await bench.provider.beginUpload(
                bench.key("o"), metadata: ObjectMetadata(contentType: "text/x", user: ["first": "1"], nonce: nonce))
            let parts = try await bench.lead(upload, then: pattern(500))
            upload.metadata = full
            upload.metadata?.nonce = ObjectMetadata.newNonce()
            _ = try await bench.provider.completeUpload(upload, parts: parts, precondition: .none)
            let found = try await bench.head("o").metadata
            expect(found, full)
            #expect(found?.nonce == nonce, "the nonce of its beginning")
        },
        ConformanceCase("a folder object keeps its metadata", needs: .metadata, .folderObjects) { bench in
            let given = ObjectMetadata(
                contentType: "application/x-directory", modified: Timestamp(seconds: 1_600_000_000),
                user: ["mode": "16877"])
            try await bench.put("folder/", [], given)
            expect(try await bench.head("folder/").metadata, given)
            try await bench.put("folder/x", [1])
            expect(try await bench.head("folder/").metadata, given)
        },
    ]
}
