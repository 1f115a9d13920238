import CloudMountCommit
import CloudMountStaging
import CloudMountVFS
import Synchronization

/// A planned upload that did not come to its end, for a cause that may pass: the next commit of the same bytes goes on
/// with it.
struct UnfinishedUpload: Sendable {
    let upload: Upload
    let parts: [UploadPlan.Part]
    let metadata: ObjectMetadata
    let base: ETag?
    let generation: UInt64

    func isContinued(
        by parts: [UploadPlan.Part], _ snapshot: MountedBucket.Snapshot, _ metadata: ObjectMetadata
    ) -> Bool {
        upload.key == snapshot.key && generation == snapshot.generation && base == snapshot.base?.etag
            && self.parts == parts && self.metadata == metadata
    }
}

extension MountedBucket {
    /// Commits a file in parts, some of which the store copies.
    func upload(
        _ parts: [UploadPlan.Part], _ image: FileImage, _ snapshot: Snapshot, _ content: FileContent,
        _ metadata: ObjectMetadata, _ condition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        let (upload, held) = try await begin(parts, snapshot, content, metadata)
        do throws(VFSError) {
            let sent = try await inParallel(parts, width: 16) { part async throws(VFSError) -> UploadedPart in
                if let held = held[part.number], held.size == part.extent.count { return held }
                switch part.kind {
                case .copy(let extent):
                    guard let base = snapshot.base else { throw VFSError(.io, "a plan copies from nothing") }
                    return try await self.provider.copyPart(upload, number: part.number, source: base, extent: extent)
                case .upload:
                    let source = try await self.source(part.extent, image, snapshot, content)
                    return try await self.provider.uploadPart(upload, number: part.number, from: source)
                }
            }
            return try await provider.completeUpload(upload, parts: sent, precondition: condition)
        } catch {
            let unfinished = UnfinishedUpload(
                upload: upload, parts: parts, metadata: metadata, base: snapshot.base?.etag,
                generation: snapshot.generation)
            let isKept = content.state.withLock { state in
                guard error.mayPass, !state.isDetached else { return false }
                state.unfinished = unfinished
                return true
            }
            if !isKept { drop(unfinished) }
            throw error
        }
    }

    /// The upload to send into, and the parts that the store holds of it.
    private func begin(
        _ parts: [UploadPlan.Part], _ snapshot: Snapshot, _ content: FileContent, _ metadata: ObjectMetadata
    ) async throws(VFSError) -> (Upload, held: [Int: UploadedPart]) {
        if let before = content.state.withLock({ state in state.unfinished.take() }) {
            if before.isContinued(by: parts, snapshot, metadata) {
                do throws(VFSError) {
                    let held = try await provider.listParts(before.upload)
                    return (before.upload, Dictionary(held.map { ($0.number, $0) }, uniquingKeysWith: { $1 }))
                } catch {
                    if error.code != .uploadNotFound {
                        content.state.withLock { $0.unfinished = before }
                        throw error
                    }
                }
            } else {
                drop(before)
            }
        }
        return (try await provider.beginUpload(snapshot.key, metadata: metadata), [:])
    }

    /// Frees what the store holds of an upload that nobody goes on with.
    func drop(_ unfinished: UnfinishedUpload?) {
        guard let unfinished else { return }
        let provider = provider
        Task(executorPreference: provider.executor) { try? await provider.abortUpload(unfinished.upload) }
    }
}

extension VFSError {
    /// The same may succeed later without anything changed here.
    var mayPass: Bool { code != .cancelled && retry != .never || code == .quotaExceeded || code == .timedOut }
}
