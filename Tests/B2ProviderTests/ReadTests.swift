import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import B2Provider

@Suite("Reads and lookups")
struct ReadTests {
    @Test("A version is read by its id, and what has none by its name")
    func paths() async throws {
        let script = try ScriptedB2 { request, _ in
            request.method == "GET" && request.operation != "b2_authorize_account"
                ? ScriptedAnswer(headers: headers("4_z1"), body: Array("abc".utf8)) : nil
        }
        let provider = try await script.prepared()
        let sink = CollectingSink()
        let info = try await provider.read(ReadRequest(key: "a b/ü", version: ETag("4_z1")), into: sink)
        #expect(info.etag == ETag("4_z1") && info.size == 3)
        #expect(info.stored == Timestamp(milliseconds: 1_700_000_000_123))
        #expect(script.seen.last?.target == "/b2api/v4/b2_download_file_by_id?fileId=4_z1")
        #expect(script.seen.last?.headers["authorization"] == "token1")
        _ = try await provider.read(ReadRequest(key: "a b/ü"), into: sink)
        #expect(script.seen.last?.target == "/file/bucket-one/a%20b/%C3%BC")
        #expect(sink.bytes == Array("abcabc".utf8))
        #expect(provider.billedCalls.map(\.calls) == [0, 2, 3])
    }

    @Test("A range is asked for, and any other is refused")
    func ranges() async throws {
        let script = try ScriptedB2 { request, _ in
            switch request.headers["range"] {
            case "bytes=2-4":
                ScriptedAnswer(
                    status: 206, headers: headers("v", [("Content-Range", "bytes 2-4/10")]), body: Array("cde".utf8))
            case "bytes=3-4":
                ScriptedAnswer(
                    status: 206, headers: headers("v", [("Content-Range", "bytes 0-1/10")]), body: Array("ab".utf8))
            case "bytes=1-2": ScriptedAnswer(headers: headers("v"), body: Array("abcdefghij".utf8))
            case "bytes=10-19": .error(416, "range_not_satisfiable")
            default: request.operation == "b2_get_file_info" ? .json(file("k", id: "v", size: 10)) : nil
            }
        }
        let provider = try await script.prepared()
        let sink = CollectingSink()
        func read(_ extent: Extent) async throws(VFSError) -> ObjectInfo {
            try await provider.read(ReadRequest(key: "k", extent: extent, version: ETag("v")), into: sink)
        }
        #expect(try await read(Extent(2, 5)).size == 10)
        #expect(sink.bytes == Array("cde".utf8))
        #expect(await failure { _ = try await read(Extent(3, 5)) }?.code == .malformedResponse)
        #expect(await failure { _ = try await read(Extent(1, 3)) }?.code == .notSupported)
        #expect(try await read(Extent(10, 20)).size == 10)
        #expect(try await read(Extent(4, 4)).size == 10)
        #expect(sink.bytes == Array("cde".utf8), "nothing of the refused answers")
    }

    @Test("A version that is gone is stale; a name that is gone is absent")
    func gone() async throws {
        let script = try ScriptedB2 { request, _ in
            request.method == "GET" && request.operation != "b2_authorize_account" ? .error(404, "not_found") : nil
        }
        let provider = try await script.prepared()
        let sink = CollectingSink()
        let stale = await failure { _ = try await provider.read(ReadRequest(key: "k", version: ETag("v")), into: sink) }
        #expect(stale?.code == .stale)
        #expect(await failure { _ = try await provider.read(ReadRequest(key: "k"), into: sink) }?.code == .notFound)
    }

    @Test("Another version than the one asked for is not taken")
    func otherVersion() async throws {
        let script = try ScriptedB2 { request, _ in
            request.path.hasSuffix("by_id") ? ScriptedAnswer(headers: headers("other"), body: Array("abc".utf8)) : nil
        }
        let provider = try await script.prepared()
        let sink = CollectingSink()
        let error = await failure { _ = try await provider.read(ReadRequest(key: "k", version: ETag("v")), into: sink) }
        #expect(error?.code == .stale)
        #expect(sink.bytes.isEmpty)
    }

    @Test(
        "A whole file is held against its SHA-1",
        arguments: [
            (1000, true), (1000, false), (1_600_000, true), (1_600_000, false), (1 << 20, true), (1, false),
        ])
    func checksum(size: Int, isRight: Bool) async throws {
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 / 3) }
        let digest = isRight ? sha1(bytes) : sha1(bytes + [1])
        let script = try ScriptedB2 { request, _ in
            request.path.hasSuffix("by_id") ? ScriptedAnswer(headers: headers("v", sha1: digest), body: bytes) : nil
        }
        let provider = try await script.prepared()
        let sink = CollectingSink()
        let error = await failure { _ = try await provider.read(ReadRequest(key: "k", version: ETag("v")), into: sink) }
        if isRight {
            #expect(error == nil)
            #expect(sink.bytes == bytes)
        } else {
            #expect(error?.code == .corrupted)
            // What was passed on cannot be taken back, so that a retry would only go on behind it.
            #expect(error?.retry == (size <= B2CheckedSink.heldBack ? .backoff : .never))
            #expect(sink.bytes.count < size)
            if size <= B2CheckedSink.heldBack { #expect(sink.bytes.isEmpty) }
        }
    }

    @Test("That a file is gone only B2 says, and it has words for it; a bare 404 is an error")
    func bareAbsence() async throws {
        let script = try ScriptedB2 { request, _ in
            request.path.hasSuffix("by_id") || request.path.hasPrefix("/file/") ? ScriptedAnswer(status: 404) : nil
        }
        let provider = try await script.prepared()
        for version in [nil, ETag("v")] {
            let error = await failure {
                _ = try await provider.read(ReadRequest(key: "k", version: version), into: CollectingSink())
            }
            #expect(error?.code == .malformedResponse)
        }
    }

    @Test(
        "What has come wrong as a whole is not taken in pieces, which have no SHA-1, until it comes right or time has passed"
    )
    func suspects() async throws {
        let bytes = Array("right".utf8)
        let script = try ScriptedB2 { request, _ in
            guard request.path.hasSuffix("by_id") else { return nil }
            if request.headers["range"] == "bytes=0-1" {
                return ScriptedAnswer(
                    status: 206, headers: headers("v", [("Content-Range", "bytes 0-1/5")]), body: [1, 2])
            }
            return ScriptedAnswer(
                status: 206, headers: headers("v", sha1: sha1(bytes), [("Content-Range", "bytes 0-4/5")]),
                body: Array("wrong".utf8))
        }
        let provider = try await script.prepared()
        func read(_ extent: Extent) async -> VFSError? {
            await failure {
                _ = try await provider.read(
                    ReadRequest(key: "k", extent: extent, version: ETag("v")), into: CollectingSink())
            }
        }
        #expect(await read(Extent(0, 2)) == nil)
        #expect(await read(Extent(0, 5))?.code == .corrupted)
        let part = await read(Extent(0, 2))
        #expect(part?.code == .corrupted)
        #expect(part?.retry == .never)
        #expect(await read(Extent(0, 5))?.retry == .backoff)
        #expect(script.work.count == 3)

        let time = Mutexed<UInt64>(0)
        let suspects = B2Suspects(now: { time.value.withLock { $0 } })
        suspects.add("v", size: 5)
        #expect(suspects.isPart(Extent(1, 5), of: "v"))
        #expect(!suspects.isPart(Extent(0, 5), of: "v"))
        time.value.withLock { $0 = 30_000_000_000 }
        #expect(!suspects.isPart(Extent(1, 5), of: "v"))
    }

    @Test(
        "A large file's own SHA-1 counts where B2 has none, and what B2 never checked does not",
        arguments: [
            ("none", "X-Bz-Info-large_file_sha1", true), ("unverified:", "X-Other", false),
        ])
    func otherDigests(field: String, header: String, isChecked: Bool) async throws {
        let wrong = sha1([1])
        let script = try ScriptedB2 { request, _ in
            request.path.hasSuffix("by_id")
                ? ScriptedAnswer(
                    headers: headers(
                        "v", sha1: field == "none" ? field : field + wrong, [(header, wrong)]), body: Array("abc".utf8))
                : nil
        }
        let provider = try await script.prepared()
        let error = await failure {
            _ = try await provider.read(ReadRequest(key: "k", version: ETag("v")), into: CollectingSink())
        }
        #expect(error?.code == (isChecked ? .corrupted : nil))
    }

    @Test("A paused receiver gets every byte once", arguments: [1000, 1_600_000])
    func pauses(size: Int) throws {
        final class Reluctant: ByteSink {
            let state = Mutexed((bytes: [UInt8](), turn: 0))
            func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
                state.value.withLock { state in
                    state.turn += 1
                    guard state.turn % 2 == 0 else { return .pause }
                    state.bytes.append(contentsOf: bytes)
                    return .proceed
                }
            }
        }
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 / 5) }
        let inner = Reluctant()
        let sink = B2CheckedSink(inner)
        var fields = [("Content-Length", "\(size)")]
        fields += headers("v", sha1: sha1(bytes))
        sink.expect(head(200, fields))
        var offset = 0
        while offset < size {
            let end = min(size, offset + 100_000)
            let verdict = bytes.withUnsafeBytes { sink.receive(UnsafeRawBufferPointer(rebasing: $0[offset..<end])) }
            if case .proceed = verdict { offset = end }
        }
        #expect(inner.state.value.withLock { $0.bytes } == bytes)
        #expect(sink.failedSize == nil)
    }

    @Test("A lookup is one HEAD, and says all that is kept with a file")
    func lookup() async throws {
        let script = try ScriptedB2 { request, _ in
            guard request.method == "HEAD" else { return nil }
            return ScriptedAnswer(
                headers: headers(
                    "v",
                    [
                        ("Content-Length", "12"), ("X-Bz-Info-src_last_modified_millis", "1595002920123"),
                        ("X-Bz-Info-mode", "0100644"), ("X-Bz-Info-note", "na%C3%AFve+text"),
                        ("Content-Disposition", "attachment"), ("Cache-Control", "max-age=0, no-cache, no-store"),
                    ]))
        }
        let provider = try await script.prepared()
        let info = try await provider.head("k")
        #expect(info.size == 12 && info.etag == ETag("v"))
        #expect(info.metadata?.modified == Timestamp(milliseconds: 1_595_002_920_123))
        #expect(info.metadata?.user == ["mode": "0100644", "note": "naïve text"])
        #expect(info.metadata?.headers == ["content-disposition": "attachment"])
        #expect(script.work == ["/file/bucket-one/k"])
    }

    @Test("A folder object is looked for under both of its names")
    func folders() async throws {
        let script = try ScriptedB2 { request, _ in
            switch (request.method, request.path) {
            case ("HEAD", "/file/bucket-one/a/.bzEmpty"):
                ScriptedAnswer(headers: headers("m", [("Content-Length", "0")]))
            case ("HEAD", "/file/bucket-one/b/"): ScriptedAnswer(headers: headers("l", [("Content-Length", "0")]))
            case ("HEAD", _): ScriptedAnswer(status: 404)
            default: nil
            }
        }
        let provider = try await script.prepared()
        #expect(try await provider.head("a/").etag == ETag("m"))
        #expect(try await provider.head("b/").etag == ETag("l"))
        #expect(await failure { _ = try await provider.head("c/") }?.code == .notFound)
        let before = script.seen.count
        #expect(await failure { _ = try await provider.head("a/.bzEmpty") }?.code == .notFound)
        #expect(script.seen.count == before, "the marker itself is hidden, and not asked for")
    }
}
