import B2Provider
import CloudMountLayers
import CloudMountVFS
import Synchronization
import TestServers
import Testing

/// What the service does to a client now and then, and what must come of it.
@Suite("The B2 provider and a service that misbehaves")
struct B2ServiceTests {
    /// A provider on a bucket and a key of its own, so that faults and counts are its own.
    private struct Mount {
        let server: B2Server
        let bucket: String
        let key: B2Server.Key
        let provider: any ObjectProvider

        init(
            _ server: B2Server? = nil, _ options: [String: OptionValue] = [:], encrypted: Bool = false
        ) async throws {
            if let server { self.server = server } else { self.server = try await B2Server.shared() }
            bucket = try await self.server.makeBucket("service", encrypted: encrypted)
            key = try await self.server.makeKey(buckets: [bucket])
            provider = try b2Provider(self.server, bucket: bucket, key: key, options)
            try await provider.prepare(writable: true)
        }

        func put(_ key: ObjectKey, _ text: String) async throws(VFSError) -> ObjectInfo {
            try await provider.put(PutRequest(key: key), from: BytesSource(text))
        }

        func text(_ key: ObjectKey, version: ETag? = nil) async throws(VFSError) -> String {
            let sink = Collector()
            _ = try await provider.read(ReadRequest(key: key, version: version), into: sink)
            return String(decoding: sink.bytes, as: UTF8.self)
        }

        func statistics() async throws -> B2Server.Statistics {
            try await server.statistics(bucket: bucket)
        }

        func fault(_ kind: String, _ settings: String) async throws {
            try await server.control("{\"\(kind)\": {\"bucket\": \"\(bucket)\", \(settings)}}")
        }
    }

    @Test("Every shape of the login's answer is understood", arguments: 1...4)
    func shapes(version: Int) async throws {
        let server = try await B2Server.start()
        defer { server.stop() }
        try await server.control("{\"authorize_shape\": \(version)}")
        let mount = try await Mount(server)
        let stored = try await mount.put("k", "abc")
        #expect(try await mount.text("k", version: stored.etag) == "abc")
    }

    @Test("A busy upload machine costs nothing but another URL")
    func busyUploads() async throws {
        let mount = try await Mount()
        _ = try await mount.put("warm", "x")
        try await mount.fault(
            "fail", "\"operation\": \"upload\", \"status\": 503, \"code\": \"service_unavailable\", \"count\": 3")
        _ = try await mount.put("k", "abc")
        #expect(try await mount.text("k") == "abc")
        let calls = try await mount.statistics()
        #expect(calls.count("b2_upload_file") == 5)
        #expect(calls.count("b2_get_upload_url") >= 3)
    }

    @Test("Upload URLs that have died are replaced without a login")
    func deadUploadURLs() async throws {
        let mount = try await Mount()
        _ = try await mount.put("k", "abc")
        try await mount.server.control("{\"expire_upload_urls\": {\"bucket\": \"\(mount.bucket)\"}}")
        _ = try await mount.put("k", "def")
        #expect(try await mount.text("k") == "def")
        #expect(try await mount.server.statistics(key: mount.key.keyID).count("b2_authorize_account") == 1)
    }

    @Test("An upload whose answer is lost is made again", arguments: ["upload", "b2_copy_file", "b2_hide_file"])
    func lostAnswers(operation: String) async throws {
        let mount = try await Mount()
        let source = try await mount.put("k", "abc")
        try await mount.fault("lose_reply", "\"operation\": \"\(operation)\", \"count\": 1")
        switch operation {
        case "upload":
            _ = try await mount.put("k", "def")
            #expect(try await mount.text("k") == "def")
        case "b2_copy_file":
            _ = try await mount.provider.copy(CopyRequest(source: source, destination: "to"))
            #expect(try await mount.text("to") == "abc")
        default:
            #expect(try await mount.provider.delete([DeleteRequest("k")]).isEmpty)
            #expect(await code { _ = try await mount.provider.head("k") } == .notFound)
        }
    }

    @Test("A finish whose answer is lost is recognised, and makes one version")
    func lostFinish() async throws {
        let mount = try await Mount()
        let upload = try await mount.provider.beginUpload("k", metadata: ObjectMetadata())
        let unit = mount.provider.capabilities.minPartSize
        var parts: [UploadedPart] = []
        for (index, size) in [unit, 100].enumerated() {
            let source = BytesSource([UInt8](repeating: UInt8(index), count: size))
            parts.append(try await mount.provider.uploadPart(upload, number: index + 1, from: source))
        }
        try await mount.fault("lose_reply", "\"operation\": \"b2_finish_large_file\", \"count\": 1")
        let info = try await mount.provider.completeUpload(upload, parts: parts, precondition: .none)
        #expect(info.size == unit + 100)
        #expect(try await mount.provider.versions(of: "k").map(\.info.etag) == [info.etag])
    }

    @Test("A body that breaks off is read on, from the same version")
    func brokenDownload() async throws {
        let mount = try await Mount()
        let text = String(repeating: "0123456789", count: 200_000)
        let stored = try await mount.put("k", text)
        try await mount.fault("reset", "\"operation\": \"download\", \"after\": 1000000, \"count\": 2")
        _ = try await mount.put("k", "newer")
        #expect(try await mount.text("k", version: stored.etag) == text)
    }

    @Test(
        "A cap is said at once and once, and ends with it",
        arguments: [
            ("storage", "b2_get_upload_url"), ("transaction", "b2_list_file_names"),
            ("download", "b2_download_file_by_name"),
        ])
    func caps(cap: String, operation: String) async throws {
        let mount = try await Mount()
        _ = try await mount.put("k", "abc")
        let before = try await mount.statistics().count(operation)
        try await mount.fault("caps", "\"caps\": [\"\(cap)\"]")
        let found = await code {
            switch cap {
            case "storage": _ = try await mount.put("other", "def")
            case "transaction": _ = try await mount.provider.list(ListRequest(prefix: "", delimited: true))
            default: _ = try await mount.text("k")
            }
        }
        #expect(found == .quotaExceeded)
        // The put before has left its URL for the next one.
        #expect(try await mount.statistics().count(operation) - before <= 1)
        try await mount.server.control("{\"clear\": {\"bucket\": \"\(mount.bucket)\"}}")
        #expect(try await mount.text("k") == "abc")
    }

    @Test("What was written while a large file was under way does not hide it, nor does a deletion")
    func overtaken() async throws {
        for deletes in [false, true] {
            let mount = try await Mount()
            let unit = mount.provider.capabilities.minPartSize
            let upload = try await mount.provider.beginUpload("k", metadata: ObjectMetadata(user: ["a": "b"]))
            var parts: [UploadedPart] = []
            for (index, size) in [unit, 7].enumerated() {
                let source = BytesSource([UInt8](repeating: 7, count: size))
                parts.append(try await mount.provider.uploadPart(upload, number: index + 1, from: source))
            }
            _ = try await mount.put("k", "meanwhile")
            if deletes { _ = try await mount.provider.delete([DeleteRequest("k")]) }
            let info = try await mount.provider.completeUpload(upload, parts: parts, precondition: .none)
            let found = try await mount.provider.head("k")
            #expect(found.etag == info.etag && found.size == unit + 7)
            #expect(found.metadata?.user == ["a": "b"])
        }
    }

    @Test("A large file covers no version that came after it was begun and that its caller has not seen")
    func notOvertaken() async throws {
        let mount = try await Mount()
        let unit = mount.provider.capabilities.minPartSize
        let first = try await mount.put("k", "first")
        for precondition in [Precondition.match(first.etag), .absent] {
            let upload = try await mount.provider.beginUpload("k", metadata: ObjectMetadata())
            var parts: [UploadedPart] = []
            for (index, size) in [unit, 7].enumerated() {
                let source = BytesSource([UInt8](repeating: 7, count: size))
                parts.append(try await mount.provider.uploadPart(upload, number: index + 1, from: source))
            }
            let other = try await mount.put("k", "meanwhile")
            let error = await code {
                _ = try await mount.provider.completeUpload(upload, parts: parts, precondition: precondition)
            }
            #expect(error == .preconditionFailed)
            #expect(try await mount.provider.head("k").etag == other.etag)
            _ = try await mount.provider.completeUpload(upload, parts: parts, precondition: .match(other.etag))
            #expect(try await mount.provider.head("k").size == unit + 7)
        }
    }

    @Test("Of two that make a new file at once, one is told that it is there, and no version is lost")
    func twoCreators() async throws {
        let mount = try await Mount()
        for round in 0..<10 {
            let key = ObjectKey("k\(round)")
            _ = try await mount.put(key, "theirs")
            let request = PutRequest(
                key: key, metadata: ObjectMetadata(nonce: ObjectMetadata.newNonce()), precondition: .absent)
            #expect(
                await code { _ = try await mount.provider.put(request, from: BytesSource("ours")) }
                    == .preconditionFailed)
            #expect(try await mount.text(key) == "theirs")
            #expect(try await mount.provider.versions(of: key).count == 1)
        }
    }

    @Test("Deleting for good leaves no version, of the object and of no other")
    func permanent() async throws {
        let mount = try await Mount(nil, ["delete": .string("permanent")])
        for text in ["1", "2", "3"] { _ = try await mount.put("k", text) }
        let old = try await mount.put("k", "4")
        _ = try await mount.put("k2", "other")
        _ = try await mount.put("d/", "")
        #expect(try await mount.provider.delete([DeleteRequest("k")]).isEmpty)
        #expect(try await mount.provider.delete([DeleteRequest("d/")]).isEmpty)
        #expect(try await mount.provider.versions(of: "k").isEmpty)
        #expect(try await mount.provider.versions(of: "d/").isEmpty)
        #expect(await code { _ = try await mount.text("k", version: old.etag) } == .stale)
        #expect(try await mount.text("k2") == "other")
    }

    @Test("What a mount counts is what the server bills")
    func billing() async throws {
        let mount = try await Mount()
        for number in 0..<5 { _ = try await mount.put(ObjectKey("k\(number)"), "abc") }
        _ = try await mount.text("k1")
        _ = try await mount.provider.head("k2")
        _ = try await mount.provider.list(ListRequest(prefix: "", delimited: true))
        _ = try await mount.provider.delete([DeleteRequest("k3")])
        let billed = try await mount.server.statistics(key: mount.key.keyID).classes
        let counted = mount.provider.billedCalls
        #expect(counted.map(\.group) == ["class A", "class B", "class C"])
        #expect(counted.map(\.calls) == ["A", "B", "C"].map { billed[$0] ?? 0 })
    }

    @Test("Metadata in an encrypted bucket keep within its limit, and come back")
    func encryptedBucket() async throws {
        let mount = try await Mount(encrypted: true)
        let limit = mount.provider.capabilities.maxMetadataBytes
        #expect(limit < 2048)
        let metadata = ObjectMetadata(
            modified: Timestamp(seconds: 1, nanoseconds: 1), user: ["n": String(repeating: "v", count: limit - 1)])
        _ = try await mount.provider.put(PutRequest(key: "k", metadata: metadata), from: BytesSource("abc"))
        #expect(try await mount.provider.head("k").metadata?.user == metadata.user)
    }
}

private final class Collector: ByteSink {
    private let collected = Mutex<[UInt8]>([])
    var bytes: [UInt8] { collected.withLock { $0 } }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        collected.withLock { $0.append(contentsOf: bytes) }
        return .proceed
    }
}

/// The code of the error that `body` ends with.
private func code(_ body: () async throws -> Void) async -> VFSError.Code? {
    do { try await body() } catch { return (error as? VFSError)?.code }
    return nil
}
