import CloudMountVFS
import Testing

extension Conformance {
    static let objectCases: [ConformanceCase] =
        [0, 1, 4095, 4096, 65_536, 1_048_576, 3_145_731].map { size in
            ConformanceCase("object of \(size) bytes") { bench in
                let bytes = pattern(size)
                let stored = try await bench.put("o", bytes)
                #expect(stored.size == size)
                #expect(try await bench.head("o").size == size)
                let (info, read) = try await bench.read("o")
                #expect(same(read, bytes))
                #expect(info.size == size)
                #expect(info.etag == stored.etag)
                #expect(try await bench.list().objects.map(\.size) == [size])
            }
        } + [
            ConformanceCase("overwriting replaces bytes, size and version") { bench in
                let first = try await bench.put("o", pattern(5000))
                let second = try await bench.put("o", pattern(300, seed: 2))
                let third = try await bench.put("o", pattern(300, seed: 3))
                #expect(first.etag != second.etag)
                #expect(second.etag != third.etag, "same size, other bytes")
                #expect(same(try await bench.read("o").bytes, pattern(300, seed: 3)))
                let listed = try await bench.list().objects
                #expect(listed.map(\.size) == [300])
                #expect(listed.map(\.etag) == [third.etag])
            },
            ConformanceCase("the version is the same in every answer") { bench in
                let stored = try await bench.put("o", pattern(1000))
                #expect(try await bench.head("o").etag == stored.etag)
                #expect(try await bench.read("o").info.etag == stored.etag)
                #expect(try await bench.read("o", Extent(5, 10)).info.etag == stored.etag)
                #expect(try await bench.list().objects.map(\.etag) == [stored.etag])
            },
            ConformanceCase("what was written is seen at once, fifty times over") { bench in
                for round in 0..<50 {
                    let bytes = pattern(10 + round, seed: UInt64(round))
                    try await bench.put("o", bytes)
                    #expect(same(try await bench.read("o").bytes, bytes))
                    #expect(try await bench.list().objects.map(\.size) == [bytes.count])
                }
            },
            ConformanceCase("64 operations at once") { bench in
                try await bench.concurrently(64, width: 64) { number in
                    let bytes = pattern(1000 + 137 * number, seed: UInt64(number))
                    let stored = try await bench.put("n\(number)", bytes)
                    let (info, read) = try await bench.read("n\(number)")
                    #expect(same(read, bytes))
                    #expect(info.etag == stored.etag)
                    #expect(same(try await bench.read("n\(number)", Extent(100, 900)).bytes, Array(bytes[100..<900])))
                    #expect(try await bench.head("n\(number)").size == bytes.count)
                }
                #expect(try await bench.names().count == 64)
            },
            ConformanceCase("bytes are never mixed while an object is overwritten") { bench in
                try await bench.put("o", [UInt8](repeating: 0, count: 300_000))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        for value in 1...10 {
                            try await bench.put("o", [UInt8](repeating: UInt8(value), count: 300_000))
                        }
                    }
                    for _ in 0..<4 {
                        group.addTask {
                            for _ in 0..<10 {
                                let bytes = try await bench.read("o").bytes
                                #expect(bytes.count == 300_000)
                                #expect(Set(bytes).count == 1)
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            },
        ]

    static let rangeCases: [ConformanceCase] = [
        ConformanceCase("ranges at every edge") { bench in
            let bytes = pattern(100_000)
            try await bench.put("o", bytes)
            let extents = [
                Extent(0, 1), Extent(0, 100_000), Extent(99_999, 100_000), Extent(1, 99_999), Extent(0, 100_001),
                Extent(99_999, 200_000), Extent(65_535, 65_537), Extent(12_345, 12_346),
            ]
            for extent in extents {
                let (info, read) = try await bench.read("o", extent)
                #expect(same(read, Array(bytes[extent.lowerBound..<min(extent.upperBound, 100_000)])), "\(extent)")
                #expect(info.size == 100_000, "\(extent)")
            }
        },
        ConformanceCase("a range that begins at the end or past it delivers nothing") { bench in
            try await bench.put("o", pattern(1000))
            for extent in [Extent(1000, 1001), Extent(1000, 5000), Extent(4000, 5000)] {
                let (info, read) = try await bench.read("o", extent)
                #expect(read.isEmpty, "\(extent)")
                #expect(info.size == 1000, "\(extent)")
            }
        },
        ConformanceCase("an empty range delivers nothing") { bench in
            try await bench.put("o", pattern(1000))
            let (info, read) = try await bench.read("o", Extent(10, 10))
            #expect(read.isEmpty)
            #expect(info.size == 1000)
        },
        ConformanceCase("any range of an empty object delivers nothing") { bench in
            try await bench.put("o")
            #expect(try await bench.read("o", Extent(0, 10)).bytes.isEmpty)
            #expect(try await bench.read("o", Extent(5, 10)).info.size == 0)
        },
        ConformanceCase("a range without an end goes to the end") { bench in
            let bytes = pattern(5000)
            try await bench.put("o", bytes)
            #expect(same(try await bench.read("o", Extent(4000, .max)).bytes, Array(bytes[4000...])))
        },
        ConformanceCase("a pinned read of the current version", needs: .pinnedRead) { bench in
            let bytes = pattern(5000)
            let stored = try await bench.put("o", bytes)
            #expect(same(try await bench.read("o", version: stored.etag).bytes, bytes))
            #expect(same(try await bench.read("o", Extent(10, 20), version: stored.etag).bytes, Array(bytes[10..<20])))
        },
        ConformanceCase("a pinned read of a replaced version gives that version", needs: .readsOldVersions) { bench in
            let old = try await bench.put("o", pattern(5000))
            try await bench.put("o", pattern(6000, seed: 2))
            let (info, bytes) = try await bench.read("o", version: old.etag)
            #expect(info.etag == old.etag && info.size == 5000)
            #expect(same(bytes, pattern(5000)))
            let range = try await bench.read("o", Extent(4000, 9000), version: old.etag).bytes
            #expect(same(range, Array(pattern(5000)[4000...])))
        },
        ConformanceCase(
            "a pinned read of a deleted object gives that version or is stale", needs: .readsOldVersions
        ) { bench in
            let old = try await bench.put("o", pattern(100))
            try await bench.delete(["o"])
            do throws(VFSError) {
                #expect(same(try await bench.read("o", version: old.etag).bytes, pattern(100)))
            } catch {
                #expect(error.code == .stale, "\(error)")
            }
        },
        ConformanceCase("a pinned read of a version that never was is stale", needs: .pinnedRead) { bench in
            let stored = try await bench.put("o", pattern(100))
            await bench.refuses(.stale) { _ = try await bench.read("o", version: ETag(stored.etag.value + "x")) }
        },
        ConformanceCase(
            "a pinned read of a replaced version is stale and delivers nothing",
            needs: .pinnedRead, .without(.readsOldVersions)
        ) { bench in
            let old = try await bench.put("o", pattern(5000))
            try await bench.put("o", pattern(5000, seed: 2))
            for extent in [nil, Extent(0, 10), Extent(4000, 9000)] {
                let sink = CollectingSink()
                let request = ReadRequest(key: bench.key("o"), extent: extent, version: old.etag)
                await bench.refuses(.stale) { _ = try await bench.provider.read(request, into: sink) }
                #expect(sink.bytes.isEmpty)
            }
        },
        ConformanceCase("a pinned read of a deleted object is stale", needs: .pinnedRead, .without(.readsOldVersions)) {
            bench in
            let old = try await bench.put("o", pattern(100))
            try await bench.delete(["o"])
            await bench.refuses(.stale) { _ = try await bench.read("o", version: old.etag) }
        },
    ]
}
