import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import Synchronization
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
        let refused = try await mount.delete([DeleteRequest("c", version: stored.etag)])
        #expect(refused.map(\.key) == ["c"] && refused.map(\.error.code) == [.preconditionFailed])
        #expect(try await mount.delete([DeleteRequest("a/b", version: stored.etag), DeleteRequest("c")]).isEmpty)
        #expect(
            try await bucket.list(ListRequest(prefix: "", delimited: false)).objects.map(\.key) == ["other", "runs/"])
    }

    @Test("leaves an upload its nonce, by which the layer below knows what became of it")
    func nonce() async throws {
        let bucket = MemoryProvider()
        let mount = PrefixLayer(RetryLayer(bucket), prefix: "runs/")
        let upload = try await mount.beginUpload("a", metadata: ObjectMetadata(nonce: "n1"))
        #expect(upload == Upload(key: "a", id: upload.id, nonce: "n1"))
        let part = try await mount.uploadPart(upload, number: 1, from: BytesSource("x"))
        let stored = try await mount.completeUpload(upload, parts: [part], precondition: .absent)
        #expect(try await mount.completeUpload(upload, parts: [part], precondition: .absent).etag == stored.etag)
    }

    @Test("passes on that a delete takes back a write of ours")
    func undoes() async throws {
        let recorder = DeleteRecorder(inner: MemoryProvider())
        let request = DeleteRequest("a", version: ETag("e"), undoes: true)
        _ = try? await PrefixLayer(recorder, prefix: "runs/").delete([request])
        #expect(recorder.undone.withLock { $0 } == ["runs/a"])
    }
}

private final class DeleteRecorder: ProviderLayer {
    let inner: any ObjectProvider
    let undone = Mutex<[ObjectKey]>([])

    init(inner: any ObjectProvider) { self.inner = inner }

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value { try await body(inner) }

    func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        undone.withLock { $0 += objects.filter(\.undoes).map(\.key) }
        return try await inner.delete(objects)
    }
}
