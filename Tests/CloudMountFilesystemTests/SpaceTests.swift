import CloudMountFilesystem
import CloudMountLayers
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import MemoryProvider
import MountHarness
import Synchronization
import Testing

@Suite("How much room a store has")
struct SpaceTests {
    private static let block = 4096

    private struct Stage {
        let store: SpaceStore
        let time = HeldClock()
        let fs: MountedBucket
        let staging: StagingArea

        init(tells: Bool = true) throws {
            store = SpaceStore(tells: tells)
            var template = Array("/tmp/cloudmount-test-XXXXXX".utf8CString)
            guard let path = mkdtemp(&template) else { throw VFSError(.io, "no directory for the test") }
            staging = try StagingArea(directory: String(cString: path), limit: 1 << 20, keepFree: 0)
            fs = MountedBucket(
                settings: MountSettings(name: "test", uid: 1000, gid: 1000), provider: store, staging: staging,
                memory: BufferPool(limit: 1 << 20), clock: time.clock)
        }

        func statfs() async throws -> FileSystemStatistics {
            try await withCheckedContinuation { continuation in
                fs.statfs(reply: Reply { continuation.resume(returning: $0) })
            }.get()
        }
    }

    @Test("What the store says is told, and asked for once a minute at most")
    func told() async throws {
        let stage = try Stage()
        defer { removeTree(stage.staging.directory) }
        stage.store.answer.withLock { $0 = .success(StoreSpace(used: 3 * Self.block, available: 7 * Self.block + 5)) }
        for _ in 0..<100 {
            let told = try await stage.statfs()
            #expect(told.blocks == 10 && told.freeBlocks == 7 && told.blockSize == Self.block)
        }
        #expect(stage.store.asked.load(ordering: .relaxed) == 1)
        stage.store.answer.withLock { $0 = .success(StoreSpace(used: 10 * Self.block, available: 0)) }
        stage.time.advance(.seconds(61))
        // Who asks first is told what was known; the answer is the next one's.
        #expect(try await stage.statfs().freeBlocks == 7)
        while try await stage.statfs().freeBlocks == 7 { try await Task.sleep(for: .milliseconds(2)) }
        let full = try await stage.statfs()
        #expect(full.blocks == 10 && full.freeBlocks == 0)
        #expect(stage.store.asked.load(ordering: .relaxed) == 2)
        // While the store is away there is as much room as there was.
        stage.store.answer.withLock { $0 = .failure(VFSError(.unavailable, "away")) }
        stage.time.advance(.seconds(61))
        _ = try await stage.statfs()
        while stage.store.asked.load(ordering: .relaxed) < 3 { try await Task.sleep(for: .milliseconds(2)) }
        #expect(try await stage.statfs().blocks == 10)
    }

    @Test("Nobody waits long for a store that does not answer; it is asked once, and believed when it does")
    func silent() async throws {
        let stage = try Stage()
        defer { removeTree(stage.staging.directory) }
        stage.store.answer.withLock { $0 = .success(StoreSpace(used: 0, available: 5 * Self.block)) }
        stage.store.isHeld.withLock { $0 = true }
        let plenty = try await stage.statfs()
        #expect(plenty.freeBlocks == plenty.blocks && plenty.blocks > 1 << 30)
        stage.store.gate.open()
        while try await stage.statfs().freeBlocks != 5 { try await Task.sleep(for: .milliseconds(2)) }
        #expect(stage.store.asked.load(ordering: .relaxed) == 1)
    }

    @Test("A store that tells nothing, or no number, has more than anybody needs")
    func untold() async throws {
        let stage = try Stage(tells: false)
        defer { removeTree(stage.staging.directory) }
        #expect(try await stage.statfs().freeBlocks > 1 << 30)
        #expect(stage.store.asked.load(ordering: .relaxed) == 0)
        let other = try Stage()
        defer { removeTree(other.staging.directory) }
        other.store.answer.withLock { $0 = .success(nil) }
        for _ in 0..<3 { #expect(try await other.statfs().freeBlocks > 1 << 30) }
        #expect(other.store.asked.load(ordering: .relaxed) == 1)
    }
}

/// Tells of room what a test wants it to tell.
private final class SpaceStore: ProviderLayer {
    let inner: any ObjectProvider
    let capabilities: Capabilities
    let asked = Atomic(0)
    let answer = Mutex<Result<StoreSpace?, VFSError>>(.success(nil))
    let isHeld = Mutex(false)
    let gate = Gate()

    init(tells: Bool) {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.tellsSpace = tells
        self.capabilities = capabilities
        inner = MemoryProvider(capabilities: capabilities)
    }

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value { try await body(inner) }

    func space() async throws(VFSError) -> StoreSpace? {
        asked.add(1, ordering: .relaxed)
        if isHeld.withLock({ $0 }) { await gate.wait() }
        return try answer.withLock { $0 }.get()
    }
}
