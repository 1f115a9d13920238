import CloudMountCommit
import CloudMountPlatform
import CloudMountVFS
import Logging
import Synchronization

/// Calls that were given up and may still come to their effect: each is followed to its end, and no other is sent to the same key
/// before that.
final class Landings: Sendable {
    private let context: MountContext
    private let tree: Tree
    /// The version that each call is to replace, by the key of the file's commit.
    private let underWay = Mutex<[ObjectKey: ETag?]>([:])
    /// Where what such a call has stored is being taken away.
    private let undoing = Mutex<Set<ObjectKey>>([])
    private let ended = Waiters()

    init(context: MountContext, tree: Tree) { (self.context, self.tree) = (context, tree) }

    /// Returns when no call that was given up can store anything more under the key; for a directory's, below it.
    /// - Throws: `timedOut` when one still can after the policy's deadline. Who is cancelled, as a commit is so that its name can
    ///   change, waits no longer: the landing may be waiting for that name.
    func clear(_ key: ObjectKey) async throws(VFSError) {
        let isClear = {
            self.underWay.withLock { all in
                all[key] == nil && !(key.endsWithSlash && all.contains { $0.key.hasPrefix(key) })
            }
        }
        if await context.wait(on: ended, until: isClear) { return }
        throw Task.isCancelled ? .cancelled : VFSError(.timedOut, "an earlier write of \(key) may still be stored")
    }

    /// Returns when nothing more can land, or after the policy's deadline: what is still on its way then is followed for as long as the
    /// process lives.
    func clearAll() async { _ = await context.wait(on: ended, until: { self.underWay.withLock { $0.isEmpty } }) }

    /// Keeps the key until `work` has seen a call to its end.
    func follow(_ key: ObjectKey, replacing version: ETag?, _ work: @escaping @Sendable () async -> Void) {
        underWay.withLock { $0[key] = .some(version) }
        context.begin {
            await work()
            self.underWay.withLock { _ = $0.removeValue(forKey: key) }
            self.ended.resume()
        }
    }

    /// Whether a call that was given up can still store something under the key when that holds `etag`, put there in the place of `seen`.
    func mayLand(_ key: ObjectKey, over etag: ETag, inPlaceOf seen: ETag?) -> Bool {
        // What is being taken away may have the same ETag.
        if undoing.withLock({ $0.contains(key) }) { return true }
        return underWay.withLock { all in
            guard let replaces = all[key] else { return false }
            return replaces == etag || seen == nil
        }
    }

    /// What a call has stored; where its answer was lost, the store is asked.
    func outcome(of call: Task<Result<ObjectInfo, VFSError>, Never>, _ write: SealedWrite) async -> ObjectInfo? {
        switch await call.value {
        case .success(let info): return info
        case .failure(let error) where !CommitVerdict.isUnclear(error): return nil
        case .failure: break
        }
        let there = await persistently { () async throws(VFSError) -> ObjectInfo?? in
            .some(try await self.context.provider.headIfThere(write.key))
        }
        return there.flatMap { $0 }.flatMap { WriteMark(write).isOn($0) ? $0 : nil }
    }

    /// Whether a new object has been stored is not known, and its caller has been told that it has not: it goes again.
    func undoLater(_ mark: WriteMark, at key: ObjectKey) {
        follow(key, replacing: nil) { await self.undo(mark, at: key) }
    }

    /// Takes away what a call has stored that nobody waits for, until the store says that it is gone. It is known by its mark: what has
    /// the same bytes may have the same ETag.
    func undo(_ mark: WriteMark, at key: ObjectKey) async {
        undoing.withLock { _ = $0.insert(key) }
        defer { undoing.withLock { _ = $0.remove(key) } }
        let isGone = await persistently { () async throws(VFSError) -> Bool? in
            guard let there = try await self.context.provider.headIfThere(key) else { return true }
            // Without marks, what has the size may be anybody's: a name too many is better than somebody's bytes gone.
            if !self.context.capabilities.metadata { return there.size != mark.size }
            guard mark.isOn(there) else { return true }
            let undoing = DeleteRequest(key, version: there.etag, nonce: mark.nonce, undoes: true)
            let failure = try await self.context.provider.delete([undoing]).first?.error.code
            return failure == nil || failure == .notFound ? true : nil
        }
        // A listing may have shown it.
        if let place = tree.stored.place(of: key) { tree.stored.distrust([place]) }
        if isGone == true { return }
        context.log.error(
            "a write that was given up may be in the store and could not be taken away", metadata: ["key": "\(key)"])
    }

    /// Tries for some minutes, until there is a value.
    private func persistently<Value: Sendable>(
        _ work: @escaping @Sendable () async throws(VFSError) -> Value?
    ) async -> Value? {
        var pause = Duration.milliseconds(100)
        for _ in 0..<200 {
            if case .success(let value?) = await attempt(work) { return value }
            await context.clock.sleep(pause)
            pause = min(pause * 2, .seconds(3))
        }
        return nil
    }
}
