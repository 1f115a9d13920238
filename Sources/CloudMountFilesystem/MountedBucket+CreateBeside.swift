import CloudMountCommit
import CloudMountPlatform
import CloudMountVFS
import Logging
import Synchronization

/// New small files where the store has no conditional write but keeps what is overwritten.
///
/// The look whether the name is still free goes out just before the write, which spares a round trip. When it finds that
/// somebody else had made the file meanwhile, their version is put back on top and ours is kept beside, as it would be
/// had the look come first.
extension MountedBucket {
    /// - Returns: false, and nothing is done, where the usual way must be gone.
    func createdBeside(
        _ inode: InodeID, _ content: FileContent, _ snapshot: Snapshot
    ) async throws(VFSError) -> Bool {
        guard capabilities.readsOldVersions, capabilities.versions, !capabilities.conditionalCreate,
            snapshot.version == nil, snapshot.base == nil, snapshot.stream == nil,
            snapshot.size <= UploadPlan.putThreshold
        else { return false }
        async let look = attempt { () async throws(VFSError) in
            let began = SystemClock.monotonic()
            let there = try await self.headIfThere(snapshot.key)
            self.headStart.note(SystemClock.monotonic() - began)
            return there
        }
        if let time = headStart.nanoseconds { try? await Task.sleep(for: .nanoseconds(time)) }
        let stored = await attempt { () async throws(VFSError) in try await self.store(snapshot, content, .none) }
        let there = await look
        let info = try stored.get()
        guard let other = try await foreign(there, info, snapshot) else {
            try settle(inode, content, snapshot, info)
            return true
        }
        _ = try await provider.copy(CopyRequest(source: other, destination: snapshot.key))
        guard policy.onConflict == .keepBoth else {
            throw VFSError(.stale, "\(snapshot.key) was made by somebody else meanwhile")
        }
        try await keepBoth(inode, content, snapshot)
        return true
    }

    /// What somebody else had under the key before `info`; nil when there was nothing.
    private func foreign(
        _ look: Result<ObjectInfo?, VFSError>, _ info: ObjectInfo, _ snapshot: Snapshot
    ) async throws(VFSError) -> ObjectInfo? {
        let found: ObjectInfo?
        switch look {
        case .success(nil): return nil
        case .success(let there?) where there.etag != info.etag: found = there
        case .success, .failure:
            // It came late or not at all: what lies below ours tells.
            let below = try await provider.versions(of: snapshot.key).drop { $0.info.etag != info.etag }.dropFirst()
                .first
            found = below.flatMap { $0.isDeleteMarker ? nil : $0.info }
        }
        guard let found else { return nil }
        // An attempt of ours whose answer was lost.
        let isOurs = found.size == snapshot.size && found.metadata?.modified == snapshot.attributes.modified
        return isOurs && snapshot.attributes.modified != nil ? nil : found
    }
}

/// How much earlier than a write its look goes out. Where both take equally long, as they do over a long way, the look
/// then comes first; one that finds our own version already needs a further question.
final class HeadStart: Sendable {
    private static let share: UInt64 = 40
    private static let most: UInt64 = 500_000
    /// Less is not worth the timer.
    private static let least: UInt64 = 100_000

    /// What looks have taken lately. A lost update does no harm.
    private let time = Atomic<UInt64>(0)

    func note(_ nanoseconds: UInt64) {
        let old = time.load(ordering: .relaxed)
        time.store((old * 3 + nanoseconds) / 4, ordering: .relaxed)
    }

    /// A fortieth of what looks take, half a millisecond at most; nil: none.
    var nanoseconds: UInt64? {
        let start = min(time.load(ordering: .relaxed) / Self.share, Self.most)
        return start < Self.least ? nil : start
    }
}
