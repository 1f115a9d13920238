import CloudMountVFS
import MemoryProvider
import ProviderConformance
import Testing

@Suite("The memory provider") struct MemoryConformanceTests {
    static let subject = Subject {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.versions = true
        capabilities.listingCarriesMetadata = true
        return MemoryProvider(capabilities: capabilities)
    }

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}

@Suite("The memory provider with the least capabilities") struct PoorMemoryConformanceTests {
    static let subject = Subject { MemoryProvider(capabilities: Capabilities()) }

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}

@Suite("The memory provider that keeps what is overwritten") struct KeepingMemoryConformanceTests {
    static let subject = Subject {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.versions = true
        capabilities.readsOldVersions = true
        capabilities.deleteKeepsVersion = true
        capabilities.minParts = 2
        capabilities.minPartSize = 4096
        return MemoryProvider(capabilities: capabilities)
    }

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}
