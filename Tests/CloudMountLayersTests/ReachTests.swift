import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import Testing

@Suite("Whether a mount asks its store")
struct ReachTests {
    private let faults = Faults()

    private func make() -> LayeredProvider {
        var settings = LayerSettings(endpoint: EndpointLoad("memory"), environment: StillClock().environment())
        settings.faults = faults
        return Layers.stack(MemoryProvider(), settings: settings)
    }

    private func refusal(_ layered: LayeredProvider) async -> VFSError? {
        do throws(VFSError) {
            _ = try await layered.provider.list(ListRequest(prefix: "", delimited: true))
            return nil
        } catch { return error }
    }

    @Test("Offline by command nothing reaches the store, and no outage is taken for one; online again all does")
    func byCommand() async {
        let layered = make()
        #expect(!layered.isCutOff)
        layered.reach.isOffline = true
        for _ in 0..<20 { #expect(await refusal(layered)?.code == .unavailable) }
        #expect(layered.isCutOff && faults.calls(.list) == 0)
        #expect(layered.endpoint.breaker.outage == nil)
        layered.reach.isOffline = false
        #expect(await refusal(layered) == nil)
        #expect(!layered.isCutOff && faults.calls(.list) == 1)
    }

    @Test("Before the first contact calls wait; when it has failed they say why; when it is made they go out")
    func contact() async {
        let layered = make()
        layered.reach.contact = .awaited
        async let waiting = refusal(layered)
        #expect(layered.isCutOff)
        layered.reach.contact = .failed(VFSError(.connectionFailed, "nobody is there", retry: .backoff))
        #expect(await waiting?.code == .connectionFailed)
        #expect(await refusal(layered)?.message == "nobody is there")
        // One command more or less does not make a contact.
        layered.reach.isOffline = true
        layered.reach.isOffline = false
        #expect(await refusal(layered)?.code == .connectionFailed)
        #expect(faults.calls(.list) == 0)
        layered.reach.contact = .made
        #expect(await refusal(layered) == nil)
    }
}
