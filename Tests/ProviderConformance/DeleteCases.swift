import CloudMountVFS
import Synchronization
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
        ConformanceCase("delete takes one key and leaves its neighbours", needs: .filesBesideFolders) { bench in
            for name in ["a", "a/", "a/b", "ab", "a b"] { try await bench.put(name) }
            try await bench.delete(["a"])
            await bench.refuses(.notFound) { _ = try await bench.head("a") }
            #expect(sameNames(try await bench.names().sorted(), ["a b", "a/", "a/b", "ab"]))
            try await bench.delete(["a/"])
            #expect(sameNames(try await bench.names().sorted(), ["a b", "a/b", "ab"]))
        },
        ConformanceCase("delete takes one key and leaves those that begin like it") { bench in
            for name in ["a", "ab", "a b", "b/a"] { try await bench.put(name) }
            try await bench.delete(["a"])
            #expect(sameNames(try await bench.names().sorted(), ["a b", "ab", "b/a"]))
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
        ConformanceCase("delete of the current version") { bench in
            let stored = try await bench.put("o", [1])
            #expect(try await bench.delete([DeleteRequest(bench.key("o"), version: stored.etag)]).isEmpty)
            await bench.refuses(.notFound) { _ = try await bench.head("o") }
            #expect(try await bench.delete([DeleteRequest(bench.key("o"), version: stored.etag)]).isEmpty, "absent")
        },
        ConformanceCase("delete of a version that was replaced leaves the newer one") { bench in
            let old = try await bench.put("o", [1])
            let new = try await bench.put("o", [2, 2])
            let failures = try await bench.delete([DeleteRequest(bench.key("o"), version: old.etag)])
            #expect(failures.map(\.key) == [bench.key("o")])
            #expect(failures.map(\.error.code) == [.preconditionFailed])
            #expect(try await bench.head("o").etag == new.etag)
            #expect(try await bench.read("o").bytes == [2, 2])
        },
        ConformanceCase("delete of many versions at once tells which were replaced") { bench in
            let count = 40
            let first = Mutex<[Int: ETag]>([:])
            try await bench.concurrently(count, width: 8) { number in
                let info = try await bench.put("k\(number)", [UInt8(number)])
                first.withLock { $0[number] = info.etag }
            }
            // Of each ten one is replaced, one gone, and one asked for without a version.
            let tens = Array(stride(from: 0, to: count, by: 10))
            try await bench.concurrently(tens.count, width: 8) { try await bench.put("k\(tens[$0])", [1, 2, 3]) }
            try await bench.delete(tens.map { "k\($0 + 1)" })
            let etags = first.withLock { $0 }
            let failures = try await bench.delete(
                (0..<count).map { number in
                    DeleteRequest(bench.key("k\(number)"), version: number % 10 == 2 ? nil : etags[number])
                })
            #expect(failures.map { bench.bare($0.key) }.sorted() == tens.map { "k\($0)" })
            #expect(failures.allSatisfy { $0.error.code == .preconditionFailed })
            #expect(try await bench.names().sorted() == tens.map { "k\($0)" })
        },
        ConformanceCase("a deleted object can be made again") { bench in
            for round in 0..<5 {
                try await bench.put("o", [UInt8(round)])
                #expect(try await bench.read("o").bytes == [UInt8(round)])
                try await bench.delete(["o"])
                await bench.refuses(.notFound) { _ = try await bench.read("o") }
            }
        },
        ConformanceCase("old versions are listed, newest first", needs: .versions) { bench in
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
