import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS

/// Keeps the bytes of a file for who has it open while its object goes.
struct Preservation: Sendable {
    let content: FileContent
    let context: MountContext

    /// Files up to this many bytes that are open while their object goes stay readable.
    private static let limit = 256 << 20

    /// Fetches what an open file still has only in the store, before the object goes.
    func run() async throws(VFSError) {
        let here = content
        if await BlockingPool.shared.run(context.name, { here.keepRecent() }) { return }
        // Again when it was written to meanwhile; a file that never rests loses what is only in the store.
        for _ in 0..<4 {
            guard let before = content.snapshot(), let base = before.base, before.size > 0, before.size <= Self.limit,
                before.image.needsBase
            else { return }
            let staged = try context.staging.makeFile(label: context.name)
            let step = 4 << 20
            let extents = stride(from: 0, to: before.size, by: step).map { Extent($0, min(before.size, $0 + step)) }
            let reader = context.imageReader()
            do throws(VFSError) {
                _ = try await inParallel(extents, width: 8) { extent async throws(VFSError) in
                    let buffer = try await reader.read(
                        before.image.pieces(in: extent), extent, base: base, staged: before.staged)
                    try await BlockingPool.shared.run(context.name) { () throws(VFSError) in
                        try staged.write(UnsafeRawBufferPointer(buffer.bytes), at: extent.lowerBound)
                    }
                }
            } catch {
                if error.code == .stale { return }  // Somebody else was quicker: the bytes are gone already.
                throw error
            }
            // It waits for a change that is being written to disk.
            let content = content
            if await BlockingPool.shared.run(context.name, { content.replaceAll(with: staged, before) }) { return }
        }
    }
}
