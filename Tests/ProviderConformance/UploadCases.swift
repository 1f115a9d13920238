import CloudMountVFS
import Testing

extension Bench {
    /// What comes before the parts of a case where the store wants more parts than the case has: the least such parts.
    var leadingSizes: [Int] {
        Array(repeating: max(capabilities.minPartSize, 1), count: max(0, capabilities.minParts - 1))
    }

    var leadingBytes: [UInt8] { leadingSizes.flatMap { pattern($0, seed: 77) } }

    /// Sends them, numbered from 1 on.
    func lead(_ upload: Upload) async throws -> [UploadedPart] {
        var parts: [UploadedPart] = []
        for size in leadingSizes {
            let source = BytesSource(pattern(size, seed: 77))
            parts.append(try await provider.uploadPart(upload, number: parts.count + 1, from: source))
        }
        return parts
    }

    /// The same, and one more part of `bytes`.
    func lead(_ upload: Upload, then bytes: [UInt8]) async throws -> [UploadedPart] {
        let parts = try await lead(upload)
        let last = try await provider.uploadPart(upload, number: parts.count + 1, from: BytesSource(bytes))
        return parts + [last]
    }
}

extension Conformance {
    /// Uploads `sizes` as parts in the order of `order` (indices), a few at a time when `width` is above one.
    private static func upload(
        _ bench: Bench, _ name: String, sizes: [Int], order: [Int]? = nil, width: Int = 1
    ) async throws -> [UInt8] {
        let bodies = sizes.enumerated().map { pattern($1, seed: UInt64($0 + 1)) }
        let upload = try await bench.provider.beginUpload(bench.key(name), metadata: ObjectMetadata())
        var parts: [UploadedPart] = []
        let order = order ?? Array(sizes.indices)
        try await withThrowingTaskGroup(of: UploadedPart.self) { group in
            for (count, index) in order.enumerated() {
                if count >= width, let part = try await group.next() { parts.append(part) }
                group.addTask {
                    try await bench.provider.uploadPart(upload, number: index + 1, from: BytesSource(bodies[index]))
                }
            }
            for try await part in group { parts.append(part) }
        }
        parts.sort { $0.number < $1.number }
        #expect(parts.map(\.size) == sizes)
        await bench.refuses(.notFound) { _ = try await bench.head(name) }
        let stored = try await bench.provider.completeUpload(upload, parts: parts, precondition: .none)
        #expect(stored.size == sizes.reduce(0, +))
        #expect(try await bench.head(name).etag == stored.etag)
        return bodies.flatMap { $0 }
    }

    static let uploadCases: [ConformanceCase] = [
        ConformanceCase("an upload in parts of the smallest size, with a short last one", needs: .multipart) { bench in
            let unit = max(bench.capabilities.minPartSize, 1)
            let bytes = try await upload(bench, "o", sizes: [unit, unit, 17])
            #expect(same(try await bench.read("o").bytes, bytes))
            let across = Extent(max(0, unit - 5), unit + 5)
            #expect(
                same(
                    try await bench.read("o", across).bytes,
                    Array(bytes[across.lowerBound..<min(across.upperBound, bytes.count)])))
        },
        ConformanceCase("an upload of one short part", needs: .multipart, .singlePart) { bench in
            let bytes = try await upload(bench, "o", sizes: [3])
            #expect(try await bench.read("o").bytes == bytes)
        },
        ConformanceCase("parts of exact sizes around a mebibyte", needs: .multipart, .without(.equalParts)) { bench in
            let unit = max(bench.capabilities.minPartSize, 1 << 20)
            let bytes = try await upload(bench, "o", sizes: [unit + 1, unit, unit + 4097, 1])
            #expect(same(try await bench.read("o").bytes, bytes))
        },
        ConformanceCase("parts uploaded out of order", needs: .multipart) { bench in
            let unit = max(bench.capabilities.minPartSize, 1000)
            let bytes = try await upload(bench, "o", sizes: [unit, unit, unit, 5], order: [3, 1, 0, 2])
            #expect(same(try await bench.read("o").bytes, bytes))
        },
        ConformanceCase("parts uploaded at the same time", needs: .multipart) { bench in
            let unit = max(bench.capabilities.minPartSize, 1000)
            let bytes = try await upload(bench, "o", sizes: Array(repeating: unit, count: 6) + [9], width: 4)
            #expect(same(try await bench.read("o").bytes, bytes))
        },
        ConformanceCase("part numbers with gaps", needs: .multipart) { bench in
            let unit = max(bench.capabilities.minPartSize, 1000)
            let upload = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            let first = try await bench.provider.uploadPart(upload, number: 2, from: BytesSource(pattern(unit)))
            let last = try await bench.provider.uploadPart(upload, number: 7, from: BytesSource(pattern(5, seed: 2)))
            _ = try await bench.provider.completeUpload(upload, parts: [first, last], precondition: .none)
            #expect(same(try await bench.read("o").bytes, pattern(unit) + pattern(5, seed: 2)))
        },
        ConformanceCase("a part sent again replaces the one before", needs: .multipart) { bench in
            let upload = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            let lead = try await bench.lead(upload)
            let number = lead.count + 1
            _ = try await bench.provider.uploadPart(upload, number: number, from: BytesSource(pattern(500)))
            let second = try await bench.provider.uploadPart(
                upload, number: number, from: BytesSource(pattern(300, seed: 2)))
            _ = try await bench.provider.completeUpload(upload, parts: lead + [second], precondition: .none)
            #expect(same(try await bench.read("o").bytes, bench.leadingBytes + pattern(300, seed: 2)))
        },
        ConformanceCase("the parts that the store holds are listed", needs: .multipart) { bench in
            let unit = max(bench.capabilities.minPartSize, 1000)
            let upload = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            #expect(try await bench.provider.listParts(upload).isEmpty)
            let second = try await bench.provider.uploadPart(upload, number: 2, from: BytesSource(pattern(unit)))
            let first = try await bench.provider.uploadPart(
                upload, number: 1, from: BytesSource(pattern(unit, seed: 2)))
            #expect(try await bench.provider.listParts(upload) == [first, second])
            try await bench.provider.abortUpload(upload)
        },
        ConformanceCase("an aborted upload is gone and leaves nothing", needs: .multipart) { bench in
            let upload = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            let part = try await bench.provider.uploadPart(upload, number: 1, from: BytesSource(pattern(100)))
            try await bench.provider.abortUpload(upload)
            try await bench.provider.abortUpload(upload)
            await bench.refuses(.uploadNotFound) {
                _ = try await bench.provider.uploadPart(upload, number: 2, from: BytesSource(pattern(100)))
            }
            await bench.refuses(.uploadNotFound) {
                _ = try await bench.provider.completeUpload(upload, parts: [part], precondition: .none)
            }
            await bench.refuses(.uploadNotFound) { _ = try await bench.provider.listParts(upload) }
            #expect(try await bench.list().objects.isEmpty)
        },
        ConformanceCase("an upload replaces an object only when it is complete", needs: .multipart) { bench in
            try await bench.put("o", [1])
            let upload = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            let parts = try await bench.lead(upload, then: pattern(100))
            #expect(try await bench.read("o").bytes == [1])
            #expect(try await bench.names() == ["o"])
            _ = try await bench.provider.completeUpload(upload, parts: parts, precondition: .none)
            #expect(same(try await bench.read("o").bytes, bench.leadingBytes + pattern(100)))
        },
        ConformanceCase("two uploads of one key do not meet", needs: .multipart) { bench in
            let one = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            let two = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            #expect(one.id != two.id)
            let first = try await bench.lead(one, then: pattern(100))
            let second = try await bench.lead(two, then: pattern(200))
            _ = try await bench.provider.completeUpload(two, parts: second, precondition: .none)
            #expect(try await bench.head("o").size == bench.leadingBytes.count + 200)
            _ = try await bench.provider.completeUpload(one, parts: first, precondition: .none)
            #expect(try await bench.head("o").size == bench.leadingBytes.count + 100)
        },
        ConformanceCase("an upload under an odd key", needs: .multipart) { bench in
            for name in ["a b+c%41&d?e#f", "cafe\u{301}🚀"] {
                let bytes = try await upload(bench, name, sizes: bench.leadingSizes + [100])
                #expect(same(try await bench.read(name).bytes, bytes))
            }
        },
    ]
}
