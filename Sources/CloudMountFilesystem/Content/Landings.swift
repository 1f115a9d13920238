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
    private struct Call {
        /// The version that it is to replace.
        let replaces: ETag?
        let mark: WriteMark
    }

    /// By the key of the file's commit.
    private let underWay = Mutex<[ObjectKey: Call]>([:])
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

    /// Nothing more can land.
    var isClear: Bool { underWay.withLock { $0.isEmpty } }

    /// Sees a call to its end, and keeps its key until then.
    /// - Parameter accept: what becomes of what it has stored.
    func follow(
        _ call: Task<Result<ObjectInfo, VFSError>, Never>, _ write: SealedWrite, at key: ObjectKey,
        _ accept: @escaping @Sendable (ObjectInfo) async -> Void, ended: @escaping @Sendable () -> Void
    ) {
        let mark = WriteMark(write)
        keep(key, Call(replaces: write.replaces, mark: mark)) {
            switch await call.value {
            case .success(let info): await accept(info)
            case .failure(let error) where !CommitVerdict.isUnclear(error): break
            case .failure: await self.look(for: mark, at: write.key, accept)
            }
            ended()
        }
    }

    private func keep(_ key: ObjectKey, _ call: Call, _ work: @escaping @Sendable () async -> Void) {
        underWay.withLock { $0[key] = call }
        context.begin {
            await work()
            self.underWay.withLock { _ = $0.removeValue(forKey: key) }
            self.ended.resume()
        }
    }

    /// What a call has stored that was not answered. A store may carry it out still later: then it is there again, and stays, for by then
    /// somebody may have use for it.
    private func look(
        for mark: WriteMark, at key: ObjectKey, _ accept: @Sendable (ObjectInfo) async -> Void
    ) async {
        let there = await persistently { () async throws(VFSError) -> ObjectInfo?? in
            .some(try await self.context.provider.headIfThere(key))
        }
        if let there, let there, mark.isOn(there) { await accept(there) }
    }

    /// Whether a call that was given up can still come to its effect under the key when that holds a copy of `object`, or harm the copy.
    /// - Parameters:
    ///   - nonce: what the copy will have.
    ///   - isNew: nobody here knows anything under the key.
    func mayLand(_ key: ObjectKey, over object: ObjectInfo, nonce: String?, isNew: Bool) -> Bool {
        // What is being taken away may have the same ETag.
        if undoing.withLock({ $0.contains(key) }) { return true }
        return underWay.withLock { all in
            guard let call = all[key] else { return false }
            return isNew || call.replaces == object.etag || call.mark.nonce == nonce
        }
    }

    /// Whether a call that was given up is about to replace, under the key, another version than `known`.
    func mayReplaceOther(_ key: ObjectKey, than known: ETag?) -> Bool {
        underWay.withLock { all in all[key]?.replaces.map { $0 != known } ?? false }
    }

    /// Whether a new object has been stored is not known, and its caller has been told that it has not: it goes again.
    func undoLater(_ mark: WriteMark, at key: ObjectKey) {
        keep(key, Call(replaces: nil, mark: mark)) {
            await self.look(for: mark, at: key) { _ in await self.undo(mark, at: key) }
        }
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
            let failure = try await self.context.provider.delete([undoing]).first?.error
            if let failure, Self.lasting.contains(failure.code) { throw failure }
            return failure == nil || failure?.code == .notFound ? true : nil
        }
        // A listing may have shown it.
        if let place = tree.stored.place(of: key) { tree.stored.distrust([place]) }
        if isGone == true { return }
        context.log.error(
            "a write that was given up may be in the store and could not be taken away", metadata: ["key": "\(key)"])
    }

    /// What a store says that it will say again.
    private static let lasting: Set<VFSError.Code> = [
        .permissionDenied, .bucketNotFound, .archived, .notSupported, .invalidArgument, .invalidName, .readOnly,
        .notPermitted,
    ]

    /// Tries for some minutes, until there is a value, or the store refuses it.
    private func persistently<Value: Sendable>(
        _ work: @escaping @Sendable () async throws(VFSError) -> Value?
    ) async -> Value? {
        var pause = Duration.milliseconds(100)
        for _ in 0..<200 {
            switch await attempt(work) {
            case .success(let value?): return value
            case .failure(let error) where Self.lasting.contains(error.code): return nil
            default: break
            }
            await context.clock.sleep(pause)
            pause = min(pause * 2, .seconds(3))
        }
        return nil
    }
}
