import CloudMountVFS
import MemoryProvider
import Testing

@testable import CloudMountLayers

/// Mounts of one endpoint in memory, whose faults a test chooses.
private struct Endpoint {
    let load: EndpointLoad
    let faults = Faults()
    let bucket = MemoryProvider()

    init(maxConcurrency: Int = 96) { load = EndpointLoad("lab", maxConcurrency: maxConcurrency) }

    func mount(deadline: Duration = .seconds(30), attempts: Int = 1) -> any ObjectProvider {
        var retry = RetryPolicy()
        retry.deadline = deadline
        retry.maxAttempts = attempts
        return Layers.stack(bucket, settings: LayerSettings(retry: retry, endpoint: load, faults: faults)).provider
    }

    /// Every call fails so from now on.
    func fail(_ error: VFSError) { for verb in Verb.allCases { faults.add(verb, calls: 1...Int.max, .fail(error)) } }

    func open(_ mount: any ObjectProvider) async {
        fail(connectionLost)
        for _ in 0..<5 { _ = try? await mount.head("o") }
    }
}

@Suite("The breaker of an endpoint", .serialized) struct BreakerTests {
    private func eventually(_ condition: () -> Bool) async -> Bool {
        for _ in 0..<2_000 {
            if condition() { return true }
            try? await Task.sleep(for: .milliseconds(10))
        }
        return false
    }

    @Test("spares a dead endpoint: calls of all its mounts fail at once, and the store sees probes only")
    func spares() async throws {
        let endpoint = Endpoint()
        let (one, two) = (endpoint.mount(deadline: .zero), endpoint.mount(deadline: .zero))
        await endpoint.open(one)
        let outage = try #require(endpoint.load.breaker.outage)
        #expect(outage.reason.contains("the connection broke"))
        let calls = endpoint.faults.calls(.head)
        for mount in [one, two] {
            do {
                _ = try await mount.head("o")
                Issue.record("nobody is there")
            } catch {
                #expect(error.code == .unavailable)
                #expect(error.message.contains("lab has not answered"))
            }
        }
        for _ in 0..<200 { _ = try? await two.head("o") }
        #expect(endpoint.faults.calls(.head) == calls)
        #expect(endpoint.faults.calls(.list) < 100)
    }

    @Test("closes by itself when the endpoint is back, though nobody asks")
    func recovers() async throws {
        let endpoint = Endpoint()
        let mount = endpoint.mount(deadline: .zero)
        await endpoint.open(mount)
        #expect(endpoint.load.breaker.outage != nil)
        endpoint.faults.clear()
        #expect(await eventually { endpoint.load.breaker.outage == nil })
        await #expect(throws: VFSError.self) { try await mount.head("o") }  // Absent: an answer.
        #expect(endpoint.load.breaker.outage == nil)
    }

    @Test("a short outage costs callers a pause and no error")
    func ridesOut() async throws {
        let endpoint = Endpoint()
        _ = try await endpoint.bucket.put(PutRequest(key: "o"), from: BytesSource("x"))
        let mount = endpoint.mount(attempts: 10)
        await endpoint.open(endpoint.mount(deadline: .zero))
        async let first = mount.head("o")
        try await Task.sleep(for: .milliseconds(300))
        endpoint.faults.clear()
        #expect(try await first.size == 1)
    }

    @Test("what nobody waits for fails at once in an outage, however short, and is not tried again")
    func ahead() async throws {
        let endpoint = Endpoint()
        _ = try await endpoint.bucket.put(PutRequest(key: "o"), from: BytesSource("x"))
        let mount = endpoint.mount(attempts: 10)
        var request = ReadRequest(key: "o")
        request.isAhead = true
        endpoint.faults.add(.read, calls: 1...1, .fail(unavailable))
        await #expect(throws: unavailable) { try await mount.read(request, into: CollectingSink()) }
        #expect(endpoint.faults.calls(.read) == 1)
        await endpoint.open(endpoint.mount(deadline: .zero))
        let refused = await #expect(throws: VFSError.self) { try await mount.read(request, into: CollectingSink()) }
        #expect(refused?.isRefusal ?? false)
        #expect(endpoint.faults.calls(.read) == 1)
    }

    @Test("a caller that waits for the end of an outage can be interrupted")
    func interrupted() async throws {
        let endpoint = Endpoint()
        let mount = endpoint.mount()
        await endpoint.open(mount)
        let task = Task { () async throws(VFSError) in try await mount.head("o") }
        try await Task.sleep(for: .milliseconds(50))
        task.cancel()
        await #expect(throws: VFSError.cancelled) { try await task.value }
    }

    @Test("the store's own refusals prove it alive")
    func alive() async throws {
        let endpoint = Endpoint()
        let mount = endpoint.mount()
        let wire = VFSError.Wire(operation: "HeadObject", endpoint: "lab", status: 403)
        let answers = [VFSError.Code.notFound, .permissionDenied, .preconditionFailed, .credentialsExpired, .tooLarge]
        for code in answers {
            for _ in 0..<4 {
                endpoint.faults.add(.head, calls: 1...1, .fail(connectionLost))
                _ = try? await mount.head("o")
            }
            endpoint.faults.clear()
            endpoint.faults.add(.head, calls: 1...1, .fail(VFSError(code, "no", wire: wire)))
            _ = try? await mount.head("o")
            endpoint.faults.clear()
            #expect(endpoint.load.breaker.outage == nil, "\(code)")
        }
    }

    @Test("calls that hang count as failures when their deadline ends them")
    func hanging() async throws {
        let endpoint = Endpoint()
        let mount = endpoint.mount(deadline: .milliseconds(40))
        endpoint.faults.add(.head, calls: 1...Int.max, .hang)
        endpoint.faults.add(.list, calls: 1...Int.max, .hang)
        for _ in 0..<5 { _ = try? await mount.head("o") }
        #expect(endpoint.load.breaker.outage != nil)
    }

    @Test("whoever queues for a dead endpoint is let go when it opens")
    func queue() async throws {
        let endpoint = Endpoint(maxConcurrency: 1)
        let mount = endpoint.mount(deadline: .milliseconds(500), attempts: 2)
        let slot = try await endpoint.load.limit.acquire()
        let waiting = (0..<3).map { _ in
            Task { () async throws(VFSError) in try await mount.put(PutRequest(key: "o"), from: BytesSource("x")) }
        }
        #expect(await eventually { endpoint.load.limit.current.waiting == 3 })
        endpoint.fail(connectionLost)
        let breaker = endpoint.load.breaker
        let source = ProbeSource(FaultLayer(endpoint.bucket, endpoint.faults), prefix: "")
        for _ in 0..<5 { breaker.failed(connectionLost, verdict: .failed, start: breaker.now, source) }
        for task in waiting { await #expect(throws: VFSError.self) { try await task.value } }
        endpoint.load.limit.release(slot, .success)
        #expect(endpoint.load.limit.current.inFlight == 0)
    }

    @Test("the probes of a mount end with it, and another mount's go on")
    func sources() async throws {
        let endpoint = Endpoint()
        do {
            let mount = endpoint.mount(deadline: .zero)
            await endpoint.open(mount)
        }
        // The mount is gone; its probes soon are.
        try await Task.sleep(for: .milliseconds(1500))
        let before = endpoint.faults.calls(.list)
        try await Task.sleep(for: .milliseconds(2500))
        #expect(endpoint.faults.calls(.list) <= before + 1)
        endpoint.faults.clear()
        let mount = endpoint.mount(deadline: .zero)
        _ = try? await mount.head("o")
        #expect(await eventually { endpoint.load.breaker.outage == nil })
    }
}
