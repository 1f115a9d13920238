import CloudMountVFS
import Synchronization
import Testing

extension Conformance {
    static let preconditionCases: [ConformanceCase] = [
        ConformanceCase("put only where there is nothing") { bench in
            let first = try await bench.put("o", [1], if: .absent)
            await bench.refuses(.preconditionFailed) { try await bench.put("o", [2], if: .absent) }
            #expect(try await bench.read("o").bytes == [1])
            #expect(try await bench.head("o").etag == first.etag)
            try await bench.delete(["o"])
            try await bench.put("o", [3], if: .absent)
            #expect(try await bench.read("o").bytes == [3])
        },
        ConformanceCase("of eight racing creators one wins", needs: .conditionalCreate) { bench in
            for round in 0..<5 {
                let winners = Mutex<[UInt8]>([])
                try await bench.concurrently(8, width: 8) { number in
                    do throws(VFSError) {
                        try await bench.put("o\(round)", [UInt8(number)], if: .absent)
                        winners.withLock { $0.append(UInt8(number)) }
                    } catch {
                        // A store may answer a loser with “conflict, again”; that is no win either.
                        #expect([.preconditionFailed, .conflict].contains(error.code), "\(error)")
                    }
                }
                let won = winners.withLock { $0 }
                #expect(won.count == 1)
                #expect(try await bench.read("o\(round)").bytes == won)
            }
        },
        ConformanceCase("complete an upload only where there is nothing", needs: .multipart) {
            bench in
            try await bench.put("o", [1])
            let upload = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            let parts = try await bench.lead(upload, then: pattern(100))
            await bench.refuses(.preconditionFailed) {
                _ = try await bench.provider.completeUpload(upload, parts: parts, precondition: .absent)
            }
            #expect(try await bench.read("o").bytes == [1])
            try await bench.provider.abortUpload(upload)
            let second = try await bench.provider.beginUpload(bench.key("new"), metadata: ObjectMetadata())
            let others = try await bench.lead(second, then: pattern(100))
            _ = try await bench.provider.completeUpload(second, parts: others, precondition: .absent)
            #expect(same(try await bench.read("new").bytes, bench.leadingBytes + pattern(100)))
        },
        ConformanceCase("put only over the version that was read") { bench in
            let first = try await bench.put("o", [1])
            let second = try await bench.put("o", [2], if: .match(first.etag))
            await bench.refuses(.preconditionFailed) { try await bench.put("o", [3], if: .match(first.etag)) }
            #expect(try await bench.read("o").bytes == [2])
            try await bench.put("o", [4], if: .match(second.etag))
            #expect(try await bench.read("o").bytes == [4])
        },
        ConformanceCase("put over a version of an object that is gone") { bench in
            let first = try await bench.put("o", [1])
            try await bench.delete(["o"])
            await bench.refuses(.preconditionFailed) { try await bench.put("o", [2], if: .match(first.etag)) }
            await bench.refuses(.notFound) { _ = try await bench.head("o") }
        },
        ConformanceCase(
            "complete an upload only over the version that was read", needs: .multipart
        ) { bench in
            let first = try await bench.put("o", [1])
            let second = try await bench.put("o", [2, 2])
            for (version, works) in [(first.etag, false), (second.etag, true)] {
                let upload = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
                let parts = try await bench.lead(upload, then: pattern(100))
                if works {
                    _ = try await bench.provider.completeUpload(upload, parts: parts, precondition: .match(version))
                    #expect(same(try await bench.read("o").bytes, bench.leadingBytes + pattern(100)))
                } else {
                    await bench.refuses(.preconditionFailed) {
                        _ = try await bench.provider.completeUpload(
                            upload, parts: parts, precondition: .match(version))
                    }
                    #expect(try await bench.read("o").bytes == [2, 2])
                    try await bench.provider.abortUpload(upload)
                }
            }
        },
    ]
}
