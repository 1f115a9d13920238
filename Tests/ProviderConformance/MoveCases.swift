import CloudMountVFS
import Testing

extension Conformance {
    private static let described = ObjectMetadata(
        contentType: "text/x-case", modified: Timestamp(seconds: 1_600_000_000, nanoseconds: 7), user: ["mode": "33188"]
    )

    static let moveCases: [ConformanceCase] = [
        ConformanceCase("a moved object has its bytes under the new key alone", needs: .moves) { bench in
            let source = try await bench.put("from", pattern(70_000))
            let moved = try #require(try await bench.move(source, "to"))
            #expect(moved.key == bench.key("to") && moved.size == 70_000)
            #expect(try await bench.head("to").etag == moved.etag)
            #expect(same(try await bench.read("to", version: moved.etag).bytes, pattern(70_000)))
            await bench.refuses(.notFound) { _ = try await bench.head("from") }
            #expect(try await bench.names() == ["to"])
        },
        ConformanceCase("a moved object keeps its metadata and its nonce", needs: .moves, .metadata) { bench in
            var metadata = described
            metadata.nonce = "moved-object"
            let source = try await bench.put("from", [1, 2, 3], metadata)
            _ = try await bench.move(source, "to")
            let found = try await bench.head("to").metadata
            #expect(found?.user == metadata.user && found?.contentType == metadata.contentType)
            #expect(found?.modified == metadata.modified && found?.nonce == metadata.nonce)
        },
        ConformanceCase("an object is moved into folders that nobody has made, and between odd names", needs: .moves) {
            bench in
            for name in ["new/deep/to", "a b+c%41&d?e#f", "caf\u{E9}", "“quoted” 'key' \"🚀\""] {
                let source = try await bench.put("from", pattern(50))
                _ = try await bench.move(source, name)
                #expect(same(try await bench.read(name).bytes, pattern(50)))
            }
        },
        ConformanceCase("an object is moved onto nothing alone", needs: .moves) { bench in
            let source = try await bench.put("from", [1])
            let taken = try await bench.put("taken", [2])
            await bench.refuses(.preconditionFailed) { _ = try await bench.move(source, "taken") }
            #expect(try await bench.head("taken").etag == taken.etag)
            #expect(try await bench.read("from").bytes == [1])
        },
        ConformanceCase("an object is moved onto the version that was seen alone", needs: .moves) { bench in
            let source = try await bench.put("from", [1])
            let first = try await bench.put("to", [2])
            let second = try await bench.put("to", [3, 3])
            await bench.refuses(.preconditionFailed) { _ = try await bench.move(source, "to", if: .match(first.etag)) }
            #expect(try await bench.read("to").bytes == [3, 3])
            #expect(try await bench.read("from").bytes == [1])
            _ = try await bench.move(source, "to", if: .match(second.etag))
            #expect(try await bench.read("to").bytes == [1])
            await bench.refuses(.notFound) { _ = try await bench.head("from") }
            let other = try await bench.put("from", [4])
            try await bench.delete(["to"])
            await bench.refuses(.preconditionFailed) { _ = try await bench.move(other, "to", if: .match(second.etag)) }
            await bench.refuses(.notFound) { _ = try await bench.head("to") }
            #expect(try await bench.read("from").bytes == [4])
        },
        ConformanceCase("an object that was replaced or is gone is not moved", needs: .moves) { bench in
            let old = try await bench.put("from", [1])
            try await bench.put("from", [2, 2])
            await bench.refuses(.stale) { _ = try await bench.move(old, "to") }
            #expect(try await bench.read("from").bytes == [2, 2])
            try await bench.delete(["from"])
            await bench.refuses(.notFound, .stale) { _ = try await bench.move(old, "to") }
            await bench.refuses(.notFound) { _ = try await bench.head("to") }
        },
        ConformanceCase(
            "of racing movers onto one name one wins, and nothing is lost", needs: .moves, .conditionalCreate
        ) {
            bench in
            for index in 0..<8 { try await bench.put("from\(index)", [UInt8(index)]) }
            try await bench.concurrently(8) { index in
                let source = try await bench.head("from\(index)")
                do throws(VFSError) {
                    _ = try await bench.move(source, "to")
                } catch {
                    #expect([.preconditionFailed, .conflict].contains(error.code), "\(error)")
                }
            }
            var found: Set<UInt8> = []
            for name in try await bench.names() { found.formUnion(try await bench.read(name).bytes) }
            #expect(found == Set(0..<8))
            #expect(try await bench.names().count == 8)
        },
        ConformanceCase(
            "a moved folder has all that was in it, each thing the version that it was", needs: .movesFolders
        ) { bench in
            let names = ["a", "b/c", "b/d e+f%41", "b/g/caf\u{E9}"]
            var before: [String: ETag] = [:]
            for (index, name) in names.enumerated() {
                let info = try await bench.put("from/\(name)", pattern(100 + index), described)
                before[name] = info.etag
            }
            try await bench.put("fromage", [9])
            _ = try await bench.move(folder: "from/", "to/")
            #expect(Set(try await bench.names()) == Set(names.map { "to/\($0)" } + ["fromage"]))
            for (index, name) in names.enumerated() {
                let found = try await bench.head("to/\(name)")
                #expect(found.etag == before[name])
                if bench.capabilities.metadata { #expect(found.metadata?.user == described.user) }
                #expect(same(try await bench.read("to/\(name)", version: found.etag).bytes, pattern(100 + index)))
                await bench.refuses(.notFound) { _ = try await bench.head("from/\(name)") }
            }
            #expect(try await bench.list("from/").objects.isEmpty)
        },
        ConformanceCase("a moved folder keeps what is kept of it", needs: .movesFolders, .emptyFolders) { bench in
            let folder = try await bench.put("from/", [], ObjectMetadata(user: ["mode": "16877"]))
            try await bench.put("from/x", [1])
            let moved = try #require(
                try await bench.provider.move(MoveRequest(source: folder, destination: bench.key("new/to/"))))
            #expect(moved.key == bench.key("new/to/"))
            let found = try await bench.head("new/to/")
            #expect(found.etag == moved.etag)
            if bench.capabilities.folderObjects, bench.capabilities.metadata {
                #expect(found.metadata?.user == ["mode": "16877"])
            }
            await bench.refuses(.notFound) { _ = try await bench.head("from/") }
            #expect(try await bench.read("new/to/x").bytes == [1])
        },
        ConformanceCase("a folder is moved onto nothing alone", needs: .movesFolders) { bench in
            try await bench.put("from/x", [1])
            try await bench.put("taken/y", [2])
            try await bench.put("file", [3])
            for name in ["taken/", "file/"] {
                await bench.refuses(.preconditionFailed) { _ = try await bench.move(folder: "from/", name) }
            }
            if bench.capabilities.realFolders {
                try await bench.put("empty/")
                await bench.refuses(.preconditionFailed) { _ = try await bench.move(folder: "from/", "empty/") }
                try await bench.delete(["empty/"])
            }
            #expect(Set(try await bench.names()) == ["from/x", "taken/y", "file"])
            #expect(try await bench.read("file").bytes == [3])
        },
        ConformanceCase("a folder that is not there is not moved", needs: .movesFolders) { bench in
            try await bench.put("file", [3])
            for name in ["none/", "file/", "none/deeper/"] {
                await bench.refuses(.notFound) { _ = try await bench.move(folder: name, "to/") }
            }
            #expect(try await bench.names() == ["file"])
        },
        ConformanceCase("of racing movers of one folder one wins", needs: .movesFolders) { bench in
            try await bench.put("from/x", [1])
            try await bench.concurrently(8) { index in
                do throws(VFSError) {
                    _ = try await bench.move(folder: "from/", "to\(index)/")
                } catch {
                    #expect([.notFound, .conflict].contains(error.code), "\(error)")
                }
            }
            let names = try await bench.names()
            #expect(names.count == 1 && names[0].hasSuffix("/x"), "\(names)")
        },
    ]
}

extension Bench {
    func move(
        _ source: ObjectInfo, _ name: String, if precondition: Precondition = .absent
    ) async throws(VFSError) -> ObjectInfo? {
        try await provider.move(MoveRequest(source: source, destination: key(name), precondition: precondition))
    }

    /// One of which nothing is known but its key.
    func move(folder: String, _ name: String) async throws(VFSError) -> ObjectInfo? {
        let source = ObjectInfo(key: key(folder), size: 0, etag: ETag(""), stored: Timestamp(seconds: 0))
        return try await move(source, name)
    }
}
