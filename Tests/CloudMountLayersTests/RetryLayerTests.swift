import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import Synchronization
import Testing

@Suite("The retry layer") struct RetryLayerTests {
    @Test("pauses twice as long after each failure, up to a cap")
    func exponential() async throws {
        var policy = RetryPolicy()
        policy.maxAttempts = 12
        policy.deadline = .seconds(600)
        let stage = Stage(policy: policy)
        try await stage.put("o", [1])
        stage.faults.add(.head, calls: 1...11, .fail(unavailable))
        #expect(try await stage.provider.head("o").size == 1)
        #expect(
            milliseconds(stage.clock.pauses)
                == [50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000])
    }

    @Test("draws the pause from all of the range")
    func jitter() async throws {
        for (random, expected) in [(0.0, 0), (0.5, 25), (0.9, 45)] {
            let bucket = MemoryProvider()
            let faults = Faults()
            let clock = StillClock()
            faults.add(.list, calls: 1...1, .fail(unavailable))
            let provider = RetryLayer(FaultLayer(bucket, faults), environment: clock.environment(random: random))
            _ = try await provider.list(ListRequest(prefix: "", delimited: false))
            #expect(milliseconds(clock.pauses) == (expected == 0 ? [] : [expected]))
        }
    }

    @Test("pauses longer when the store asks for less, and never shorter than it says")
    func throttle() async throws {
        let stage = Stage()
        try await stage.put("o", [1])
        stage.faults.add(.head, calls: 1...1, .fail(throttled()))
        stage.faults.add(.head, calls: 2...2, .fail(throttled(after: .seconds(7))))
        _ = try await stage.provider.head("o")
        #expect(milliseconds(stage.clock.pauses) == [500, 7000])
    }

    @Test("repeats a deletion whose answer was lost only for what was meant, not for what has come with the same bytes")
    func deletion() async throws {
        let bucket = MemoryProvider()
        let faults = Faults()
        faults.add(.delete, calls: 1...1, .dropReply(unavailable))
        @Sendable func lock(_ nonce: String) -> PutRequest {
            var metadata = ObjectMetadata()
            metadata.nonce = nonce
            return PutRequest(key: "lock", metadata: metadata, precondition: .absent)
        }
        let ours = try await bucket.put(lock("ours"), from: BytesSource([]))
        var environment = StillClock().environment()
        environment.sleep = { _ in _ = try? await bucket.put(lock("theirs"), from: BytesSource([])) }
        let provider = RetryLayer(FaultLayer(SameTags(inner: bucket), faults), environment: environment)
        let failures = try await provider.delete([DeleteRequest("lock", version: ours.etag, nonce: "ours")])
        #expect(failures.map(\.error.code) == [.preconditionFailed])
        #expect(try await bucket.head("lock").metadata?.nonce == "theirs")
        environment.sleep = { _ in }
        faults.add(.delete, calls: 1...2, .dropReply(unavailable))
        let again = RetryLayer(FaultLayer(SameTags(inner: bucket), faults), environment: environment)
        #expect(try await again.delete([DeleteRequest("lock", version: ours.etag, nonce: "theirs")]).isEmpty)
        await #expect(throws: VFSError.self) { try await bucket.head("lock") }
    }

    @Test("repeats at once, and for free, the first time it is told to")
    func immediately() async throws {
        let stage = Stage()
        try await stage.put("o", [1])
        let cured = VFSError(.connectionFailed, "a dead connection", retry: .immediately)
        stage.faults.add(.head, calls: 1...2, .fail(cured))
        _ = try await stage.provider.head("o")
        #expect(milliseconds(stage.clock.pauses) == [50], "the second time it is a failure like any other")
        #expect(stage.budget.available == RetryBudget.capacity)
        #expect(stage.faults.calls(.head) == 3)
    }

    @Test("lets an error that will come again go up at once")
    func never() async {
        let stage = Stage()
        await #expect(throws: VFSError(.notFound, "there is no object “o”")) { try await stage.provider.head("o") }
        #expect(stage.faults.calls(.head) == 1)
        #expect(stage.clock.pauses.isEmpty)
    }

    @Test("gives up after ten attempts with the last error")
    func attempts() async {
        var policy = RetryPolicy()
        policy.deadline = .seconds(600)
        let stage = Stage(policy: policy)
        stage.faults.add(.head, calls: 1...9, .fail(unavailable))
        stage.faults.add(.head, calls: 10...20, .fail(connectionLost))
        await #expect(throws: connectionLost) { try await stage.provider.head("o") }
        #expect(stage.faults.calls(.head) == 10)
        #expect(stage.failures.list.map(\.attempt) == Array(1...10))
        #expect(stage.failures.list.map { $0.retryAfter == nil } == Array(repeating: false, count: 9) + [true])
    }

    @Test("gives up rather than pause beyond the deadline")
    func deadline() async {
        var policy = RetryPolicy()
        policy.deadline = .seconds(5)
        for verb in [Verb.head, .copy] {
            let stage = Stage(policy: policy)
            stage.faults.add(verb, calls: 1...20, .fail(throttled(after: .seconds(2))))
            await #expect(throws: throttled(after: .seconds(2))) {
                switch verb {
                case .head: _ = try await stage.provider.head("o")
                default:
                    let source = ObjectInfo(key: "a", size: 0, etag: ETag("x"), stored: Timestamp(seconds: 0))
                    _ = try await stage.provider.copy(CopyRequest(source: source, destination: "b"))
                }
            }
            #expect(milliseconds(stage.clock.pauses) == [2000, 2000], "\(verb)")
        }
    }

    @Test("ends a metadata call that outlives the deadline, and says so")
    func hanging() async {
        var policy = RetryPolicy()
        policy.deadline = .milliseconds(40)
        let stage = Stage(policy: policy)
        stage.faults.add(.list, calls: 1...1, .hang)
        do {
            _ = try await stage.provider.list(ListRequest(prefix: "", delimited: true))
            Issue.record("a call that hangs cannot succeed")
        } catch {
            #expect(error.code == .timedOut)
        }
    }

    @Test("is cancelled with its task, in a call and in a pause")
    func cancellation() async {
        let stage = Stage()
        stage.faults.add(.head, calls: 1...1, .hang)
        let call = Task { () async throws in try await stage.provider.head("o") }
        while stage.faults.calls(.head) == 0 { await Task.yield() }
        call.cancel()
        await #expect(throws: VFSError.cancelled) { try await call.value }

        let faults = Faults()
        faults.add(.put, calls: 1...9, .fail(unavailable))
        let sleepy = RetryEnvironment(
            now: { .zero }, sleep: { _ in while !Task.isCancelled { await Task.yield() } }, random: { 0.5 })
        let provider = RetryLayer(FaultLayer(MemoryProvider(), faults), environment: sleepy)
        let pause = Task { () async throws in try await provider.put(PutRequest(key: "o"), from: BytesSource("x")) }
        while faults.calls(.put) == 0 { await Task.yield() }
        pause.cancel()
        await #expect(throws: VFSError.cancelled) { try await pause.value }
        #expect(faults.calls(.put) == 1)
    }

    @Test("stops repeating when the endpoint's budget is spent, and earns it back by success")
    func budget() async throws {
        var policy = RetryPolicy()
        policy.deadline = .seconds(10_000)
        let stage = Stage(policy: policy)
        try await stage.put("o", [1])
        stage.faults.add(.head, calls: 1...100_000, .fail(timedOut))
        // Nine retries of 10 tokens for each call.
        for _ in 0..<6 { await #expect(throws: timedOut) { try await stage.provider.head("o") } }
        #expect(stage.budget.available == 0)
        let before = stage.faults.calls(.head)
        await #expect(throws: timedOut) { try await stage.provider.head("o") }
        #expect(stage.faults.calls(.head) == before + 1, "no retry without a token")
        stage.faults.clear()
        for _ in 0..<10 { _ = try await stage.provider.head("o") }
        #expect(stage.budget.available == 10)
    }

    // MARK: Reading

    @Test("goes on reading after the last byte taken, pinned to the version, and delivers none twice")
    func resume() async throws {
        let stage = Stage()
        let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let stored = try await stage.put("o", bytes)
        stage.faults.add(.read, calls: 1...1, .truncate(after: 3000, connectionLost))
        stage.faults.add(.read, calls: 2...2, .fail(unavailable))
        stage.faults.add(.read, calls: 3...3, .truncate(after: 4500, connectionLost))
        let sink = CollectingSink()
        let request = ReadRequest(key: "o", extent: Extent(100, 9900), version: stored.etag)
        #expect(try await stage.provider.read(request, into: sink).size == 10_000)
        #expect(sink.bytes == Array(bytes[100..<9900]))
        #expect(sink.attached == 1)
        #expect(stage.faults.calls(.read) == 4)
    }

    @Test("never delivers a mix of versions")
    func stale() async throws {
        let stage = Stage()
        let old = try await stage.put("o", [UInt8](repeating: 1, count: 1000))
        try await stage.put("o", [UInt8](repeating: 2, count: 1000))
        let sink = CollectingSink()
        stage.faults.add(.read, calls: 1...1, .fail(unavailable))
        await #expect(throws: VFSError(.stale, "“o” has changed in the store")) {
            try await stage.provider.read(ReadRequest(key: "o", version: old.etag), into: sink)
        }
        #expect(sink.bytes.isEmpty)
        // Without a version, what has been delivered cannot be continued.
        stage.faults.clear()
        stage.faults.add(.read, calls: 1...1, .truncate(after: 10, connectionLost))
        await #expect(throws: connectionLost) { try await stage.provider.read(ReadRequest(key: "o"), into: sink) }
        #expect(sink.bytes.count == 10)
    }

    @Test("counts attempts anew whenever bytes arrive")
    func progress() async throws {
        var policy = RetryPolicy()
        policy.maxAttempts = 3
        let stage = Stage(policy: policy)
        let bytes = [UInt8](repeating: 7, count: 1 << 20)
        let stored = try await stage.put("o", bytes)
        stage.faults.add(.read, calls: 1...16, .truncate(after: 64 << 10, connectionLost))
        let sink = CollectingSink()
        _ = try await stage.provider.read(ReadRequest(key: "o", version: stored.etag), into: sink)
        #expect(sink.bytes == bytes)
    }

    @Test("does not ask for ever a store that breaks off after a few bytes")
    func crawling() async throws {
        let stage = Stage()
        let stored = try await stage.put("o", [UInt8](repeating: 7, count: 1 << 20))
        stage.faults.add(.read, calls: 1...10_000, .truncate(after: 100, connectionLost))
        await #expect(throws: connectionLost) {
            try await stage.provider.read(ReadRequest(key: "o", version: stored.etag), into: CollectingSink())
        }
        #expect(stage.faults.calls(.read) <= 10)
    }

    // MARK: Lost answers

    private let ours = ObjectMetadata(modified: Timestamp(seconds: 5), user: ["mode": "33188"], nonce: "ours")

    /// Somebody else's object, alike in everything but the nonce.
    private var theirs: ObjectMetadata {
        var theirs = ours
        theirs.nonce = "theirs"
        return theirs
    }

    @Test("recognises its own conditional write when the answer was lost")
    func ownWrite() async throws {
        let stage = Stage()
        stage.faults.add(.put, calls: 1...1, .dropReply(connectionLost))
        let request = PutRequest(key: "o", metadata: ours, precondition: .absent)
        let stored = try await stage.provider.put(request, from: BytesSource("mine"))
        #expect(stored.etag == (try await stage.bucket.head("o").etag))
        #expect(stage.faults.calls(.put) == 2)
    }

    @Test("takes no other writer's object for its own, though size, time and metadata are the same")
    func otherWrite() async throws {
        for nonce in ["theirs", nil] {
            let stage = Stage()
            var foreign = ours
            foreign.nonce = nonce
            try await stage.put("o", Array("them".utf8), foreign)
            stage.faults.add(.put, calls: 1...1, .fail(connectionLost))
            let request = PutRequest(key: "o", metadata: ours, precondition: .absent)
            #expect(
                await code { _ = try await stage.provider.put(request, from: BytesSource("mine")) }
                    == .preconditionFailed)
            #expect(try await stage.bucket.head("o").metadata == foreign)
        }
    }

    @Test("recognises nothing without a nonce")
    func withoutNonce() async throws {
        let stage = Stage()
        stage.faults.add(.put, calls: 1...1, .dropReply(connectionLost))
        var bare = ours
        bare.nonce = nil
        let request = PutRequest(key: "o", metadata: bare, precondition: .absent)
        #expect(
            await code { _ = try await stage.provider.put(request, from: BytesSource("mine")) } == .preconditionFailed)
    }

    @Test("does not call an object somebody else's while the store cannot be asked whose it is")
    func unknownWrite() async throws {
        var policy = RetryPolicy()
        policy.maxAttempts = 2
        let stage = Stage(policy: policy)
        stage.faults.add(.put, calls: 1...1, .dropReply(connectionLost))
        stage.faults.add(.head, calls: 1...100, .fail(unavailable))
        let request = PutRequest(key: "o", metadata: ours, precondition: .absent)
        #expect(await code { _ = try await stage.provider.put(request, from: BytesSource("mine")) } == .unavailable)
    }

    @Test("recognises a change of metadata by its nonce, and a plain copy by its source's")
    func ownCopy() async throws {
        let stage = Stage()
        let source = try await stage.put("from", [1, 2], theirs)
        stage.faults.add(.copy, calls: 1...1, .dropReply(timedOut))
        let changed = try await stage.provider.copy(
            CopyRequest(source: source, destination: "from", metadata: ours, precondition: .match(source.etag)))
        #expect(try await stage.bucket.head("from") == changed)

        stage.faults.clear()
        stage.faults.add(.copy, calls: 1...1, .dropReply(timedOut))
        var listed = changed
        listed.metadata = nil
        let copied = try await stage.provider.copy(
            CopyRequest(source: listed, destination: "to", precondition: .absent))
        #expect(try await stage.bucket.head("to") == copied)

        // Another object with the source's nonce is only ours with its size; without a nonce nothing is.
        for (bytes, nonce) in [([1, 2, 3], "ours"), ([1, 2], "theirs"), ([1, 2], nil)] as [([UInt8], String?)] {
            var metadata = ours
            metadata.nonce = nonce
            try await stage.put("taken", bytes, metadata)
            let request = CopyRequest(source: changed, destination: "taken", precondition: .absent)
            #expect(await code { _ = try await stage.provider.copy(request) } == .preconditionFailed)
        }
        // One with mark and bytes is somebody else's copy when no attempt of ours has been left open.
        _ = try await stage.bucket.copy(CopyRequest(source: changed, destination: "theirs"))
        let second = CopyRequest(source: changed, destination: "theirs", precondition: .absent)
        #expect(await code { _ = try await stage.provider.copy(second) } == .preconditionFailed)
        let bare = try await stage.put("bare", [1, 2])
        try await stage.put("taken", [1, 2])
        let request = CopyRequest(source: bare, destination: "taken", precondition: .absent)
        #expect(await code { _ = try await stage.provider.copy(request) } == .preconditionFailed)
    }

    @Test(
        "recognises a copy without a nonce by its source's tag and metadata, after an attempt of its own without an answer"
    )
    func ownBareCopy() async throws {
        let (bucket, faults) = (MemoryProvider(tagsBytes: true), Faults())
        let provider = RetryLayer(FaultLayer(bucket, faults), environment: StillClock().environment())
        var metadata = ObjectMetadata()
        metadata.user = ["tool": "other"]
        var source = try await bucket.put(PutRequest(key: "from", metadata: metadata), from: BytesSource([1, 2]))
        source.metadata = nil
        faults.add(.copy, calls: 1...2, .dropReply(timedOut))
        let copied = try await provider.copy(CopyRequest(source: source, destination: "to", precondition: .absent))
        #expect(try await bucket.head("to") == copied)
        // Others make the same copy, or have stored something of their own.
        for (mayBeOthers, theirs) in [(true, nil), (false, "mine")] as [(Bool, String?)] {
            faults.clear()
            faults.add(.copy, calls: 1...1, mayBeOthers ? .dropReply(timedOut) : .fail(timedOut))
            if let theirs {
                metadata.user = ["tool": theirs]
                _ = try await bucket.put(PutRequest(key: "to", metadata: metadata), from: BytesSource([1, 2]))
            } else {
                _ = try await bucket.delete([DeleteRequest("to")])
            }
            var request = CopyRequest(source: source, destination: "to", precondition: .absent)
            request.mayBeOthers = mayBeOthers
            #expect(await code { _ = try await provider.copy(request) } == .preconditionFailed)
        }
    }

    @Test("tries again only those of many deletions of which the store says that it was busy")
    func busyDeletions() async throws {
        let bucket = MemoryProvider()
        let forbidden = VFSError(.permissionDenied, "not this one")
        let store = BusyDeletes(inner: bucket, answers: [["b": throttled(), "c": forbidden], [:]])
        let provider = RetryLayer(store, environment: StillClock().environment())
        let failures = try await provider.delete(["a", "b", "c"].map { DeleteRequest(ObjectKey($0)) })
        #expect(failures.map(\.key) == ["c"] && failures.first?.error.code == .permissionDenied)
        #expect(store.asked.withLock { $0 } == [["a", "b", "c"], ["b"]])
        // What is never done is told of each, as the store has it.
        let never = BusyDeletes(inner: bucket, answers: Array(repeating: ["c": throttled()], count: 99))
        let busy = try await RetryLayer(never, environment: StillClock().environment()).delete(
            ["c", "d"].map { DeleteRequest(ObjectKey($0)) })
        #expect(busy.map(\.key) == ["c"] && busy.first?.error.code == .throttled)
    }

    @Test("recognises an upload that was completed though the answer was lost, in a later call as well")
    func ownCompletion() async throws {
        let stage = Stage()
        let upload = try await stage.provider.beginUpload("o", metadata: ours)
        let part = try await stage.provider.uploadPart(upload, number: 1, from: BytesSource("body"))
        stage.faults.add(.completeUpload, calls: 1...1, .dropReply(timedOut))
        let stored = try await stage.provider.completeUpload(upload, parts: [part], precondition: .absent)
        #expect(stored.size == 4)
        #expect(stage.faults.calls(.completeUpload) == 1)
        let again = try await stage.provider.completeUpload(upload, parts: [part], precondition: .absent)
        #expect(again.etag == stored.etag)
        try await stage.put("o", Array("body".utf8), theirs)
        #expect(
            await code { _ = try await stage.provider.completeUpload(upload, parts: [part], precondition: .absent) }
                == .uploadNotFound)
    }

    @Test("asks what has become of an upload whose completion stays silent before it is sent again")
    func silentCompletion() async throws {
        for (nonce, isKept) in [("ours", true), ("ours", false), (nil, true)] as [(String?, Bool)] {
            let stage = Stage()
            var metadata = ours
            metadata.nonce = nonce
            let upload = try await stage.provider.beginUpload("o", metadata: metadata)
            let part = try await stage.provider.uploadPart(upload, number: 1, from: BytesSource("body"))
            // It never came, or what it had made has been replaced since.
            stage.faults.add(.completeUpload, calls: 1...1, isKept ? .fail(timedOut) : .dropReply(timedOut))
            var environment = stage.clock.environment()
            let bucket = stage.bucket
            let others = theirs
            environment.sleep = { _ in
                guard !isKept else { return }
                _ = try? await bucket.put(PutRequest(key: "o", metadata: others), from: BytesSource("x"))
            }
            let provider = RetryLayer(FaultLayer(bucket, stage.faults), environment: environment)
            let code = await code {
                _ = try await provider.completeUpload(upload, parts: [part], precondition: .absent)
            }
            #expect(code == (isKept ? nil : .uploadNotFound))
            #expect(stage.faults.calls(.listParts) == 1)
            #expect(stage.faults.calls(.completeUpload) == (isKept ? 2 : 1))
        }
    }

    private func code(_ body: () async throws -> Void) async -> VFSError.Code? {
        do { try await body() } catch { return (error as? VFSError)?.code }
        return nil
    }
}

/// A store in which versions with equal bytes have equal ETags: here all have.
private struct SameTags: ProviderLayer {
    let inner: any ObjectProvider

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value { try await body(inner) }

    func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        try await inner.delete(objects.map { DeleteRequest($0.key) })
    }
}

/// Refuses some of many deletions, call by call.
private final class BusyDeletes: ProviderLayer {
    let inner: any ObjectProvider
    let asked = Mutex<[[ObjectKey]]>([])
    private let answers: Mutex<[[ObjectKey: VFSError]]>

    init(inner: any ObjectProvider, answers: [[ObjectKey: VFSError]]) {
        self.inner = inner
        self.answers = Mutex(answers)
    }

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value { try await body(inner) }

    func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        asked.withLock { $0.append(objects.map(\.key)) }
        let refused = answers.withLock { $0.removeFirst() }
        return objects.compactMap { object in
            refused[object.key].map { DeleteFailure(key: object.key, error: $0) }
        }
    }
}
