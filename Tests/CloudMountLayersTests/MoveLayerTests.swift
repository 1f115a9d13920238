import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import Synchronization
import Testing

@Suite("A move through the layers") struct MoveLayerTests {
    private static let capabilities = {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.moves = true
        capabilities.movesFolders = true
        return capabilities
    }()
    private static let folder = ObjectInfo(key: "d/", size: 0, etag: ETag(""), stored: Timestamp(seconds: 0))

    private func code(_ body: () async throws(VFSError) -> Void) async -> VFSError.Code? {
        do throws(VFSError) {
            try await body()
            return nil
        } catch { return error.code }
    }

    @Test("One whose answer was lost is asked about and not sent again", arguments: [nil, "mine"], [true, false])
    func lost(nonce: String?, isFolder: Bool) async throws {
        let stage = Stage(capabilities: Self.capabilities)
        let source = try await stage.put("d/a", [1, 2], ObjectMetadata(nonce: nonce))
        stage.faults.add(.move, calls: 1...1, .dropReply(timedOut))
        var bare = source
        bare.metadata = nil
        let request =
            isFolder
            ? MoveRequest(source: Self.folder, destination: "e/")
            : MoveRequest(source: bare, destination: "e/a", nonce: nonce)
        let moved = try await stage.provider.move(request)
        #expect(stage.faults.calls(.move) == 1)
        #expect(try await stage.bucket.head("e/a").etag == source.etag)
        let there = try await stage.bucket.head("e/a")
        #expect(moved == (isFolder ? nil : there))
        #expect(await code { () async throws(VFSError) in _ = try await stage.bucket.head("d/a") } == .notFound)
    }

    @Test("One that has not taken place is sent again", arguments: [true, false])
    func again(isFolder: Bool) async throws {
        let stage = Stage(capabilities: Self.capabilities)
        let source = try await stage.put("d/a", [1, 2])
        stage.faults.add(.move, calls: 1...2, .fail(connectionLost))
        let request = MoveRequest(source: isFolder ? Self.folder : source, destination: isFolder ? "e/" : "e/a")
        _ = try await stage.provider.move(request)
        #expect(stage.faults.calls(.move) == 3)
        #expect(try await stage.bucket.head("e/a").etag == source.etag)
    }

    @Test("What a repeat is refused for may be the first one's doing", arguments: [true, false])
    func late(isFolder: Bool) async throws {
        let bucket = MemoryProvider(capabilities: Self.capabilities)
        let source = try await bucket.put(PutRequest(key: "d/a"), from: BytesSource("x"))
        let late = LateMoves(inner: bucket)
        let provider = RetryLayer(late, environment: StillClock().environment())
        let request = MoveRequest(source: isFolder ? Self.folder : source, destination: isFolder ? "e/" : "e/a")
        _ = try await provider.move(request)
        #expect(late.calls.load(ordering: .relaxed) == 2)
        #expect(try await bucket.head("e/a").etag == source.etag)
    }

    @Test(
        "Somebody else's under the new name is not taken for what was moved, nor a refusal of a repeat for the first one's end"
    )
    func foreign() async throws {
        let stage = Stage(capabilities: Self.capabilities)
        let source = try await stage.put("d/a", [1, 2], ObjectMetadata(nonce: "mine"))
        try await stage.put("e/a", [3, 4], ObjectMetadata(nonce: "theirs"))
        for request in [
            MoveRequest(source: source, destination: "e/a"), MoveRequest(source: Self.folder, destination: "e/"),
        ] {
            stage.faults.clear()
            stage.faults.add(.move, calls: 1...1, .fail(timedOut))
            #expect(
                await code { () async throws(VFSError) in _ = try await stage.provider.move(request) } == .timedOut)
        }
        // Gone, and somebody else's is there: nobody says that it was moved.
        #expect(try await stage.bucket.delete([DeleteRequest("d/a")]).isEmpty)
        stage.faults.clear()
        stage.faults.add(.move, calls: 1...1, .fail(timedOut))
        let request = MoveRequest(source: source, destination: "e/a")
        #expect(await code { () async throws(VFSError) in _ = try await stage.provider.move(request) } == .notFound)
        #expect(try await stage.bucket.head("e/a").size == 2)
    }

    @Test("While the store cannot be asked, nothing is sent again")
    func unasked() async throws {
        let stage = Stage(capabilities: Self.capabilities)
        let source = try await stage.put("a", [1])
        stage.faults.add(.move, calls: 1...1, .dropReply(timedOut))
        stage.faults.add(.head, calls: 1...100, .fail(unavailable))
        let request = MoveRequest(source: source, destination: "b")
        #expect(await code { () async throws(VFSError) in _ = try await stage.provider.move(request) } == .unavailable)
        #expect(stage.faults.calls(.move) == 1)
    }

    @Test("The prefix goes onto both keys and comes off the new one")
    func prefix() async throws {
        let bucket = MemoryProvider(capabilities: Self.capabilities)
        let mount = PrefixLayer(bucket, prefix: "runs/")
        let source = try await mount.put(PutRequest(key: "d/a"), from: BytesSource("x"))
        _ = try await mount.put(PutRequest(key: "d/"), from: BytesSource(""))
        #expect(try await mount.move(MoveRequest(source: source, destination: "d/b"))?.key == "d/b")
        #expect(try await mount.move(MoveRequest(source: Self.folder, destination: "e/"))?.key == "e/")
        #expect(try await bucket.head("runs/e/b").etag == source.etag)
    }
}

/// Does the first move only when a second one is asked for, and has told its caller that there was no answer.
private final class LateMoves: ProviderLayer {
    let inner: any ObjectProvider
    let calls = Atomic(0)

    init(inner: any ObjectProvider) { self.inner = inner }

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value { try await body(inner) }

    func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo? {
        if calls.add(1, ordering: .relaxed).newValue == 1 { throw timedOut }
        _ = try await inner.move(request)
        return try await inner.move(request)
    }
}
