import CloudMountVFS
import MemoryProvider
import Synchronization
import Testing

@testable import CloudMountConfig
@testable import CloudMountDaemon
@testable import CloudMountLayers

@Suite("What the doctor does to a store", .timeLimit(.minutes(15)))
struct CheckupTests {
    private let store = MemoryProvider()
    private let faults = Faults()
    private let findings = Lines()
    private let names = Lines()

    private func checkup() throws -> Checkup {
        let (store, faults, names, findings) = (store, faults, names, findings)
        let provider = ProviderDescriptor(
            name: "fake", summary: "nothing", bucketMeaning: "any",
            make: { context throws(VFSError) in
                names.add(context.mountName)
                return FaultLayer(store, faults)
            })
        let text = "version: 1\nmounts: [{name: m, path: /mnt/m, provider: fake, bucket: b, prefix: p/}]\n"
        let configuration = try Configuration.parse(
            Array(text.utf8), file: "m.yaml", providers: [provider],
            places: UserPlaces(environment: [:], uid: 0, gid: 0))
        return Checkup(configuration) { findings.add("\($0.state.rawValue): \($0.what)") }
    }

    private func keys() async throws -> [ObjectKey] {
        try await store.list(ListRequest(prefix: "", delimited: false)).objects.map(\.key)
    }

    @Test("it probes under a name of its own, and leaves nothing")
    func name() async throws {
        try await checkup().stores()
        #expect(names.all == ["m doctor"] && faults.calls(.put) == 1)
        #expect(findings.all.allSatisfy { !$0.hasPrefix("fault") }, "\(findings.all)")
        #expect(try await keys().isEmpty)
    }

    @Test("the host of an endpoint is looked up without its port, and an address without its brackets")
    func hosts() {
        #expect(Checkup.host("[::1]:9000/x") == "::1")
        #expect(Checkup.host("host.example:9000/x") == "host.example" && Checkup.host("host/x") == "host")
    }

    @Test("told to stop while its key is there, it takes the key away before it ends")
    func stopped() async throws {
        faults.add(.head, calls: 1...99, .hang)
        let checkup = try checkup()
        let work = Task { await checkup.stores() }
        while faults.calls(.head) == 0 { try await Task.sleep(for: .milliseconds(1)) }
        #expect(try await keys().count == 1)
        work.cancel()
        await work.value
        #expect(try await keys().isEmpty && faults.calls(.read) == 0)
        #expect(findings.all.allSatisfy { !$0.hasPrefix("fault") }, "\(findings.all)")
    }

    @Test("a key whose write was not answered is taken away; after a refusal nothing is")
    func unanswered() async throws {
        faults.add(.put, calls: 1...99, .dropReply(VFSError(.malformedResponse, "no answer")))
        try await checkup().stores()
        #expect(try await keys().isEmpty && faults.calls(.delete) == 1)
        faults.clear()
        faults.add(.put, calls: 1...99, .fail(VFSError(.permissionDenied, "no")))
        try await checkup().stores()
        #expect(faults.calls(.delete) == 1)
    }
}
