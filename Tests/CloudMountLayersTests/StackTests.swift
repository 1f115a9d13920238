import CloudMountLayers
import CloudMountVFS
import Logging
import MemoryProvider
import Synchronization
import Testing

/// Keeps what is logged.
private struct Ledger: LogHandler {
    final class Lines: Sendable {
        private let lines = Mutex<[(level: Logger.Level, text: String)]>([])
        var all: [(level: Logger.Level, text: String)] { lines.withLock { $0 } }
        func add(_ level: Logger.Level, _ text: String) { lines.withLock { $0.append((level, text)) } }
    }

    let lines: Lines
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let fields = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        lines.add(event.level, "\(event.message) " + fields.joined(separator: " "))
    }
}

@Suite("The stack of layers") struct StackTests {
    private func stack(
        _ bucket: MemoryProvider, _ faults: Faults, _ lines: Ledger.Lines, level: Logger.Level = .info,
        prefix: ObjectKey = ""
    ) -> LayeredProvider {
        let logger = Logger(label: "test") { _ in Ledger(lines: lines, logLevel: level) }
        return Layers.stack(
            bucket,
            settings: LayerSettings(
                prefix: prefix, endpoint: EndpointLoad("memory"), logger: logger, faults: faults,
                environment: StillClock().environment()))
    }

    @Test("counts calls, errors, bytes and times of each verb")
    func measurements() async throws {
        let faults = Faults()
        let layered = stack(MemoryProvider(), faults, Ledger.Lines())
        faults.add(.put, calls: 1...1, .fail(unavailable))
        let stored = try await layered.provider.put(PutRequest(key: "o"), from: BytesSource([1, 2, 3, 4, 5]))
        let sink = CollectingSink()
        _ = try await layered.provider.read(
            ReadRequest(key: "o", extent: Extent(1, 3), version: stored.etag), into: sink)
        _ = try await layered.provider.read(ReadRequest(key: "o", extent: Extent(4, 50)), into: sink)
        _ = try? await layered.provider.head("absent")
        let all = layered.measurements.snapshot()
        #expect(all[.put]?.calls == 2)
        #expect(all[.put]?.errors == 1)
        #expect(all[.put]?.bytesUp == 5)
        #expect(all[.read]?.calls == 2)
        #expect(all[.read]?.bytesDown == 3)
        #expect(all[.head]?.calls == 1)
        #expect(all[.head]?.errors == 0, "absence is an answer")
        #expect(all[.list] == nil)
        for measurement in all.values {
            #expect(measurement.inFlight == 0)
            #expect(measurement.histogram.reduce(0, +) == measurement.calls)
            #expect(measurement.latencyMax <= measurement.latencySum)
        }
    }

    @Test("logs each failure once, with all that is known of it")
    func log() async throws {
        let lines = Ledger.Lines()
        let faults = Faults()
        let layered = stack(MemoryProvider(), faults, lines)
        let error = VFSError(
            .unavailable, "the store answered 503", retry: .backoff,
            wire: VFSError.Wire(
                operation: "PutObject", key: "runs/a\u{1B}[2J", endpoint: "127.0.0.1:8333", status: 503,
                code: "ServiceUnavailable", requestID: "R1"))
        faults.add(.put, calls: 1...1, .fail(error))
        _ = try await layered.provider.put(PutRequest(key: "o"), from: BytesSource("x"))
        #expect(lines.all.count == 1)
        #expect(lines.all.first?.level == .info)
        let text = lines.all.first?.text ?? ""
        for part in [
            "the store answered 503", "operation=PutObject", "endpoint=127.0.0.1:8333", "status=503",
            "store_code=ServiceUnavailable", "request_id=R1", "attempt=1", "retry_after=", "key=runs/a\\u{1b}[2J",
        ] {
            #expect(text.contains(part), "\(part) in \(text)")
        }
        faults.clear()
        faults.add(.put, calls: 1...1, .fail(VFSError(.permissionDenied, "no")))
        _ = try? await layered.provider.put(PutRequest(key: "o"), from: BytesSource("x"))
        #expect(lines.all.count == 2)
        #expect(lines.all.last?.level == .warning)
        #expect(lines.all.last?.text.contains("endpoint=memory") == true)
    }

    @Test("does not log what a store says in the ordinary course of things")
    func quiet() async throws {
        let lines = Ledger.Lines()
        let layered = stack(MemoryProvider(), Faults(), lines, level: .trace)
        _ = try? await layered.provider.head("absent")
        _ = try await layered.provider.put(PutRequest(key: "o"), from: BytesSource("x"))
        _ = try? await layered.provider.put(PutRequest(key: "o", precondition: .absent), from: BytesSource("x"))
        #expect(lines.all.isEmpty)
    }

    @Test("passes every verb through all layers")
    func verbs() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.versions = true
        let bucket = MemoryProvider(capabilities: capabilities)
        let provider = stack(bucket, Faults(), Ledger.Lines(), prefix: "deep/down/").provider
        try await provider.prepare(writable: true)
        let upload = try await provider.beginUpload("up", metadata: ObjectMetadata())
        #expect(upload.key == "up")
        let part = try await provider.uploadPart(upload, number: 1, from: BytesSource("abc"))
        #expect(try await provider.listParts(upload) == [part])
        let stored = try await provider.completeUpload(upload, parts: [part], precondition: .none)
        #expect(stored.key == "up")
        #expect(try await bucket.head("deep/down/up").size == 3)
        let second = try await provider.beginUpload("ranges", metadata: ObjectMetadata())
        let copied = try await provider.copyPart(second, number: 1, source: stored, extent: Extent(1, 3))
        _ = try await provider.completeUpload(second, parts: [copied], precondition: .none)
        let third = try await provider.beginUpload("given up", metadata: ObjectMetadata())
        try await provider.abortUpload(third)
        let sink = CollectingSink()
        #expect(try await provider.read(ReadRequest(key: "ranges"), into: sink).key == "ranges")
        #expect(sink.bytes == Array("bc".utf8))
        #expect(try await provider.versions(of: "up").map(\.info.key) == ["up"])
        #expect(
            try await provider.list(ListRequest(prefix: "", delimited: false)).objects.map(\.key) == ["ranges", "up"])
        #expect(try await provider.delete([DeleteRequest("up"), DeleteRequest("ranges")]).isEmpty)
        #expect(try await provider.list(ListRequest(prefix: "", delimited: false)).objects.isEmpty)
    }

    @Test("a slot is free while a call pauses before its retry")
    func slots() async throws {
        let faults = Faults()
        let endpoint = EndpointLoad("memory", maxConcurrency: 1)
        let seen = Shared<[Int]>([])
        let environment = RetryEnvironment(
            now: { .zero }, sleep: { _ in seen.change { $0.append(endpoint.limit.current.inFlight) } },
            random: { 0.5 })
        let layered = Layers.stack(
            MemoryProvider(), settings: LayerSettings(endpoint: endpoint, faults: faults, environment: environment))
        faults.add(.list, calls: 1...2, .fail(unavailable))
        _ = try await layered.provider.list(ListRequest(prefix: "", delimited: false))
        #expect(seen.value == [0, 0])
    }
}
