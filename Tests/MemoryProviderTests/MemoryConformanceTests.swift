import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import ProviderConformance
import Testing

@Suite("The memory provider") struct MemoryConformanceTests {
    static let subject = Subject {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.versions = true
        capabilities.listingCarriesMetadata = true
        capabilities.completeSetsMetadata = true
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

@Suite("The memory provider that moves") struct MovingMemoryConformanceTests {
    static let subject = Subject {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.moves = true
        capabilities.movesFolders = true
        return MemoryProvider(capabilities: capabilities)
    }

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}

@Suite("The suite itself") struct ConformanceSuiteTests {
    @Test("tells which cases were left out, and why")
    func leftOut() async throws {
        let left = try await PoorMemoryConformanceTests.subject.leftOut()
        let copy = left.first { $0.name == "copy keeps the bytes" }
        #expect(copy?.reason == "no serverCopy: the store copies nothing")
        #expect(left.contains { $0.description == "an upload of one short part (no multipart: no uploads in parts)" })
        let cases = try await PoorMemoryConformanceTests.subject.cases()
        #expect(Set(cases.map(\.name)).isDisjoint(with: left.map(\.name)))
        #expect(cases.count + left.count == Conformance.cases.count)
    }

    @Test("takes a store where names are files or folders")
    func realFolders() async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.filesBesideFolders = false
        capabilities.oddSegments = false
        capabilities.controlCharacters = false
        let given = capabilities
        let left = try await Subject { MemoryProvider(capabilities: given) }.leftOut().map(\.name)
        for name in [
            "key beside keys below it", "key with two slashes", "key with a newline", "key with a segment of 300 bytes",
        ] {
            #expect(left.contains(name), "\(name)")
        }
    }

    @Test("leaves nothing in a bucket that it shares")
    func shared() async throws {
        let memory = MemoryProvider()
        _ = try await memory.put(PutRequest(key: "foreign"), from: BytesSource("x"))
        let subject = Subject(isShared: true) { memory }
        for test in try await subject.cases().prefix(60) { try await subject.run(test) }
        let all = try await memory.list(ListRequest(prefix: "", delimited: false)).objects
        #expect(all.map(\.key) == ["foreign"])
    }

    @Test("tries again what a store refuses for a moment, where it is asked to")
    func retries() async throws {
        let faults = Faults()
        let busy = VFSError(.unavailable, "busy", retry: .immediately)
        let subject = Subject(retries: true) { FaultLayer(MemoryProvider(), faults) }
        let test = try #require(try await subject.cases().first { $0.name == "key with a space" })
        faults.add(.put, calls: 1...1, .fail(busy))
        try await subject.run(test)
        #expect(faults.calls(.put) == 3)
    }
}
