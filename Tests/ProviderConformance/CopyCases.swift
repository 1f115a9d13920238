import CloudMountVFS
import Testing

extension Conformance {
    private static let metadata = ObjectMetadata(
        contentType: "text/x-case", modified: Timestamp(seconds: 1_600_000_000, nanoseconds: 7),
        user: ["mode": "33188"],
        headers: ["cache-control": "max-age=60"])

    static let copyCases: [ConformanceCase] = [
        ConformanceCase("copy keeps bytes and metadata", needs: .serverCopy, .metadata) { bench in
            let source = try await bench.put("from", pattern(70_000), metadata)
            let copy = try await bench.provider.copy(CopyRequest(source: source, destination: bench.key("to")))
            #expect(copy.key == bench.key("to"))
            #expect(same(try await bench.read("to").bytes, pattern(70_000)))
            let found = try await bench.head("to")
            #expect(found.etag == copy.etag)
            #expect(found.size == 70_000)
            #expect(found.metadata?.user == metadata.user)
            #expect(found.metadata?.modified == metadata.modified)
            #expect(found.metadata?.contentType == metadata.contentType)
            #expect(found.metadata?.headers == metadata.headers)
            #expect(same(try await bench.read("from").bytes, pattern(70_000)))
        },
        ConformanceCase("copy keeps the bytes", needs: .serverCopy) { bench in
            let source = try await bench.put("from", pattern(3000))
            let copy = try await bench.provider.copy(CopyRequest(source: source, destination: bench.key("to")))
            #expect(try await bench.head("to").etag == copy.etag)
            #expect(same(try await bench.read("to").bytes, pattern(3000)))
            #expect(same(try await bench.read("from").bytes, pattern(3000)))
        },
        ConformanceCase("copy replaces all metadata when some is given", needs: .serverCopy, .metadata) { bench in
            let source = try await bench.put("from", [1, 2], metadata)
            let other = ObjectMetadata(contentType: "image/png", user: ["b": "naïve"])
            _ = try await bench.provider.copy(
                CopyRequest(source: source, destination: bench.key("to"), metadata: other))
            let found = try await bench.head("to").metadata
            #expect(found?.user == other.user)
            #expect(found?.contentType == "image/png")
            #expect(found?.modified == nil)
            #expect(found?.headers == [:])
            #expect(try await bench.read("to").bytes == [1, 2])
        },
        ConformanceCase("copy onto itself changes metadata alone", needs: .serverCopy, .metadata) { bench in
            let source = try await bench.put("o", pattern(1000), metadata)
            let other = ObjectMetadata(contentType: "text/x-case", user: ["mode": "33261"])
            _ = try await bench.provider.copy(CopyRequest(source: source, destination: bench.key("o"), metadata: other))
            #expect(try await bench.head("o").metadata?.user == other.user)
            #expect(same(try await bench.read("o").bytes, pattern(1000)))
        },
        ConformanceCase("copy between odd keys", needs: .serverCopy) { bench in
            for name in ["a b+c%41&d?e#f", "caf\u{E9}/cafe\u{301}", "“quoted” 'key' \"🚀\""] {
                let source = try await bench.put(name, pattern(50))
                _ = try await bench.provider.copy(
                    CopyRequest(source: source, destination: bench.key("copy of \(name)")))
                #expect(same(try await bench.read("copy of \(name)").bytes, pattern(50)))
            }
        },
        ConformanceCase("copy of an empty object", needs: .serverCopy) { bench in
            let source = try await bench.put("from")
            _ = try await bench.provider.copy(CopyRequest(source: source, destination: bench.key("to")))
            #expect(try await bench.head("to").size == 0)
        },
        ConformanceCase("copy of a folder object", needs: .serverCopy, .folderObjects, .metadata) { bench in
            let source = try await bench.put("from/", [], ObjectMetadata(user: ["mode": "16877"]))
            _ = try await bench.provider.copy(CopyRequest(source: source, destination: bench.key("to/")))
            #expect(try await bench.head("to/").metadata?.user == ["mode": "16877"])
        },
        ConformanceCase("copy over an existing object", needs: .serverCopy) { bench in
            try await bench.put("to", pattern(10))
            let source = try await bench.put("from", pattern(500))
            _ = try await bench.provider.copy(CopyRequest(source: source, destination: bench.key("to")))
            #expect(same(try await bench.read("to").bytes, pattern(500)))
        },
        ConformanceCase("copy of a version that was replaced is of that version", needs: .readsOldVersions) { bench in
            let old = try await bench.put("from", [1], metadata)
            try await bench.put("from", [2, 2])
            _ = try await bench.provider.copy(CopyRequest(source: old, destination: bench.key("to")))
            #expect(try await bench.read("to").bytes == [1])
            #expect(try await bench.head("to").metadata?.user == metadata.user)
            #expect(try await bench.read("from").bytes == [2, 2])
        },
        ConformanceCase(
            "copy of a version that was replaced is stale", needs: .serverCopy, .without(.readsOldVersions)
        ) { bench in
            let old = try await bench.put("from", [1])
            try await bench.put("from", [2, 2])
            await bench.refuses(.stale) {
                _ = try await bench.provider.copy(CopyRequest(source: old, destination: bench.key("to")))
            }
            await bench.refuses(.notFound) { _ = try await bench.head("to") }
        },
        ConformanceCase("copy of an object that is gone", needs: .serverCopy, .without(.readsOldVersions)) { bench in
            let old = try await bench.put("from", [1])
            try await bench.delete(["from"])
            await bench.refuses(.notFound, .stale) {
                _ = try await bench.provider.copy(CopyRequest(source: old, destination: bench.key("to")))
            }
        },
        ConformanceCase("copy only where there is nothing", needs: .serverCopy) { bench in
            let source = try await bench.put("from", [1])
            let taken = try await bench.put("taken", [2])
            await bench.refuses(.preconditionFailed) {
                _ = try await bench.provider.copy(
                    CopyRequest(source: source, destination: bench.key("taken"), precondition: .absent))
            }
            #expect(try await bench.head("taken").etag == taken.etag)
            _ = try await bench.provider.copy(
                CopyRequest(source: source, destination: bench.key("free"), precondition: .absent))
            #expect(try await bench.read("free").bytes == [1])
        },
        ConformanceCase("copy only over the version that was seen", needs: .serverCopy) { bench in
            let source = try await bench.put("from", [1])
            let first = try await bench.put("to", [2])
            let second = try await bench.put("to", [3])
            let request = { (etag: ETag) in
                CopyRequest(source: source, destination: bench.key("to"), precondition: .match(etag))
            }
            await bench.refuses(.preconditionFailed) { _ = try await bench.provider.copy(request(first.etag)) }
            #expect(try await bench.read("to").bytes == [3])
            _ = try await bench.provider.copy(request(second.etag))
            #expect(try await bench.read("to").bytes == [1])
            try await bench.delete(["to"])
            await bench.refuses(.preconditionFailed) { _ = try await bench.provider.copy(request(second.etag)) }
            await bench.refuses(.notFound) { _ = try await bench.head("to") }
        },
        ConformanceCase("copy onto itself only over the version that it is of", needs: .serverCopy, .metadata) {
            bench in
            let first = try await bench.put("o", [1], metadata)
            let second = try await bench.put("o", [2, 2], metadata)
            let other = ObjectMetadata(contentType: "text/x-case", user: ["mode": "33261"])
            for (version, works) in [(first, false), (second, true)] {
                let request = CopyRequest(
                    source: version, destination: bench.key("o"), metadata: other, precondition: .match(version.etag))
                if works {
                    _ = try await bench.provider.copy(request)
                    #expect(try await bench.head("o").metadata?.user == other.user)
                } else {
                    await bench.refuses(.preconditionFailed, .stale) { _ = try await bench.provider.copy(request) }
                    #expect(try await bench.head("o").etag == second.etag)
                }
                #expect(try await bench.read("o").bytes == [2, 2])
            }
        },
        ConformanceCase(
            "copy of an old version onto itself is stale", needs: .serverCopy, .without(.readsOldVersions)
        ) { bench in
            let first = try await bench.put("o", [1])
            let second = try await bench.put("o", [2, 2])
            await bench.refuses(.stale) {
                _ = try await bench.provider.copy(
                    CopyRequest(source: first, destination: bench.key("o"), metadata: metadata))
            }
            #expect(try await bench.head("o").etag == second.etag)
        },
        ConformanceCase("copy keeps the storage class and the encryption", needs: .serverCopy) { bench in
            let source = try await bench.put("from", [1])
            let before = try await bench.head("from")
            let copy = try await bench.provider.copy(CopyRequest(source: source, destination: bench.key("to")))
            let after = try await bench.head("to")
            #expect(after.storageClass == before.storageClass && after.encryption == before.encryption)
            #expect(copy.storageClass == nil || copy.storageClass == after.storageClass)
        },
        ConformanceCase("an upload made of ranges of an object and of new bytes", needs: .rangeCopy) { bench in
            let unit = max(bench.capabilities.minPartSize, 1000)
            let bytes = pattern(3 * unit)
            let source = try await bench.put("from", bytes)
            let upload = try await bench.provider.beginUpload(bench.key("to"), metadata: ObjectMetadata())
            let fresh = pattern(unit, seed: 9)
            let parts = [
                try await bench.provider.copyPart(upload, number: 1, source: source, extent: Extent(0, unit)),
                try await bench.provider.uploadPart(upload, number: 2, from: BytesSource(fresh)),
                try await bench.provider.copyPart(
                    upload, number: 3, source: source, extent: Extent(2 * unit, 3 * unit)),
            ]
            #expect(parts.map(\.size) == [unit, unit, unit])
            let stored = try await bench.provider.completeUpload(upload, parts: parts, precondition: .none)
            #expect(stored.size == 3 * unit)
            let expected = Array(bytes[..<unit]) + fresh + Array(bytes[(2 * unit)...])
            #expect(same(try await bench.read("to").bytes, expected))
        },
        ConformanceCase(
            "a range of a version that was replaced is of that version", needs: .rangeCopy, .readsOldVersions
        ) { bench in
            let unit = max(bench.capabilities.minPartSize, 1000)
            let old = try await bench.put("from", pattern(unit))
            try await bench.put("from", pattern(10, seed: 2))
            let upload = try await bench.provider.beginUpload(bench.key("to"), metadata: ObjectMetadata())
            let parts = [
                try await bench.provider.copyPart(upload, number: 1, source: old, extent: Extent(0, unit)),
                try await bench.provider.uploadPart(upload, number: 2, from: BytesSource([9])),
            ]
            _ = try await bench.provider.completeUpload(upload, parts: parts, precondition: .none)
            #expect(same(try await bench.read("to").bytes, pattern(unit) + [9]))
        },
        ConformanceCase(
            "a range of a version that was replaced is stale", needs: .rangeCopy, .without(.readsOldVersions)
        ) { bench in
            let unit = max(bench.capabilities.minPartSize, 1000)
            let old = try await bench.put("from", pattern(unit))
            try await bench.put("from", pattern(unit, seed: 2))
            let upload = try await bench.provider.beginUpload(bench.key("to"), metadata: ObjectMetadata())
            await bench.refuses(.stale) {
                _ = try await bench.provider.copyPart(upload, number: 1, source: old, extent: Extent(0, unit))
            }
            try await bench.provider.abortUpload(upload)
        },
    ]
}
