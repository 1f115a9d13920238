import CloudMountVFS
import Testing

extension Conformance {
    static let listingCases: [ConformanceCase] = [
        ConformanceCase("listing nothing") { bench in
            for delimited in [true, false] {
                let found = try await bench.list("absent/", delimited: delimited)
                #expect(found.objects.isEmpty && found.prefixes.isEmpty)
            }
        },
        ConformanceCase("listing comes in byte order", needs: .sortedListing, .filesBesideFolders) { bench in
            let names = [
                "A", "a", "a b", "a!", "a-b", "a.b", "a/b", "a/b/c", "a0", "ab", "b", "caf\u{E9}", "z", "\u{FF5E}", "😀",
            ]
            for name in names.reversed() { try await bench.put(name) }
            let listed = try await bench.list().objects.map(\.key)
            #expect(listed == listed.sorted())
            #expect(Set(listed) == Set(names.map(bench.key)))
            let paged = try await bench.list(limit: 4).objects.map(\.key)
            #expect(paged == listed.sorted())
        },
        ConformanceCase("a delimiter folds what lies deeper") { bench in
            for name in ["a/1", "a/2", "a/b/3", "b/1", "c", "d/e/f/g"] { try await bench.put(name) }
            let top = try await bench.list(delimited: true)
            #expect(top.objects.map { bench.bare($0.key) } == ["c"])
            #expect(top.prefixes.sorted() == ["a/", "b/", "d/"])
            let inner = try await bench.list("a/", delimited: true)
            #expect(inner.objects.map { bench.bare($0.key) }.sorted() == ["a/1", "a/2"])
            #expect(inner.prefixes == ["a/b/"])
            #expect(try await bench.list("d/", delimited: true).prefixes == ["d/e/"])
            #expect(try await bench.names("d/") == ["d/e/f/g"])
        },
        // What begins with such a character is one character with the slash before it, to who asks a String.
        ConformanceCase("a delimiter folds names that begin with a combining character") { bench in
            try await bench.put("d/\u{301}x")
            let top = try await bench.list(delimited: true)
            #expect(top.prefixes == ["d/"] && top.objects.isEmpty)
            #expect(try await bench.list("d/", delimited: true).objects.map(\.key) == [bench.key("d/\u{301}x")])
            #expect(try await bench.names("d/\u{301}").count == 1)
        },
        ConformanceCase("a prefix that is no folder") { bench in
            for name in ["d/ab", "d/abc/x", "d/abd/x", "d/ac", "dab"] { try await bench.put(name) }
            let page = try await bench.list("d/ab", delimited: true)
            #expect(page.objects.map { bench.bare($0.key) } == ["d/ab"])
            #expect(page.prefixes.sorted() == ["d/abc/", "d/abd/"])
            #expect(try await bench.names("d/ab").sorted() == ["d/ab", "d/abc/x", "d/abd/x"])
            #expect(try await bench.names("d/abc/x") == ["d/abc/x"])
            #expect(try await bench.names("d").count == 5)
        },
        ConformanceCase("folder objects are listed beside what is in them", needs: .folderObjects) { bench in
            try await bench.put("f/")
            try await bench.put("f/x", [1])
            try await bench.put("g/")
            #expect(sameNames(try await bench.names().sorted(), ["f/", "f/x", "g/"]))
            let top = try await bench.list(delimited: true)
            #expect(top.objects.isEmpty)
            #expect(top.prefixes.sorted() == ["f/", "g/"])
            let inner = try await bench.list("f/", delimited: true)
            #expect(inner.objects.map { bench.bare($0.key) }.sorted() == ["f/", "f/x"])
            #expect(inner.prefixes.isEmpty)
        },
        ConformanceCase("small pages give every key and prefix once") { bench in
            var names: [String] = []
            for number in 0..<25 {
                names.append("k\(number)")
                names.append("p\(number)/x")
                names.append("p\(number)/y")
            }
            let all = names
            try await bench.concurrently(all.count) { try await bench.put(all[$0]) }
            let flat = try await bench.list(limit: 7)
            #expect(flat.objects.count == 75)
            #expect(Set(flat.objects.map { bench.bare($0.key) }) == Set(all))
            #expect(flat.pages >= 11)
            let folded = try await bench.list(delimited: true, limit: 7)
            #expect(folded.objects.count == 25)
            #expect(folded.prefixes.count == 25)
            #expect(Set(folded.prefixes).count == 25)
            #expect(folded.pages >= 8)
            let single = try await bench.list("p", delimited: true, limit: 1)
            #expect(single.prefixes.count == 25)
        },
        ConformanceCase("paging over 2,500 keys") { bench in
            try await bench.concurrently(2500) { number in
                try await bench.put("n\(number)", [UInt8](repeating: 1, count: number % 7))
            }
            for delimited in [false, true] {
                let listed = try await bench.list(delimited: delimited, limit: 1000).objects
                #expect(listed.count == 2500)
                #expect(Set(listed.map(\.key)).count == 2500)
                #expect(listed.reduce(0) { $0 + $1.size } == (0..<2500).reduce(0) { $0 + $1 % 7 })
            }
            #expect(try await bench.list("n24").objects.count == 111)
            try await bench.delete((0..<2500).map { "n\($0)" })
            #expect(try await bench.list().objects.isEmpty)
        },
        ConformanceCase("no folder is left when the last key in it is deleted", needs: .without(.realFolders)) {
            bench in
            try await bench.put("keep", [1])
            try await bench.put("gone/deep/x", [1])
            try await bench.delete(["gone/deep/x"])
            let top = try await bench.list(delimited: true)
            #expect(top.prefixes.isEmpty, "\(top.prefixes)")
            #expect(top.objects.map { bench.bare($0.key) } == ["keep"])
        },
        ConformanceCase("the part of a key before a slash is no object", needs: .without(.realFolders)) { bench in
            try await bench.put("p/q", [1])
            await bench.refuses(.notFound) { _ = try await bench.head("p/") }
            await bench.refuses(.notFound) { _ = try await bench.head("p") }
            await bench.refuses(.notFound) { _ = try await bench.read("p") }
        },
        ConformanceCase("a listing carries metadata", needs: .listingCarriesMetadata, .metadata) { bench in
            let metadata = ObjectMetadata(modified: Timestamp(seconds: 1_700_000_000, nanoseconds: 5), user: ["a": "b"])
            try await bench.put("o", [1], metadata)
            let listed = try await bench.list().objects.first
            #expect(listed?.metadata?.modified == metadata.modified)
            #expect(listed?.metadata?.user == metadata.user)
        },
        ConformanceCase("the store's time of an object is about now") { bench in
            let stored = try await bench.put("o", [1])
            let head = try await bench.head("o")
            let listed = try await bench.list().objects.first
            // Every clock of this machine is the same; the store may keep whole seconds.
            #expect(abs(head.stored.seconds - stored.stored.seconds) <= 60)
            #expect(listed.map { abs($0.stored.seconds - head.stored.seconds) <= 1 } == true)
            #expect(head.stored.seconds > 1_700_000_000)
        },
    ]
}
