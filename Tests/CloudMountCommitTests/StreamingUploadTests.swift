import CloudMountLayers
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Foundation
import MemoryProvider
import Testing

@testable import CloudMountCommit

@Suite("StreamingUpload")
struct StreamingUploadTests {
    private let step = 8 << 20

    private struct Setting {
        let provider: MemoryProvider
        let file: StagedFile
        let stream: StreamingUpload

        init(_ adjust: (inout Capabilities) -> Void = { _ in }) throws {
            var capabilities = MemoryProvider.fullCapabilities
            adjust(&capabilities)
            provider = MemoryProvider(capabilities: capabilities)
            let folder = FileManager.default.temporaryDirectory.appending(path: "stream-\(UUID())").path
            let area = try StagingArea(directory: folder, limit: 1 << 30, keepFree: 0)
            file = try area.makeFile(label: "test")
            stream = StreamingUpload(
                provider: provider, staged: file, key: "f", metadata: ObjectMetadata(), nonce: "n")
        }

        func write(_ byte: UInt8, _ extent: Extent) throws {
            stream.touch(extent)
            try [UInt8](repeating: byte, count: extent.count).withUnsafeBytes {
                try file.write($0, at: extent.lowerBound)
            }
            stream.touch(extent)
        }

        func finish(_ size: Int) async throws -> [UInt8] {
            _ = try await stream.finish(size: size, generation: 1) { upload, parts async throws(VFSError) in
                try await provider.completeUpload(upload, parts: parts, precondition: .absent)
            }
            let sink = Sink()
            _ = try await provider.read(ReadRequest(key: "f"), into: sink)
            return sink.bytes
        }
    }

    private final class Sink: ByteSink {
        nonisolated let collected = Bytes()
        var bytes: [UInt8] { collected.all() }
        func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
            collected.append(bytes)
            return .proceed
        }
    }

    @Test("What is written again after its part went up is sent again")
    func rewritten() async throws {
        let setting = try Setting()
        try setting.write(1, Extent(0, 2 * step))
        setting.stream.grew(to: 2 * step)
        try setting.write(2, Extent(100, 200))
        let bytes = try await setting.finish(2 * step)
        #expect(bytes.count == 2 * step && bytes[99] == 1 && bytes[100] == 2 && bytes[199] == 2 && bytes[200] == 1)
    }

    @Test("Where the store cannot tell the bytes of a part, one that was written again makes the upload useless")
    func indistinct() async throws {
        let setting = try Setting { $0.partTagsAreOfBytes = false }
        try setting.write(1, Extent(0, 2 * step))
        setting.stream.grew(to: 2 * step)
        try setting.write(2, Extent(100, 200))
        await #expect { _ = try await setting.finish(2 * step) } throws: { ($0 as? VFSError)?.code == .uploadNotFound }
        let whole = try Setting { $0.partTagsAreOfBytes = false }
        try whole.write(1, Extent(0, 2 * step))
        whole.stream.grew(to: 2 * step)
        #expect(try await whole.finish(2 * step).count == 2 * step)
    }

    @Test("A file that was only made longer ends in zeros")
    func extended() async throws {
        let setting = try Setting()
        try setting.write(1, Extent(0, step))
        setting.stream.grew(to: step)
        let bytes = try await setting.finish(2 * step)
        #expect(bytes.count == 2 * step && bytes[step - 1] == 1 && bytes[step] == 0)
    }

    @Test("A cut behind what went up does not matter; one into it makes the upload useless")
    func cut() async throws {
        let setting = try Setting()
        try setting.write(1, Extent(0, step))
        setting.stream.grew(to: step)
        #expect(setting.stream.cut(to: step + 10))
        #expect(!setting.stream.cut(to: step - 1))
    }
}
