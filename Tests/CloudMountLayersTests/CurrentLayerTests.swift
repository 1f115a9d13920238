import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import Synchronization
import Testing

@Suite("What changes below and around calls under way") struct CurrentLayerTests {
    @Test("a provider that is replaced ends its calls, and all others go to the new one; what it cost stays counted")
    func replaced() async throws {
        let (old, new) = (Counted(calls: 3), Counted(calls: 2))
        _ = try await old.bucket.put(PutRequest(key: "o"), from: BytesSource([1]))
        _ = try await new.bucket.put(PutRequest(key: "o"), from: BytesSource([2, 2]))
        let layered = Layers.stack(old, settings: LayerSettings(endpoint: EndpointLoad("memory")))
        let faults = old.faults
        faults.add(.head, calls: 1...1, .delay(.milliseconds(200)))
        async let slow = layered.provider.head("o")
        while faults.calls(.head) == 0 { await Task.yield() }
        layered.current.replace(new)
        #expect(try await layered.provider.head("o").size == 2)
        #expect(try await slow.size == 1)
        #expect(layered.provider.billedCalls == [BilledCalls(group: "class C", calls: 5)])
    }

    @Test("another attempt of a call goes to the provider of its time")
    func retried() async throws {
        let (old, new) = (Counted(calls: 0), Counted(calls: 0))
        _ = try await new.bucket.put(PutRequest(key: "o"), from: BytesSource([2, 2]))
        old.faults.add(.head, calls: 1...Int.max, .fail(VFSError(.credentialsExpired, "old", retry: .backoff)))
        let current = Mutex<CurrentProvider?>(nil)
        let environment = RetryEnvironment(
            now: { .zero }, sleep: { _ in current.withLock { $0 }?.replace(new) }, random: { 0.5 })
        let layered = Layers.stack(
            old, settings: LayerSettings(endpoint: EndpointLoad("memory"), environment: environment))
        current.withLock { $0 = layered.current }
        #expect(try await layered.provider.head("o").size == 2)
        #expect(old.faults.calls(.head) == 1)
    }

    @Test("another deadline holds for calls that begin after it was set")
    func deadline() async throws {
        let bucket = Counted(calls: 0)
        var settings = LayerSettings(endpoint: EndpointLoad("memory"))
        settings.retry.deadline = .seconds(600)
        let layered = Layers.stack(bucket, settings: settings)
        bucket.faults.add(.head, calls: 1...Int.max, .hang)
        var policy = settings.retry
        policy.deadline = .milliseconds(300)
        layered.retry.replace(policy)
        await #expect(throws: VFSError.self) { try await layered.provider.head("o") }
    }
}

/// A bucket in memory that has been billed for some calls.
private struct Counted: ProviderLayer {
    let bucket = MemoryProvider()
    let faults = Faults()
    let calls: Int
    var inner: any ObjectProvider { FaultLayer(bucket, faults) }
    var billedCalls: [BilledCalls] { [BilledCalls(group: "class C", calls: calls)] }

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value { try await body(inner) }
}
