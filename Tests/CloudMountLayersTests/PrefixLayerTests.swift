import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import Testing

@Suite("The prefix layer") struct PrefixLayerTests {
    @Test("shows what is below the prefix as if it were the whole bucket")
    func below() async throws {
        let bucket = MemoryProvider()
        let mount = PrefixLayer(bucket, prefix: "runs/")
        _ = try await bucket.put(PutRequest(key: "runs/"), from: BytesSource(""))
        _ = try await bucket.put(PutRequest(key: "other"), from: BytesSource("x"))
        let stored = try await mount.put(PutRequest(key: "a/b"), from: BytesSource("body"))
        #expect(stored.key == "a/b")
        #expect(try await bucket.head("runs/a/b").size == 4)
        let flat = try await mount.list(ListRequest(prefix: "", delimited: false))
        #expect(flat.objects.map(\.key) == ["a/b"], "neither the prefix's own object nor what is beside it")
        #expect(try await mount.list(ListRequest(prefix: "", delimited: true)).commonPrefixes == ["a/"])
        #expect(mount.capabilities.maxKeyBytes == bucket.capabilities.maxKeyBytes - 5)
        let copy = try await mount.copy(CopyRequest(source: stored, destination: "c"))
        #expect(copy.key == "c")
        #expect(try await mount.delete([DeleteRequest("a/b"), DeleteRequest("c")]).isEmpty)
        #expect(
            try await bucket.list(ListRequest(prefix: "", delimited: false)).objects.map(\.key) == ["other", "runs/"])
    }
}
