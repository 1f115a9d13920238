import CloudMountFilesystem
import CloudMountVFS
import MemoryProvider
import MountHarness
import Testing

/// A store with something missing.
struct StoreKind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let capabilities: Capabilities
    var span = 40_000

    init(_ name: String, span: Int = 40_000, _ adjust: (inout Capabilities) -> Void = { _ in }) {
        testDescription = name
        self.span = span
        var capabilities = MemoryProvider.fullCapabilities
        adjust(&capabilities)
        self.capabilities = capabilities
    }

    static let all: [StoreKind] = [
        StoreKind("everything"),
        StoreKind("no conditional writes") {
            $0.conditionalCreate = false
            $0.conditionalReplace = false
        },
        StoreKind("no copy of ranges") { $0.rangeCopy = false },
        StoreKind("no multipart upload") {
            $0.multipart = false
            $0.rangeCopy = false
        },
        StoreKind("metadata in listings") { $0.listingCarriesMetadata = true },
        StoreKind("metadata in listings, several parts, one delete at a time, no conditional writes", span: 400_000) {
            $0.listingCarriesMetadata = true
            $0.minParts = 2
            $0.minPartSize = 4096
            $0.maxPutSize = 64 << 10
            $0.maxDeleteKeys = 1
            $0.conditionalCreate = false
            $0.conditionalReplace = false
        },
        StoreKind("old versions stay readable, no conditional writes") {
            $0.listingCarriesMetadata = true
            $0.versions = true
            $0.readsOldVersions = true
            $0.deleteKeepsVersion = true
            $0.conditionalCreate = false
            $0.conditionalReplace = false
        },
        StoreKind("tiny parts", span: 400_000) {
            $0.minPartSize = 4096
            $0.maxPartSize = 64 << 10
            $0.maxPutSize = 64 << 10
        },
        StoreKind("equal parts", span: 400_000) {
            $0.minPartSize = 8192
            $0.maxPartSize = 8192
            $0.maxPutSize = 64 << 10
            $0.equalParts = true
        },
        StoreKind("no copy") {
            $0.serverCopy = false
            $0.rangeCopy = false
        },
        StoreKind("short pages, unsorted, one delete at a time") {
            $0.maxListKeys = 3
            $0.maxDeleteKeys = 1
            $0.sortedListing = false
        },
        StoreKind("folder objects without metadata") { $0.folderObjects = false },
    ]
}

@Suite("The file system against a plain reference")
struct ModelTests {
    private func walk(_ kind: StoreKind, seed: UInt64, steps: Int, fresh: CachePolicy.Freshness) async throws {
        let mount = try TestMount(capabilities: kind.capabilities) { $0.policy.freshness = fresh }
        let walk = RandomWalk(mount, seed: seed, span: kind.span)
        do {
            try await walk.run(steps: steps)
        } catch {
            Issue.record("seed \(seed) on \(kind.testDescription), freshness \(fresh): \(error)")
        }
    }

    @Test("Random operations end as on a plain file system", arguments: StoreKind.all)
    func believing(_ kind: StoreKind) async throws {
        for _ in 0..<3 {
            try await walk(kind, seed: UInt64.random(in: 0...UInt64.max), steps: 1200, fresh: .ttl)
        }
    }

    @Test("Random operations beside others' writes end as on a plain file system", arguments: StoreKind.all)
    func doubting(_ kind: StoreKind) async throws {
        for _ in 0..<2 {
            try await walk(kind, seed: UInt64.random(in: 0...UInt64.max), steps: 1200, fresh: .always)
        }
    }
}
