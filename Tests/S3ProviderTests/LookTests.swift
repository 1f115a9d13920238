import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import S3Provider

private final class Counter: Sendable {
    private let count = Atomic(0)
    var value: Int { count.load(ordering: .relaxed) }
    func next() -> Int { count.add(1, ordering: .relaxed).newValue }
}

@Suite("Looks")
struct LookTests {
    /// A store that honours conditions of deletes only. Its objects' ETags are as `objects` says, those of copies as `copied`.
    private struct Store {
        let server: ScriptedServer
        let provider: S3Provider

        init(
            _ objects: [String: String], copied: String = "e1", list: Int = 200,
        ) throws {
            server = try ScriptedServer { request, _ in
                let key = String(request.path.dropFirst("/bucket/".count))
                switch request.method {
                case "HEAD":
                    guard let etag = objects[key] else { return ScriptedAnswer(status: 404) }
                    return ScriptedAnswer(
                        headers: [("ETag", "\"\(etag)\""), ("Content-Length", "10")])
                case "GET":
                    if list != 200 { return .error(list, "AccessDenied") }
                    let entries = objects.sorted { $0.key < $1.key }.map {
                        "<Contents><Key>\($0)</Key><LastModified>2026-11-05T10:10:10Z</LastModified>"
                            + "<ETag>&quot;\($1)&quot;</ETag><Size>10</Size></Contents>"
                    }
                    return .xml(
                        "<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>\(entries.joined())"
                            + "</ListBucketResult>")
                case "PUT":
                    return .xml("<CopyObjectResult><ETag>\"\(copied)\"</ETag></CopyObjectResult>")
                default: return ScriptedAnswer(status: 204)
                }
            }
            provider = try S3ProviderTests.provider(server, known)
            provider.bucket.client.features.pinnedCopy = false
            provider.bucket.client.features.copyAbsent = false
            provider.bucket.client.features.copyMatch = false
        }

        func copy(to key: ObjectKey, _ precondition: Precondition = .absent) async -> Result<ObjectInfo, VFSError> {
            await attempt { () async throws(VFSError) in
                try await provider.copy(
                    CopyRequest(source: info("s"), destination: key, precondition: precondition))
            }
        }

        func count(_ method: String) -> Int { server.seen.count { $0.method == method } }
    }

    private func code(_ result: Result<ObjectInfo, VFSError>) -> VFSError.Code? {
        if case .failure(let error) = result { error.code } else { nil }
    }

    @Test("Many that must be free are looked at by few listings; what is there keeps its place", arguments: [200, 403])
    func gathered(list: Int) async throws {
        let store = try Store(["s": "e1", "d/7": "mine", "d/90": "mine"], list: list)
        let results = await inParallelToEnd(Array(0..<100), width: 100) { number async throws(VFSError) in
            await store.copy(to: ObjectKey("d/\(number)"))
        }
        let refused = results.indices.filter {
            guard case .success(let result)? = results[$0] else { return true }
            return code(result) == .preconditionFailed
        }
        #expect(refused == [7, 90])
        #expect(store.count("PUT") == 98)
        if list == 200 {
            #expect(store.count("HEAD") + store.count("GET") < 20)
        } else {
            #expect(store.count("HEAD") == 100)
        }
    }

    @Test("A copy whose ETag is its source's is of that version: nobody asks")
    func equal() async throws {
        let store = try Store(["s": "e1"])
        #expect(code(await store.copy(to: "t")) == nil)
        #expect(store.server.seen.map(\.method) == ["HEAD", "PUT"])
        #expect(store.server.seen.first?.path == "/bucket/t")
    }

    @Test("A copy with another ETag is one of the source as it is now: compared, and taken away when that is another")
    func other() async throws {
        let same = try Store(["s": "e1"], copied: "e2")
        #expect(code(await same.copy(to: "t")) == nil)
        #expect(same.server.seen.map(\.method) == ["HEAD", "PUT", "HEAD"])
        let changed = try Store(["s": "e2"], copied: "e2")
        #expect(code(await changed.copy(to: "t")) == .stale)
        #expect(changed.server.seen.map(\.method) == ["HEAD", "PUT", "HEAD", "DELETE"])
        #expect(changed.server.seen.last?.path == "/bucket/t")
    }

    @Test("What a copy replaces is replaced by nothing but the version that was meant: the source is compared first")
    func replacing() async throws {
        let store = try Store(["s": "e2", "t": "e0"], copied: "e2")
        #expect(code(await store.copy(to: "t", .match(ETag("e0")))) == .stale)
        #expect(store.count("PUT") == 0)
    }

    @Test("A version that comes between the look and a copy that replaces is told of, and the copy stays")
    func replacedMeanwhile() async throws {
        let looked = Counter()
        let server = try ScriptedServer { request, _ in
            if request.method == "PUT" { return .xml("<CopyObjectResult><ETag>\"e2\"</ETag></CopyObjectResult>") }
            let isSource = request.path == "/bucket/s"
            let etag = isSource ? (looked.next() == 1 ? "e1" : "e2") : "e0"
            return ScriptedAnswer(headers: [("ETag", "\"\(etag)\""), ("Content-Length", "10")])
        }
        let provider = try provider(server, known)
        provider.bucket.client.features.pinnedCopy = false
        provider.bucket.client.features.copyMatch = false
        let error = await #expect(throws: VFSError.self) {
            try await provider.copy(
                CopyRequest(source: info("s"), destination: "t", precondition: .match(ETag("e0"))))
        }
        #expect(error?.code == .stale)
        #expect(server.seen.filter { $0.method == "PUT" }.count == 1)
        #expect(!server.seen.contains { $0.method == "DELETE" })
    }

    @Test("Every answer is of a look that began after the question")
    func later() async throws {
        let looks = GatheredLooks<Int, Int>()
        let began = Counter()
        let look: GatheredLooks<Int, Int>.Look = { keys, answer in
            let number = began.next()
            await Task.yield()
            for key in keys { answer(key, .success(number)) }
        }
        let late = try await inParallel(Array(0..<500), width: 500) { asker async throws(VFSError) in
            let before = began.value
            return try await looks.ask(asker % 50, look) <= before
        }
        #expect(!late.contains(true))
        #expect(began.value < 500)
    }

    @Test("Who is cancelled, or whose time is over, waits no longer; a look for nobody does not hold up the next")
    func givenUp() async throws {
        let looks = GatheredLooks<Int, Int>()
        let number = Counter()
        let look: GatheredLooks<Int, Int>.Look = { keys, answer in
            if number.next() == 1 { try? await Task.sleep(for: .seconds(600)) }
            for key in keys { answer(key, .success(7)) }
        }
        let meter = TransferMeter()
        let late = Task {
            await TransferMeter.$current.withValue(meter) {
                await attempt { () async throws(VFSError) in try await looks.ask(1, look) }
            }
        }
        while number.value == 0 { await Task.yield() }
        let cancelled = Task { await attempt { () async throws(VFSError) in try await looks.ask(2, look) } }
        cancelled.cancel()
        guard case .failure(let error) = await cancelled.value else { throw VFSError(.io, "an answer") }
        #expect(error.code == .cancelled)
        meter.expire()
        guard case .failure(let error) = await late.value else { throw VFSError(.io, "an answer") }
        #expect(error.code == .cancelled)
        #expect(try await looks.ask(3, look) == 7)
    }
}
