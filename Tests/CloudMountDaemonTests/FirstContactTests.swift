import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import Logging
import MemoryProvider
import Synchronization
import Testing

@testable import CloudMountConfig
@testable import CloudMountDaemon

@Suite("The first contact", .timeLimit(.minutes(15)))
struct FirstContactTests {
    /// In place of a folder.
    private final class Kept: ProviderMemory {
        private let files = Mutex<[String: [UInt8]]>([:])
        func recall(_ name: String) async -> [UInt8]? { files.withLock { $0[name] } }
        func keep(_ bytes: [UInt8], as name: String) async { files.withLock { $0[name] = bytes } }
        var all: [String: [UInt8]] { files.withLock { $0 } }
    }

    /// The answers of a store, one after the other; the last one for ever.
    private final class Answers: Sendable {
        private let left: Mutex<[VFSError?]>
        init(_ answers: [VFSError?]) { left = Mutex(answers) }
        func next() throws(VFSError) {
            let error = left.withLock { $0.count > 1 ? $0.removeFirst() : $0.first ?? nil }
            if let error { throw error }
        }
    }

    private let memory = Kept()
    private let unreachable = VFSError(.connectionFailed, "nobody is there", retry: .backoff)

    private func known(_ text: String = "a") throws -> KnownStore {
        KnownStore(try Fixtures.configuration([text]).mounts[0], endpoint: "fake", in: memory)
    }

    private func contact(
        _ answers: VFSError?..., servesKnown: Bool = true, known: KnownStore? = nil,
        _ adjust: (inout Capabilities) -> Void = { _ in }
    ) async throws -> FirstContact {
        var capabilities = MemoryProvider.fullCapabilities
        adjust(&capabilities)
        let script = Answers(answers)
        return try await FirstContact(
            MemoryProvider(capabilities: capabilities), known: known ?? self.known(), servesKnown: servesKnown
        ) { () async throws(VFSError) in try script.next() }
    }

    private func run(_ contact: FirstContact) async -> Reach.Contact {
        let layered = Layers.stack(contact.provider, settings: LayerSettings(endpoint: EndpointLoad("fake")))
        layered.reach.contact = contact.start
        await contact.run(layered, Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, while: { true })
        return layered.reach.contact
    }

    @Test("What a store can do is there for the next start, for the same mount alone, and fits into a file")
    func capabilities() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.maxKeyBytes = 777
        capabilities.readOnlyReason = "no"
        #expect(try await known().recall() == nil)
        try await known().keep(capabilities)
        #expect(try await known().recall() == capabilities)
        #expect(try await known("b").recall() == nil)
        #expect(memory.all.values.allSatisfy { $0.count < 4096 })
        for name in memory.all.keys { await memory.keep([1, 2], as: name) }
        #expect(try await known().recall() == nil)
    }

    @Test("A store that was never reached has to be; one that answers with a refusal is not taken for unreachable")
    func needed() async throws {
        await #expect(throws: unreachable) { try await contact(unreachable) }
        _ = try await contact(nil)
        await #expect(throws: unreachable) { try await contact(unreachable, servesKnown: false) }
        let refused = VFSError(.credentialsInvalid, "no such key")
        await #expect(throws: refused) { try await contact(refused) }
        await #expect(throws: unreachable) { try await contact(unreachable, known: known("b")) }
    }

    @Test("One that was reached once starts without, and goes on by itself when the store is there")
    func without() async throws {
        let first = try await contact(nil)
        #expect(first.start == .made)
        let second = try await contact(unreachable, nil)
        guard case .failed(let error) = second.start else { throw VFSError(.io, "\(second.start)") }
        #expect(error.code == .connectionFailed && error.message.hasPrefix("the store has not been reached since"))
        #expect(second.provider.capabilities == MemoryProvider.fullCapabilities)
        let outdated = Flag()
        second.whenOutdated { outdated.set() }
        #expect(await run(second) == .made)
        #expect(!outdated.isSet)
    }

    @Test("A store that does less by now is used, and mounted anew; one of another kind is not touched before that")
    func changed() async throws {
        for (isUsed, change) in [
            (true, { @Sendable (it: inout Capabilities) in it.maxDeleteKeys = 1 }),
            (false, { @Sendable (it: inout Capabilities) in it.realFolders = true }),
        ] {
            _ = try await contact(nil)
            let next = try await contact(unreachable, nil) { change(&$0) }
            let outdated = Flag()
            next.whenOutdated { outdated.set() }
            let isMade = await run(next) == .made
            #expect(isMade == isUsed)
            #expect(outdated.isSet)
            // What it can do now is remembered.
            #expect(try await known().recall() != MemoryProvider.fullCapabilities)
        }
    }

    @Test("A mount whose store is another is pending until nobody uses it; a command has a mount offline, and shows it")
    func supervised() async throws {
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        let engine = FakeEngine()
        let supervisor = Supervisor(
            mounts: try Fixtures.configuration(["a"]).mounts, engine: engine, logger: logger, announce: { _ in },
            pause: { _ in try? await Task.sleep(for: .milliseconds(1)) })
        async let endings = supervisor.run()
        let mount = await engine.mount("a")
        while await supervisor.phases.contains(where: { if case .mounted = $0.phase { false } else { true } }) {
            await Task.yield()
        }
        mount.reach.isOffline = true
        var shown = StatusReport.Mount(try Fixtures.configuration(["a"]).mounts[0], .mounted(mount))
        #expect(shown.offline == .init(byCommand: true, reason: "offline by command"))
        #expect(shown.complaint == "offline by command")
        mount.reach.isOffline = false
        mount.reach.contact = .failed(VFSError(.unavailable, "far away"))
        shown = StatusReport.Mount(try Fixtures.configuration(["a"]).mounts[0], .mounted(mount))
        #expect(shown.offline == .init(byCommand: false, reason: "far away"))
        mount.state.withLock { $0.statistics.openFiles = 1 }
        mount.outdate()
        while await supervisor.phases.first?.pending == nil { await Task.yield() }
        #expect(engine.attempts("a") == 1)
        mount.state.withLock { $0.statistics.openFiles = 0 }
        while engine.attempts("a") < 2 { try await Task.sleep(for: .milliseconds(1)) }
        await supervisor.stop()
        _ = await endings
    }
}
