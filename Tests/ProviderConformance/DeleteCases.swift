import CloudMountVFS
import Testing

extension Conformance {
    static let deleteCases: [ConformanceCase] = [
        ConformanceCase("delete of an absent key counts as done") { bench in
            try await bench.delete(["never was"])
            try await bench.delete(["never/was", "folder/"])
            try await bench.put("o", [1])
            try await bench.delete(["o"])
            try await bench.delete(["o"])
        },
        ConformanceCase("delete takes one key and leaves its neighbours") { bench in
            for name in ["a", "a/", "a/b", "ab", "a b"] { try await bench.put(name) }
            try await bench.delete(["a"])
            await bench.refuses(.notFound) { _ = try await bench.head("a") }
            #expect(sameNames(try await bench.names().sorted(), ["a b", "a/", "a/b", "ab"]))
            try await bench.delete(["a/"])
            #expect(sameNames(try await bench.names().sorted(), ["a b", "a/b", "ab"]))
        },
        ConformanceCase("delete of many keys at once") { bench in
            let count = min(bench.capabilities.maxDeleteKeys, 1000)
            try await bench.concurrently(count) { try await bench.put("k\($0)") }
            try await bench.put("keep")
            // Half of the keys of each request are absent.
            try await bench.delete((0..<2 * count).map { "k\($0)" })
            #expect(try await bench.names() == ["keep"])
        },
        ConformanceCase("delete of many odd keys at once") { bench in
            let names = ["a b", "a+b", "100%", "a&b", "<x>", "q?r#s", "caf\u{E9}", "cafe\u{301}", "🚀", "\"'"]
            for name in names { try await bench.put(name) }
            #expect(try await bench.names().count == names.count)
            try await bench.delete(names)
            #expect(try await bench.names().isEmpty)
        },
        ConformanceCase("a deleted object can be made again") { bench in
            for round in 0..<5 {
                try await bench.put("o", [UInt8(round)])
                #expect(try await bench.read("o").bytes == [UInt8(round)])
                try await bench.delete(["o"])
                await bench.refuses(.notFound) { _ = try await bench.read("o") }
            }
        },
        ConformanceCase("old versions are listed, newest first", if: \.versions) { bench in
            let first = try await bench.put("o", [1])
            let second = try await bench.put("o", [2, 2])
            let versions = try await bench.provider.versions(of: bench.key("o"))
            #expect(versions.map(\.info.etag) == [second.etag, first.etag])
            #expect(versions.map(\.isLatest) == [true, false])
            #expect(versions.map(\.info.size) == [2, 1])
            try await bench.delete(["o"])
            let after = try await bench.provider.versions(of: bench.key("o"))
            #expect(after.count >= 2)
            #expect(after.first?.isDeleteMarker == true)
            await bench.refuses(.notFound) { _ = try await bench.head("o") }
        },
    ]
}
