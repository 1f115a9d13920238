import CloudMountVFS
import MemoryProvider
import Testing

@testable import CloudMountLayers

@Suite("Quotas and caps") struct CapTests {
    private let quota = VFSError(.quotaExceeded, "the storage cap is reached")

    private struct Mount {
        let faults = Faults()
        let clock: StillClock
        let bucket: MemoryProvider
        let layered: LayeredProvider
        var provider: any ObjectProvider { layered.provider }

        init(
            clock: StillClock = StillClock(), endpoint: EndpointLoad? = nil,
            capabilities: Capabilities = MemoryProvider.fullCapabilities
        ) {
            self.clock = clock
            bucket = MemoryProvider(capabilities: capabilities)
            let environment = clock.environment()
            layered = Layers.stack(
                bucket,
                settings: LayerSettings(
                    endpoint: endpoint ?? EndpointLoad("capped", environment: environment), faults: faults,
                    environment: environment))
        }

        func put() async throws(VFSError) {
            _ = try await provider.put(PutRequest(key: "o"), from: BytesSource("x"))
        }

        func code(_ body: () async throws(VFSError) -> Void) async -> VFSError.Code? {
            do throws(VFSError) {
                try await body()
                return nil
            } catch {
                return error.code
            }
        }
    }

    @Test("a storage cap refuses writes at once, lets reads through, and is tried again after 15 minutes")
    func writes() async throws {
        let mount = Mount()
        try await mount.put()
        #expect(mount.layered.caps.writeRefusal == nil)
        mount.faults.add(.put, calls: 1...2, .fail(quota))
        #expect(await mount.code { () async throws(VFSError) in try await mount.put() } == .quotaExceeded)
        for _ in 0..<50 {
            #expect(await mount.code { () async throws(VFSError) in try await mount.put() } == .quotaExceeded)
        }
        #expect(mount.faults.calls(.put) == 2, "one before, one that met the cap")
        #expect(mount.layered.caps.writeRefusal?.code == .quotaExceeded)
        #expect(mount.layered.caps.current.map(\.kind) == [.writes])
        #expect(try await mount.provider.head("o").size == 1)
        mount.clock.advance(.seconds(15 * 60))
        #expect(mount.layered.caps.writeRefusal == nil, "somebody has to try")
        #expect(await mount.code { () async throws(VFSError) in try await mount.put() } == .quotaExceeded)
        #expect(mount.faults.calls(.put) == 3)
        #expect(mount.layered.caps.writeRefusal?.code == .quotaExceeded)
        mount.clock.advance(.seconds(15 * 60))
        try await mount.put()
        try await mount.put()
        #expect(mount.layered.caps.current.isEmpty)
    }

    @Test("a cap on downloads is EIO to readers, and nothing to anybody else")
    func reads() async throws {
        let mount = Mount()
        try await mount.put()
        mount.faults.add(.read, calls: 1...1, .fail(VFSError(.quotaExceeded, "the download cap is reached")))
        for _ in 0..<20 {
            let code = await mount.code { () async throws(VFSError) in
                _ = try await mount.provider.read(ReadRequest(key: "o"), into: CollectingSink())
            }
            #expect(code == .unavailable)
        }
        #expect(mount.faults.calls(.read) == 1)
        try await mount.put()
        _ = try await mount.provider.list(ListRequest(prefix: "", delimited: false))
        #expect(mount.layered.caps.writeRefusal == nil)
        #expect(mount.layered.endpoint.breaker.outage == nil)
    }

    @Test("who deletes something may try to write again")
    func room() async throws {
        let mount = Mount()
        try await mount.put()
        mount.faults.add(.put, calls: 1...1, .fail(quota))
        _ = await mount.code { () async throws(VFSError) in try await mount.put() }
        #expect(mount.layered.caps.writeRefusal != nil)
        _ = try await mount.provider.delete([DeleteRequest("o")])
        #expect(mount.layered.caps.writeRefusal == nil)
        try await mount.put()
        #expect(mount.layered.caps.current.isEmpty)
    }

    @Test("an attempt that meets another failure is repeated after a minute")
    func inconclusive() async throws {
        let mount = Mount()
        mount.faults.add(.put, calls: 1...1, .fail(quota))
        _ = await mount.code { () async throws(VFSError) in try await mount.put() }
        mount.clock.advance(.seconds(15 * 60))
        mount.faults.add(.put, calls: 1...1, .fail(VFSError(.permissionDenied, "no")))
        #expect(await mount.code { () async throws(VFSError) in try await mount.put() } == .permissionDenied)
        #expect(mount.layered.caps.writeRefusal != nil)
        mount.clock.advance(.seconds(60))
        try await mount.put()
        #expect(mount.layered.caps.current.isEmpty)
    }

    @Test(
        "what caps an account is found once, by whichever mount, and ended for all of them", arguments: [true, false])
    func shared(isAccount: Bool) async throws {
        let clock = StillClock()
        let endpoint = EndpointLoad("account", environment: clock.environment())
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.sharedQuota = isAccount
        let first = Mount(clock: clock, endpoint: endpoint, capabilities: capabilities)
        let second = Mount(clock: clock, endpoint: endpoint, capabilities: capabilities)
        first.faults.add(.put, calls: 1...1, .fail(quota))
        #expect(await first.code { () async throws(VFSError) in try await first.put() } == .quotaExceeded)
        let code = await second.code { () async throws(VFSError) in try await second.put() }
        #expect(code == (isAccount ? .quotaExceeded : nil))
        #expect(second.faults.calls(.put) == (isAccount ? 0 : 1))
        #expect(second.layered.caps.current.map(\.kind) == (isAccount ? [.writes] : []))
        clock.advance(.seconds(15 * 60))
        try await second.put()
        #expect(first.layered.caps.current.isEmpty == isAccount)
    }

    @Test("soon after midnight in Greenwich, when daily caps end, a capped kind is tried again")
    func midnight() async throws {
        let mount = Mount()
        mount.clock.setMidnight(in: .seconds(100))
        mount.faults.add(.put, calls: 1...2, .fail(quota))
        #expect(await mount.code { () async throws(VFSError) in try await mount.put() } == .quotaExceeded)
        mount.clock.advance(.seconds(100))
        #expect(mount.layered.caps.writeRefusal != nil, "clocks differ")
        mount.clock.advance(.seconds(30))
        mount.clock.setMidnight(in: .seconds(86_370))
        #expect(await mount.code { () async throws(VFSError) in try await mount.put() } == .quotaExceeded)
        mount.clock.advance(.seconds(14 * 60))
        #expect(mount.layered.caps.writeRefusal != nil, "the day has only begun")
        mount.clock.advance(.seconds(60))
        try await mount.put()
    }
}
