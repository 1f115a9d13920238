import CloudMountVFS
import Testing

extension Conformance {
    static let missingBucket = "a bucket that does not exist is told apart"
    static let wrongCredentials = "credentials that the store refuses are told apart"

    static let errorCases: [ConformanceCase] = [
        ConformanceCase("an absent object is notFound in every verb, never again") { bench in
            await bench.refuses(.notFound) { _ = try await bench.head("absent") }
            await bench.refuses(.notFound) { _ = try await bench.head("absent/") }
            let sink = CollectingSink()
            for extent in [nil, Extent(0, 10)] {
                await bench.refuses(.notFound) {
                    let request = ReadRequest(key: bench.key("absent"), extent: extent)
                    _ = try await bench.provider.read(request, into: sink)
                }
            }
            #expect(sink.bytes.isEmpty)
        },
        ConformanceCase("a key that is too long is refused") { bench in
            let name = String(repeating: "long/", count: 1 + bench.capabilities.maxKeyBytes / 5) + "x"
            await bench.refuses(.nameTooLong) { try await bench.put(name, [1]) }
        },
        ConformanceCase("an empty key is refused") { bench in
            await bench.refuses(.invalidName) {
                _ = try await bench.provider.put(PutRequest(key: ""), from: BytesSource("x"))
            }
        },
        ConformanceCase("more metadata than is allowed is refused", needs: .metadata) { bench in
            let most = bench.capabilities.maxMetadataBytes + bench.capabilities.reservedMetadataBytes
            let value = String(repeating: "v", count: most + 1)
            await bench.refuses(.tooLarge) { try await bench.put("o", [1], ObjectMetadata(user: ["big": value])) }
            await bench.refuses(.notFound) { _ = try await bench.head("o") }
        },
        ConformanceCase("an upload that never began is uploadNotFound", needs: .multipart) { bench in
            let real = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            try await bench.provider.abortUpload(real)
            await bench.refuses(.uploadNotFound) {
                _ = try await bench.provider.uploadPart(real, number: 1, from: BytesSource("x"))
            }
        },
        ConformanceCase("a part that the store does not hold is refused", needs: .multipart) { bench in
            let upload = try await bench.provider.beginUpload(bench.key("o"), metadata: ObjectMetadata())
            let part = try await bench.provider.uploadPart(upload, number: 1, from: BytesSource(pattern(100)))
            let wrong = UploadedPart(number: 3, size: part.size, tag: part.tag)
            await bench.refuses(.invalidArgument) {
                _ = try await bench.provider.completeUpload(upload, parts: [wrong], precondition: .none)
            }
            await bench.refuses(.notFound) { _ = try await bench.head("o") }
            try await bench.provider.abortUpload(upload)
        },
        ConformanceCase("what the store lacks is notSupported", needs: .lacks) {
            bench in
            let stored = try await bench.put("o", [1])
            if !bench.capabilities.multipart {
                await bench.refuses(.notSupported) {
                    _ = try await bench.provider.beginUpload(bench.key("p"), metadata: ObjectMetadata())
                }
            }
            if !bench.capabilities.serverCopy {
                await bench.refuses(.notSupported) {
                    _ = try await bench.provider.copy(CopyRequest(source: stored, destination: bench.key("p")))
                }
            }
            if !bench.capabilities.versions {
                await bench.refuses(.notSupported) { _ = try await bench.provider.versions(of: bench.key("o")) }
            }
        },
        ConformanceCase(missingBucket) { bench in
            let provider = try #require(try await bench.subject.missingBucket?())
            await bench.refuses(.bucketNotFound) { try await provider.prepare(writable: true) }
            await bench.refuses(.bucketNotFound) { try await provider.prepare(writable: false) }
        },
        ConformanceCase(wrongCredentials) { bench in
            let provider = try #require(try await bench.subject.wrongCredentials?())
            await bench.refuses(.credentialsInvalid, .permissionDenied) { try await provider.prepare(writable: true) }
        },
    ]
}
