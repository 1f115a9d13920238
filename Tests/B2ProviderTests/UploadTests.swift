import CloudMountCrypto
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization
import TestServers
import Testing

@testable import B2Provider

func sha1(_ bytes: [UInt8]) -> String { Hex.string(SHA1.digest(bytes)) }

/// Hands out upload URLs `/up/1`, `/up/2`, … and takes what is sent there.
private func uploads(
    _ answer: @escaping @Sendable (SeenRequest, _ number: Int) -> ScriptedAnswer? = { _, _ in nil }
) throws -> ScriptedB2 {
    let count = Mutexed(0)
    return try ScriptedB2 { request, home in
        switch request.operation {
        case "b2_get_upload_url", "b2_get_upload_part_url":
            let number = count.value.withLock { count in
                count += 1
                return count
            }
            return .json("{\"uploadUrl\": \"http://\(home)/up/\(number)\", \"authorizationToken\": \"u\(number)\"}")
        case let path where path.hasPrefix("/up/"):
            if let answer = answer(request, Int(path.dropFirst(4)) ?? 0) { return answer }
            let sent = Array(request.body.dropLast(40))
            if let part = request.headers["x-bz-part-number"] {
                return .json(
                    "{\"partNumber\": \(part), \"contentLength\": \(sent.count), \"contentSha1\": \"\(sha1(sent))\"}")
            }
            return .json(file("k", size: sent.count, sha1: sha1(sent)))
        case "b2_start_large_file": return .json(file("k", id: "large", action: "start", size: 0))
        default: return answer(request, 0)
        }
    }
}

@Suite("Uploads")
struct UploadTests {
    @Test("The SHA-1 follows the body, which is read once")
    func digitsAtEnd() async throws {
        final class CountingSource: ByteSource {
            let bytes: [UInt8]
            let read = Mutex(0)
            init(_ bytes: [UInt8]) { self.bytes = bytes }
            var count: Int { bytes.count }
            func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
                let count = try BytesSource(bytes).read(at: offset, into: buffer)
                read.withLock { $0 += count }
                return count
            }
        }
        let script = try uploads()
        let provider = try await script.prepared()
        for count in [0, 1, 5000, 3 << 20] {
            let source = CountingSource((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) })
            let stored = try await provider.put(PutRequest(key: "a b/ü+%"), from: source)
            #expect(stored.size == count)
            #expect(stored.etag == ETag("f1"))
            let sent = try #require(script.seen.last)
            #expect(sent.body.count == count + 40)
            #expect(sent.headers["content-length"] == "\(count + 40)")
            #expect(String(decoding: sent.body.suffix(40), as: UTF8.self) == sha1(source.bytes))
            #expect(sent.headers["x-bz-content-sha1"] == "hex_digits_at_end")
            #expect(sent.headers["x-bz-file-name"] == "a%20b/%C3%BC%2B%25")
            #expect(sent.headers["content-type"] == "b2/x-auto")
            #expect(source.read.withLock { $0 } == count)
        }
    }

    @Test("Reads in any order and from the start again give the right digits")
    func hashedSource() throws {
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0) }
        func read(_ source: B2HashedSource, _ extent: Extent) throws -> [UInt8] {
            var result = [UInt8](repeating: 0, count: extent.count)
            let count = try result.withUnsafeMutableBytes { try source.read(at: extent.lowerBound, into: $0) }
            return Array(result[..<count])
        }
        for order in [
            [Extent(0, 1000)], [Extent(0, 300), Extent(300, 1000)],
            [Extent(0, 300), Extent(0, 500), Extent(500, 1000)],
            [Extent(500, 1000), Extent(0, 500)], [],
        ] {
            let source = B2HashedSource(BytesSource(bytes))
            for extent in order {
                #expect(try read(source, extent) == Array(bytes[extent.lowerBound..<extent.upperBound]))
            }
            let digits = try read(source, Extent(1000, 1020)) + read(source, Extent(1020, 1040))
            #expect(String(decoding: digits, as: UTF8.self) == sha1(bytes))
            #expect(try read(source, Extent(1040, 1050)).isEmpty)
        }
    }

    @Test("One upload URL serves one upload after the other")
    func reuse() async throws {
        let script = try uploads()
        let provider = try await script.prepared()
        for _ in 0..<5 { _ = try await provider.put(PutRequest(key: "k"), from: BytesSource("x")) }
        #expect(script.operations.filter { $0 == "b2_get_upload_url" }.count == 1)
        #expect(script.seen.last?.headers["authorization"] == "u1")
    }

    @Test("Uploads at the same time have a URL each, used by none other meanwhile")
    func exclusive() async throws {
        let busy = Mutexed<Set<String>>([])
        let clashes = Mutexed(0)
        let script = try uploads { request, _ in
            guard request.path.hasPrefix("/up/") else { return nil }
            let isFree = busy.value.withLock { $0.insert(request.path).inserted }
            if !isFree { clashes.value.withLock { $0 += 1 } }
            // Long enough for the others to arrive.
            usleep(20_000)
            _ = busy.value.withLock { $0.remove(request.path) }
            return nil
        }
        let provider = try await script.prepared()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<24 {
                group.addTask {
                    _ = try await provider.put(PutRequest(key: ObjectKey("k\(number)")), from: BytesSource("x"))
                }
            }
            try await group.waitForAll()
        }
        #expect(clashes.value.withLock { $0 } == 0)
    }

    @Test(
        "A URL that failed is not used again; the next attempt has a fresh one",
        arguments: [
            (503, "service_unavailable"), (500, "internal_error"), (408, "request_timeout"), (401, "bad_auth_token"),
        ])
    func dropped(status: Int, code: String) async throws {
        let script = try uploads { request, number in
            request.path.hasPrefix("/up/") && number == 1 ? .error(status, code) : nil
        }
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.put(PutRequest(key: "k"), from: BytesSource("abc")) }
        #expect(error?.retry == .immediately)
        _ = try await provider.put(PutRequest(key: "k"), from: BytesSource("abc"))
        #expect(script.seen.last?.path == "/up/2")
        #expect(script.operations.filter { $0 == "b2_authorize_account" }.count == 1)
    }

    @Test("A busy machine's other URLs are left as well")
    func pool() {
        let pool = B2UploadURLs()
        func place(_ host: String, _ number: Int) -> B2UploadURLs.Place {
            B2UploadURLs.Place(url: "https://\(host)/\(number)", token: "t")
        }
        for number in 0..<3 { pool.give(place("pod-a", number), to: "") }
        pool.give(place("pod-b", 9), to: "")
        pool.give(place("pod-a", 5), to: "large")
        #expect(pool.take("") == place("pod-b", 9))
        pool.leave(place("pod-a", 7), of: "")
        #expect(pool.take("") == nil)
        #expect(pool.take("large") == place("pod-a", 5))
        pool.give(place("pod-a", 5), to: "large")
        pool.drop("large")
        #expect(pool.take("large") == nil)
    }

    @Test(
        "An answer with another SHA-1 or length is not believed",
        arguments: [
            file("k", size: 3, sha1: "0000000000000000000000000000000000000000"), file("k", size: 4),
        ])
    func mismatch(answer: String) async throws {
        let script = try uploads { request, _ in request.path.hasPrefix("/up/") ? .json(answer) : nil }
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.put(PutRequest(key: "k"), from: BytesSource("abc")) }
        #expect(error?.code == .corrupted)
        #expect(error?.retry == .backoff)
    }

    @Test("A broken connection is worth another URL at once")
    func broken() async throws {
        let script = try uploads { request, _ in
            request.path.hasPrefix("/up/") ? ScriptedAnswer(body: Array("{".utf8), isCut: true) : nil
        }
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.put(PutRequest(key: "k"), from: BytesSource("abc")) }
        #expect(error?.code == .corrupted || error?.code == .connectionFailed)
        #expect(error?.retry != .never)
    }

    @Test("Encryption goes along with every upload", arguments: ["SSE-B2", "SSE-C"])
    func encryption(kind: String) async throws {
        let script = try uploads()
        let key = Base64.encode([UInt8](repeating: 7, count: 32))
        let provider = try await script.prepared(
            ["sse": .string(kind), "test_mode": .string("fail_some_uploads")],
            credentials: ["sse_c_key": .string(key), "sse_c_key_id": .string("mine")])
        _ = try await provider.put(PutRequest(key: "k"), from: BytesSource("abc"))
        let sent = try #require(script.seen.last?.headers)
        #expect(sent["x-bz-test-mode"] == "fail_some_uploads")
        let upload = try await provider.beginUpload("k", metadata: ObjectMetadata())
        let begun = try #require(script.seen.last?.text)
        _ = try await provider.uploadPart(upload, number: 1, from: BytesSource("abc"))
        let part = try #require(script.seen.last?.headers)
        if kind == "SSE-B2" {
            #expect(sent["x-bz-server-side-encryption"] == "AES256")
            #expect(begun.contains("\"serverSideEncryption\":{\"mode\":\"SSE-B2\",\"algorithm\":\"AES256\"}"))
            #expect(part["x-bz-server-side-encryption"] == nil)
        } else {
            #expect(sent["x-bz-server-side-encryption-customer-algorithm"] == "AES256")
            #expect(sent["x-bz-server-side-encryption-customer-key"] == key)
            #expect(sent["x-bz-info-sse_c_key_id"] == "mine")
            #expect(begun.contains("\"customerKey\":\"\(key)\""))
            #expect(part["x-bz-server-side-encryption-customer-key"] == key)
        }
        #expect(provider.capabilities.maxMetadataBytes == 1150)
    }

    // MARK: Large files

    @Test("Parts have URLs of their own file, and their SHA-1 as tag")
    func parts() async throws {
        let script = try uploads { request, _ in
            if request.method == "HEAD" { return ScriptedAnswer(headers: headers("large", [("Content-Length", "6")])) }
            return request.operation == "b2_finish_large_file" ? .json(file("k", id: "large", size: 6)) : nil
        }
        let provider = try await script.prepared()
        let upload = try await provider.beginUpload(
            "k", metadata: ObjectMetadata(contentType: "text/x", user: ["mode": "0100644"]))
        #expect(upload == Upload(key: "k", id: "large"))
        let begun = try #require(script.seen.last?.text)
        #expect(begun.contains("\"contentType\":\"text/x\"") && begun.contains("\"mode\":\"0100644\""))
        #expect(begun.contains("\"cm_session\":\"\(B2Leftovers.tag)\""))
        let one = try await provider.uploadPart(upload, number: 1, from: BytesSource("abc"))
        let two = try await provider.uploadPart(upload, number: 2, from: BytesSource("def"))
        #expect(one == UploadedPart(number: 1, size: 3, tag: sha1(Array("abc".utf8))))
        #expect(script.operations.filter { $0 == "b2_get_upload_part_url" }.count == 1)
        let info = try await provider.completeUpload(upload, parts: [two, one], precondition: .none)
        #expect(info.etag == ETag("large") && info.size == 6)
        let finish = script.seen.first { $0.operation == "b2_finish_large_file" }
        #expect(finish?.text == "{\"fileId\":\"large\",\"partSha1Array\":[\"\(one.tag)\",\"\(two.tag)\"]}")
    }

    @Test(
        "A finish whose answer was lost is recognised by the file",
        arguments: [
            ("upload", 6, nil as VFSError.Code?), ("upload", 7, .uploadNotFound), ("start", 0, .invalidArgument),
            ("hide", 0, .uploadNotFound),
        ])
    func lostFinish(action: String, size: Int, code: VFSError.Code?) async throws {
        let script = try uploads { request, _ in
            switch request.operation {
            case "b2_finish_large_file": .error(400, "bad_request", "no longer in progress")
            case "b2_get_file_info": .json(file("k", id: "large", action: action, size: size))
            case "/file/bucket-one/k": ScriptedAnswer(headers: headers("large", [("Content-Length", "6")]))
            default: nil
            }
        }
        let provider = try await script.prepared()
        let upload = Upload(key: "k", id: "large")
        let parts = [UploadedPart(number: 1, size: 3, tag: "a"), UploadedPart(number: 2, size: 3, tag: "b")]
        let error = await failure {
            let info = try await provider.completeUpload(upload, parts: parts, precondition: .none)
            #expect(info.etag == ETag("large"))
        }
        #expect(error?.code == code)
    }

    @Test(
        "An upload that is not there any more is told apart from a bad request",
        arguments: [
            ("{}", true), (file("k", id: "large", action: "start"), false),
        ])
    func goneUpload(info: String, isGone: Bool) async throws {
        let script = try uploads { request, _ in
            switch request.operation {
            case "b2_list_parts": .error(400, "bad_request", "No active upload for: large")
            case "b2_get_file_info": isGone ? .error(404, "not_found") : .json(info)
            default: nil
            }
        }
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.listParts(Upload(key: "k", id: "large")) }
        #expect(error?.code == (isGone ? .uploadNotFound : .invalidArgument))
    }

    @Test("Gaps among the parts are refused before B2 is asked")
    func gaps() async throws {
        let script = try uploads()
        let provider = try await script.prepared()
        let error = await failure {
            _ = try await provider.completeUpload(
                Upload(key: "k", id: "large"), parts: [UploadedPart(number: 2, size: 1, tag: "t")], precondition: .none)
        }
        #expect(error?.code == .invalidArgument)
        #expect(script.work.isEmpty)
    }

    @Test("All pages of a listing of parts are read")
    func partPages() async throws {
        let script = try uploads { request, _ in
            guard request.operation == "b2_list_parts" else { return nil }
            func part(_ number: Int) -> String {
                "{\"partNumber\": \(number), \"contentLength\": 5, \"contentSha1\": \"s\(number)\"}"
            }
            return request.text.contains("startPartNumber")
                ? .json("{\"parts\": [\(part(3))], \"nextPartNumber\": null}")
                : .json("{\"parts\": [\(part(1)), \(part(2))], \"nextPartNumber\": 3}")
        }
        let provider = try await script.prepared()
        let parts = try await provider.listParts(Upload(key: "k", id: "large"))
        #expect(parts.map(\.number) == [1, 2, 3])
        #expect(parts.map(\.tag) == ["s1", "s2", "s3"])
    }

    @Test("Parts are listed as far as their numbers go")
    func endlessParts() async throws {
        let script = try uploads { request, _ in
            guard request.operation == "b2_list_parts" else { return nil }
            let digits = request.text.split(separator: "\"startPartNumber\":").dropFirst().last?.prefix { $0.isNumber }
            return .json("{\"parts\": [], \"nextPartNumber\": \((digits.flatMap { Int($0) } ?? 1) + 999)}")
        }
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.listParts(Upload(key: "k", id: "large")) }
        #expect(error?.code == .malformedResponse)
        #expect(script.work.count < 20)
    }

    @Test(
        "A precondition is compared just before, in one HEAD",
        arguments: [
            (Precondition.absent, 404, true), (.absent, 200, false), (.match(ETag("f1")), 200, true),
            (.match(ETag("other")), 200, false), (.match(ETag("f1")), 404, false),
        ])
    func preconditions(condition: Precondition, status: Int, works: Bool) async throws {
        let script = try uploads { request, _ in
            request.method == "HEAD"
                ? ScriptedAnswer(status: status, headers: headers("f1", [("Content-Length", "3")])) : nil
        }
        let provider = try await script.prepared()
        // A small one would be written together with the look.
        let count = condition == .absent ? B2Writer.besideLimit + 1 : 3
        let error = await failure {
            _ = try await provider.put(
                PutRequest(key: "k", precondition: condition), from: BytesSource([UInt8](repeating: 1, count: count)))
        }
        #expect(error?.code == (works ? nil : .preconditionFailed))
        #expect(script.seen.filter { $0.method == "HEAD" }.count == 1)
    }
}
