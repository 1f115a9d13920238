import CloudMountVFS
import MemoryProvider
import Testing

@Suite("What the memory provider destroys") struct DestructionTests {
    private func put(
        _ provider: MemoryProvider, _ key: ObjectKey, _ bytes: [UInt8], if precondition: Precondition = .none
    ) async throws -> ObjectInfo {
        try await provider.put(PutRequest(key: key, precondition: precondition), from: BytesSource(bytes))
    }

    @Test("Every version that ceases to be current is recorded, with what was asked of it")
    func recorded() async throws {
        let provider = MemoryProvider(recordsDestruction: true)
        let first = try await put(provider, "a", [1], if: .absent)
        #expect(provider.destroyed.isEmpty)
        let second = try await put(provider, "a", [2, 2], if: .match(first.etag))
        let source = try await put(provider, "b", [3])
        let third = try await provider.copy(CopyRequest(source: source, destination: "a"))
        let upload = try await provider.beginUpload("a", metadata: ObjectMetadata())
        let part = try await provider.uploadPart(upload, number: 1, from: BytesSource([4]))
        let fourth = try await provider.completeUpload(upload, parts: [part], precondition: .match(third.etag))
        #expect(try await provider.delete([DeleteRequest("a", version: fourth.etag), DeleteRequest("none")]).isEmpty)
        _ = try await provider.delete([DeleteRequest("b")])
        let destroyed = provider.destroyed
        #expect(destroyed.map(\.key) == ["a", "a", "a", "a", "b"])
        #expect(destroyed.map(\.info.etag) == [first, second, third, fourth, source].map(\.etag))
        #expect(destroyed.map(\.bytes) == [[1], [2, 2], [3], [4], [3]])
        #expect(destroyed.map(\.verb) == [.put, .copy, .completeUpload, .delete, .delete])
        #expect(
            destroyed.map(\.precondition) == [
                .match(first.etag), .none, .match(third.etag), .match(fourth.etag), .none,
            ])
        #expect(destroyed.allSatisfy { $0.isAtomic })
        #expect(provider.destructions == 5)
        provider.clearDestroyed()
        #expect(provider.destroyed.isEmpty && provider.destructions == 5)
    }

    @Test("Nothing is recorded unasked, nor what was refused")
    func unrecorded() async throws {
        let provider = MemoryProvider()
        let first = try await put(provider, "a", [1])
        _ = try await put(provider, "a", [2])
        #expect(provider.destroyed.isEmpty)
        provider.recordsDestruction = true
        await #expect(throws: VFSError.self) { try await put(provider, "a", [3], if: .match(first.etag)) }
        #expect(try await provider.delete([DeleteRequest("a", version: first.etag)]).count == 1)
        #expect(provider.destroyed.isEmpty)
    }

    @Test(
        "Where a condition is only compared, another writer gets in between, and the record shows it",
        arguments: [true, false])
    func between(isAtomic: Bool) async throws {
        var capabilities = MemoryProvider.fullCapabilities
        capabilities.conditionalReplace = isAtomic
        capabilities.conditionalCreate = isAtomic
        capabilities.conditionalCopy = isAtomic
        capabilities.conditionalDelete = isAtomic
        let provider = MemoryProvider(capabilities: capabilities, recordsDestruction: true)
        let source = try await put(provider, "source", [0])
        provider.betweenSteps = { _, key in
            _ = try? await provider.put(PutRequest(key: key), from: BytesSource([9]))
        }
        let first = try await put(provider, "put", [1])
        _ = try await put(provider, "put", [2], if: .match(first.etag))
        _ = try await put(provider, "new", [1], if: .absent)
        _ = try await provider.copy(CopyRequest(source: source, destination: "copy", precondition: .absent))
        let own = try await put(provider, "self", [1])
        _ = try await provider.copy(CopyRequest(source: own, destination: "self", metadata: ObjectMetadata()))
        _ = try await put(provider, "delete", [1])
        let doomed = try await provider.head("delete")
        _ = try await provider.delete([DeleteRequest("delete", version: doomed.etag)])
        let foreign = provider.destroyed.filter { $0.bytes == [9] }
        #expect(foreign.map(\.key) == (isAtomic ? [] : ["put", "new", "copy", "self", "delete"]))
        #expect(foreign.allSatisfy { !$0.isAtomic })
    }
}
