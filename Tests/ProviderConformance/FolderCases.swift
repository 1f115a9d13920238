import CloudMountVFS
import Testing

extension Conformance {
    static let folderCases: [ConformanceCase] = [
        ConformanceCase(
            "a real folder is there without an object in it, and goes only when it is empty", needs: .realFolders
        ) {
            bench in
            let made = try await bench.put("f/", [], if: .absent)
            #expect(made.key == bench.key("f/") && made.size == 0)
            await bench.refuses(.preconditionFailed) { try await bench.put("f/", [], if: .absent) }
            try await bench.put("f/")
            #expect(try await bench.head("f/").key == bench.key("f/"))
            #expect(try await bench.list(delimited: true).prefixes == ["f/"])
            try await bench.put("f/g/x", [1])
            try await bench.put("f/y", [2])
            let all = try await bench.provider.list(ListRequest(prefix: bench.key("f/"), delimited: false))
            #expect(Set(all.objects.map { bench.bare($0.key) }) == ["f/", "f/g/", "f/g/x", "f/y"])
            for name in ["f/", "f/g/"] {
                let failures = try await bench.delete([DeleteRequest(bench.key(name))])
                #expect(failures.map(\.error.code) == [.notEmpty])
            }
            #expect(try await bench.read("f/g/x").bytes == [1])
            try await bench.delete(["f/g/x"])
            #expect(try await bench.head("f/g/").size == 0, "it stays when the last object in it goes")
            try await bench.delete(["f/g/", "f/y", "f/", "f/"])
            await bench.refuses(.notFound) { _ = try await bench.head("f/") }
            #expect(try await bench.list(delimited: true).prefixes == [])
        },
        ConformanceCase("a name is a file or a real folder, not both", needs: .realFolders) { bench in
            try await bench.put("d/x", [1])
            try await bench.put("file", [2])
            let codes: [VFSError.Code] = [.preconditionFailed, .isDirectory, .notDirectory, .alreadyExists, .conflict]
            for precondition in [Precondition.absent, .none] {
                for (name, bytes) in [("d", [3]), ("file/", []), ("file/below", [3])] as [(String, [UInt8])] {
                    do throws(VFSError) {
                        try await bench.put(name, bytes, if: precondition)
                        Issue.record("\(name) is stored under the name of something else")
                    } catch {
                        #expect(codes.contains(error.code), "\(name): \(error)")
                    }
                }
            }
            await bench.refuses(.notFound) { _ = try await bench.head("d") }
            await bench.refuses(.notFound) { _ = try await bench.head("file/") }
            await bench.refuses(.notFound) { _ = try await bench.head("file/below") }
            try await bench.delete(["d", "file/", "file/below"])
            #expect(try await bench.read("d/x").bytes == [1])
            #expect(try await bench.read("file").bytes == [2])
        },
    ]
}
