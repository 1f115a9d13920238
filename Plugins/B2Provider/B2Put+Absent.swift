import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// New small files. The look whether the name is still free goes out just before the write instead of being waited for,
/// which spares a round trip. When somebody else had made the file by then, ours is taken away again, and theirs is the
/// current version as before.
extension B2Provider {
    /// Larger files are looked for first: their bytes would have gone up for nothing.
    static let besideLimit = 16 << 20

    func putBeside(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        async let look = attempt { () async throws(VFSError) in
            let began = SystemClock.monotonic()
            let there = try await self.headIfThere(request.key)
            self.headStart.note(SystemClock.monotonic() - began)
            return there
        }
        if let time = headStart.nanoseconds { try? await Task.sleep(for: .nanoseconds(time)) }
        let put = await attempt { () async throws(VFSError) in
            try await self.put(request.key, request.metadata, from: source)
        }
        let there = await look
        let stored = try put.get()
        if case .success(nil) = there { return stored }
        // Somebody's version is there, our own was seen already, or the look failed: what lies below ours tells.
        let files = try await versions(request.key, below: stored, nonce: request.metadata.nonce)
        let isBeside = if case .success(let other?) = there { !files.all.contains(other.etag.value) } else { false }
        guard files.isOverAnother || isBeside else { return stored }
        for file in files.ours.reversed() { try await takeAway(file, stored, files.another, request.key) }
        throw Self.taken
    }

    private struct Versions {
        /// Ids of all versions of the name.
        var all: Set<String> = []
        /// What this write has made, by earlier attempts as well; newest first.
        var ours: [B2File] = []
        /// What was current before.
        var another: B2File?
        var isOverAnother: Bool { another != nil }
    }

    private func versions(
        _ key: ObjectKey, below stored: ObjectInfo, nonce: String?
    ) async throws(VFSError) -> Versions {
        let files = try await allVersions(B2Names.name(key), key).filter { $0.action == .upload || $0.action == .hide }
        var versions = Versions(all: Set(files.map(\.id)))
        // What is above came later, and is no concern of ours.
        for file in files.drop(while: { $0.id != stored.etag.value }) {
            let isOurs =
                file.id == stored.etag.value
                || nonce != nil && file.action == .upload && file.object(key).metadata?.nonce == nonce
            guard isOurs else {
                if file.action == .upload { versions.another = file }
                break
            }
            versions.ours.append(file)
        }
        return versions
    }

    /// Deletes a version of ours, which brings back the one below. Where that is not permitted a copy of the other
    /// goes on top, if ours is still the current one.
    private func takeAway(
        _ file: B2File, _ stored: ObjectInfo, _ another: B2File?, _ key: ObjectKey
    ) async throws(VFSError) {
        do throws(VFSError) {
            try await unlessAbsent(deletion(file, key))
        } catch {
            guard error.code == .permissionDenied || error.code == .notSupported || error.code == .conflict else {
                throw error
            }
            guard file.id == stored.etag.value, let another, try await headIfThere(key)?.etag == stored.etag else {
                return
            }
            _ = try await copy(another.object(key), to: key, metadata: nil)
        }
    }
}

/// How much earlier than a write its look goes out. Where both take equally long, as they do over a long way, the look
/// then comes first; one that finds our own version already needs a further question.
final class B2HeadStart: Sendable {
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
