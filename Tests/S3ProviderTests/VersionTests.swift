import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import S3Provider

/// Deletes and copies of one version: by conditions where the endpoint keeps them, else by a look just before.
@Suite("Versions")
struct VersionTests {
    /// A store that answers HEAD by `etags`, listings as well, and takes everything else.
    private func store(
        _ etags: [String: String], headers: [(String, String)] = [],
        _ fault: @escaping @Sendable (SeenRequest) -> ScriptedAnswer? = { _ in nil }
    ) throws -> ScriptedServer {
        try ScriptedServer { request, _ in
            if let answer = fault(request) { return answer }
            switch (request.method, request.query) {
            case ("HEAD", _):
                guard let etag = etags[String(request.path.dropFirst("/bucket/".count))] else {
                    return .error(404, "NoSuchKey")
                }
                return ScriptedAnswer(headers: headers + [("ETag", "\"\(etag)\""), ("Content-Length", "10")])
            case ("GET", let query) where query.contains("prefix"):
                let entries = etags.sorted { $0.key < $1.key }.map { key, etag in
                    "<Contents><Key>\(key)</Key><Size>1</Size><ETag>\(etag)</ETag>"
                        + "<LastModified>2026-11-01T10:10:10Z</LastModified></Contents>"
                }
                return .xml("<ListBucketResult><IsTruncated>false</IsTruncated>\(entries.joined())</ListBucketResult>")
            case ("POST", "delete="): return .xml("<DeleteResult/>")
            case ("PUT", let query):
                let root = query.isEmpty ? "CopyObjectResult" : "CopyPartResult"
                return .xml("<\(root)><ETag>new</ETag></\(root)>")
            default: return ScriptedAnswer(status: 204)
            }
        }
    }

    /// A provider of an endpoint that was shown to copy, and nothing else.
    private func poor(_ server: ScriptedServer) throws -> S3Provider {
        let provider = try provider(server)
        var features = provider.bucket.client.features
        features.serverCopy = true
        features.rangeCopy = true
        features.multipart = true
        features.sortedListing = true
        provider.bucket.client.features = features
        return provider
    }

    // MARK: Deletes

    @Test("A delete of a version says so where it is kept")
    func conditionalDelete() async throws {
        let server = try store([:])
        let provider = try provider(server, known)
        #expect(try await provider.delete([DeleteRequest("k", version: ETag("e1"))]).isEmpty)
        #expect(server.seen.last?.headers["if-match"] == "\"e1\"")
        _ = try await provider.delete([DeleteRequest("k", version: ETag("e1")), DeleteRequest("l")])
        #expect(server.seen.count == 2, "no look")
        #expect(
            server.seen.last?.text.contains(
                "<Object><Key>k</Key><ETag>&quot;e1&quot;</ETag></Object><Object><Key>l</Key></Object>") == true)
    }

    @Test("A refused delete is a failure of its key; of an object that is gone it is none", arguments: [true, false])
    func refusedDelete(isThere: Bool) async throws {
        let server = try store(isThere ? ["k": "e2"] : [:]) { request in
            if request.method == "DELETE" { return .error(412, "PreconditionFailed") }
            guard request.method == "POST" else { return nil }
            return .xml("<DeleteResult><Error><Key>k</Key><Code>PreconditionFailed</Code></Error></DeleteResult>")
        }
        let provider = try provider(server, known)
        for others in [[], [DeleteRequest("l")]] {
            let failures = try await provider.delete([DeleteRequest("k", version: ETag("e1"))] + others)
            #expect(failures.map(\.key) == (isThere ? ["k"] : []))
            #expect(failures.allSatisfy { $0.error.code == .preconditionFailed })
        }
    }

    @Test("Elsewhere one version is looked at just before, and nothing is deleted when it has been replaced")
    func comparedDelete() async throws {
        let server = try store(["k": "e1", "l": "e2"])
        let provider = try provider(server)
        #expect(try await provider.delete([DeleteRequest("k", version: ETag("e1"))]).isEmpty)
        #expect(server.seen.map(\.method) == ["HEAD", "DELETE"])
        #expect(server.seen.last?.headers["if-match"] == nil)
        let failures = try await provider.delete([DeleteRequest("l", version: ETag("e1"))])
        #expect(failures.map(\.error.code) == [.preconditionFailed])
        #expect(try await provider.delete([DeleteRequest("gone", version: ETag("e1"))]).isEmpty)
        #expect(server.seen.map(\.method) == ["HEAD", "DELETE", "HEAD", "HEAD"])
    }

    @Test("Elsewhere many versions are compared by one listing, and again where that says otherwise")
    func comparedDeletes() async throws {
        let server = try store(["d/a1": "e", "d/a2": "e", "d/a3": "x", "d/a4": "e", "d/other": "e"])
        let failures = try await poor(server).delete(
            ["d/a1", "d/a2", "d/a3", "d/a4", "d/a5"].map { DeleteRequest(ObjectKey($0), version: ETag("e")) })
        #expect(failures.map(\.key) == ["d/a3"])
        #expect(failures.map(\.error.code) == [.preconditionFailed])
        let seen = server.seen
        #expect(seen.first?.query.contains("prefix=d%2Fa") == true)
        #expect(Set(seen.dropFirst().dropLast().map(\.target)) == ["/bucket/d/a3", "/bucket/d/a5"])
        let deleted = seen.last?.text.split(separator: "<Key>").dropFirst().compactMap {
            $0.split(separator: "<").first
        }
        #expect(deleted == ["d/a1", "d/a2", "d/a4"])
    }

    // MARK: Copies

    @Test("A condition on the destination of a copy goes out where it is kept, else it is looked at")
    func conditionalCopy() async throws {
        let server = try store(["taken": "t1", "k": "e1"])
        let aws = try provider(server, known)
        _ = try await aws.copy(CopyRequest(source: info("k"), destination: "taken", precondition: .match(ETag("t1"))))
        #expect(server.seen.map(\.method) == ["PUT"])
        #expect(server.seen.last?.headers["if-match"] == "\"t1\"")
        #expect(server.seen.last?.headers["x-amz-copy-source-if-match"] == "\"e1\"")
        let before = server.seen.count
        let poor = try poor(server)
        for (precondition, works) in [
            (Precondition.match(ETag("t1")), true), (.match(ETag("t0")), false), (.absent, false),
        ] {
            let request = CopyRequest(source: info("k"), destination: "taken", precondition: precondition)
            if works { _ = try await poor.copy(request) }
            if !works {
                let error = await #expect(throws: VFSError.self) { try await poor.copy(request) }
                #expect(error?.code == .preconditionFailed)
            }
        }
        let seen = server.seen.dropFirst(before)
        #expect(seen.filter { $0.method == "PUT" }.count == 1)
        #expect(seen.allSatisfy { $0.headers["if-match"] == nil && $0.headers["if-none-match"] == nil })
    }

    @Test("A refused copy says which side has changed")
    func refusedCopy() async throws {
        for (etag, code) in [("e1", VFSError.Code.preconditionFailed), ("e2", .stale)] {
            let server = try store(["k": etag]) { $0.method == "PUT" ? .error(412, "PreconditionFailed") : nil }
            let error = await #expect(throws: VFSError.self) {
                try await provider(server, known).copy(
                    CopyRequest(source: info("k"), destination: "l", precondition: .absent))
            }
            #expect(error?.code == code)
        }
    }

    @Test(
        "Another version that a copy onto itself has caught is nobody's here, where tags are of bytes",
        arguments: [true, false])
    func caughtByCopy(areOfBytes: Bool) async throws {
        let tag = { (letter: Character) in String(repeating: letter, count: 32) }
        let answers = Mutex([tag("b"), areOfBytes ? tag("b") : tag("c")])
        let server = try store(["k": tag("a")]) { request in
            guard request.method == "PUT" else { return nil }
            let tag = answers.withLock { $0.removeFirst() }
            return .xml("<CopyObjectResult><ETag>\(tag)</ETag></CopyObjectResult>")
        }
        let source = ObjectInfo(
            key: "k", size: 10, etag: ETag(tag("a")), stored: Timestamp(seconds: 1), storageClass: "STANDARD")
        let request = CopyRequest(
            source: source, destination: "k", metadata: ObjectMetadata(), precondition: .match(source.etag))
        let provider = try poor(server)
        if areOfBytes {
            let error = await #expect(throws: VFSError.self) { try await provider.copy(request) }
            #expect(error?.code == .busy)
        } else {
            // Each write has a tag of its own, as a copy of the copy shows.
            #expect(try await provider.copy(request).etag == ETag(tag("c")))
        }
    }

    @Test(
        "A copy onto itself is over the version that it is of; held to nothing, it is looked at before and, if its tag is another, after"
    )
    func copyOntoItself() async throws {
        for precondition in [Precondition.none, .match(ETag("e1"))] {
            let server = try store(["k": "e1"])
            let request = CopyRequest(
                source: info("k"), destination: "k", metadata: ObjectMetadata(), precondition: precondition)
            _ = try await provider(server, known).copy(request)
            #expect(server.seen.map(\.method) == ["PUT"])
            #expect(server.seen.last?.headers["if-match"] == "\"e1\"")
            _ = try await poor(server).copy(request)
            #expect(server.seen.map(\.method) == ["PUT", "HEAD", "PUT", "HEAD"])
            #expect(server.seen.dropLast().last?.headers["if-match"] == nil)
            // Another version has come in between, as its size shows.
            var longer = request
            longer.source.size += 1
            let mixed = await #expect(throws: VFSError.self) { try await poor(server).copy(longer) }
            #expect(mixed?.code == .busy)
            let changed = try store(["k": "e2"]) {
                $0.headers["if-match"] != nil ? .error(412, "PreconditionFailed") : nil
            }
            for provider in [try provider(changed, known), try poor(changed)] {
                let error = await #expect(throws: VFSError.self) { try await provider.copy(request) }
                #expect(error?.code == .stale)
            }
            #expect(changed.seen.filter { $0.method == "PUT" }.count == 1, "without conditions nothing is sent")
        }
    }

    @Test("A range is looked at after it was copied, which leaves no moment for another version")
    func copiedRange() async throws {
        let upload = Upload(key: "l", id: "U")
        let server = try store(["k": "e1"])
        _ = try await poor(server).copyPart(upload, number: 1, source: info("k"), extent: Extent(0, 5))
        #expect(server.seen.map(\.method) == ["PUT", "HEAD"])
        let changed = try store(["k": "e2"])
        let short = try store(["k": "e2"]) { $0.method == "PUT" ? .error(416, "InvalidRange") : nil }
        for server in [changed, short] {
            let error = await #expect(throws: VFSError.self) {
                try await poor(server).copyPart(upload, number: 1, source: info("k"), extent: Extent(0, 5))
            }
            #expect(error?.code == .stale)
        }
    }

    @Test("What an answer without an ETag has made is ours only with our nonce")
    func unnamed() async throws {
        for (nonce, isOurs) in [("ours", true), ("theirs", false)] {
            let server = try store(["k": "e1", "l": "e2"], headers: [("x-amz-meta-cloudmount-nonce", nonce)]) {
                $0.method == "PUT" ? .xml("<CopyObjectResult/>") : nil
            }
            let request = CopyRequest(source: info("k"), destination: "l", metadata: ObjectMetadata(nonce: "ours"))
            if isOurs {
                #expect(try await provider(server, known).copy(request).etag == ETag("e2"))
            } else {
                await #expect(throws: VFSError.self) { try await provider(server, known).copy(request) }
            }
        }
    }

    // MARK: Storage class and encryption

    private static let kms = [
        ("x-amz-server-side-encryption", "aws:kms"), ("x-amz-server-side-encryption-aws-kms-key-id", "key-1"),
        ("x-amz-server-side-encryption-bucket-key-enabled", "true"), ("x-amz-storage-class", "STANDARD_IA"),
    ]

    private func isKept(_ request: SeenRequest?) -> Bool { Self.kms.allSatisfy { request?.headers[$0.0] == $0.1 } }

    @Test("A copy names the class and the encryption of its source")
    func kept() async throws {
        let server = try store(["k": "e1"], headers: Self.kms)
        let provider = try provider(server, known)
        let source = try await provider.head("k")
        #expect(source.storageClass == "STANDARD_IA" && source.encryption == "aws:kms key-1 bucket-key")
        _ = try await provider.copy(CopyRequest(source: source, destination: "l"))
        #expect(server.seen.map(\.method) == ["HEAD", "PUT"])
        #expect(isKept(server.seen.last))
        // Of which only the version is known.
        _ = try await provider.copy(
            CopyRequest(source: info("k", storageClass: nil, encryption: nil), destination: "l"))
        #expect(server.seen.map(\.method) == ["HEAD", "PUT", "HEAD", "PUT"])
        #expect(isKept(server.seen.last))
    }

    @Test("What was listed is looked at only while it may be encrypted in another way than the bucket would")
    func listed() async throws {
        let source = info("k", encryption: nil)
        for (headers, looks) in [([], 1), (Self.kms, 3)] as [([(String, String)], Int)] {
            let server = try store(["k": "e1"], headers: headers)
            let provider = try provider(server, known)
            for _ in 0..<3 { _ = try await provider.copy(CopyRequest(source: source, destination: "l")) }
            #expect(server.seen.filter { $0.method == "HEAD" }.count == looks)
            #expect(server.seen.filter { $0.method == "PUT" }.allSatisfy { isKept($0) == (looks == 3) })
        }
        let server = try store(["k": "e1"], headers: Self.kms)
        let told = try provider(server, known.merging(["sse": .string("AES256")]) { $1 })
        _ = try await told.copy(CopyRequest(source: source, destination: "l"))
        #expect(server.seen.map { $0.headers["x-amz-server-side-encryption"] } == ["AES256"])
    }

    @Test("A source of another size is another version, whatever it is called")
    func otherSize() async throws {
        let server = try store(["k": "e1"], headers: Self.kms) { request in
            request.query == "uploads="
                ? .xml("<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>") : nil
        }
        let provider = try provider(server, known, copyLimit: 5, copyPartSize: 5)
        let error = await #expect(throws: VFSError.self) {
            try await provider.copy(CopyRequest(source: info("k", size: 23, storageClass: nil), destination: "l"))
        }
        #expect(error?.code == .stale)
        #expect(server.seen.allSatisfy { $0.method == "HEAD" })
    }

    @Test("A listing of versions that goes round is an error")
    func circles() async throws {
        let server = try ScriptedServer { request, _ in
            let next = request.query.contains("version-id-marker=v1") ? "v2" : "v1"
            return .xml(
                "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
                    + "<NextVersionIdMarker>\(next)</NextVersionIdMarker></ListVersionsResult>")
        }
        let provider = try provider(server, known)
        var features = provider.bucket.client.features
        features.versions = true
        provider.bucket.client.features = features
        let error = await #expect(throws: VFSError.self) { try await provider.versions(of: "k") }
        #expect(error?.code == .malformedResponse)
        #expect(server.seen.count == 3)
    }

    @Test("A copy in parts keeps them as well")
    func keptInParts() async throws {
        let server = try store(["k": "e1"], headers: Self.kms) { request in
            switch request.query {
            case "uploads=":
                .xml("<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>")
            case "uploadId=U" where request.method == "POST":
                .xml("<CompleteMultipartUploadResult><ETag>c</ETag></CompleteMultipartUploadResult>")
            default: nil
            }
        }
        let provider = try provider(server, known, copyLimit: 5, copyPartSize: 5)
        let copy = try await provider.copy(
            CopyRequest(source: info("k", storageClass: nil), destination: "l", precondition: .absent))
        #expect(copy.storageClass == "STANDARD_IA")
        #expect(isKept(server.seen.first { $0.query == "uploads=" }))
        let complete = server.seen.first { $0.method == "POST" && $0.query == "uploadId=U" }
        #expect(complete?.headers["if-none-match"] == "*")
    }

    @Test("Which encryption is usual is learnt from writes, which are others from reads")
    func sightings() {
        var sightings = S3EncryptionSightings()
        #expect(sightings.mayDiffer, "nothing is known")
        sightings.read(nil)
        #expect(!sightings.mayDiffer)
        sightings.wrote("aws:kms k")
        #expect(sightings.mayDiffer, "the bucket encrypts otherwise than what was seen")
        var others = S3EncryptionSightings()
        others.read("aws:kms k")
        #expect(others.mayDiffer)
        others.wrote("aws:kms k")
        #expect(!others.mayDiffer)
        others.read("aws:kms other")
        #expect(others.mayDiffer)
    }
}
