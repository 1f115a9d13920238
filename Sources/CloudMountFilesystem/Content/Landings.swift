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
    /// Looked for again and again, by nonce, until they are stored after all.
    private let missing = Mutex<Set<String>>([])
    private let isEnding = Mutex(false)
    /// When it is looked for what has not been found right after a call that nobody has answered: since then the store may have done it.
    private static let looks: [Duration] = [.seconds(5), .seconds(25), .seconds(90)]

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
    func clearAll() async {
        isEnding.withLock { $0 = true }
        ended.resume()
        _ = await context.wait(on: ended, until: { self.underWay.withLock { $0.isEmpty } })
    }

    /// Sees a call to its end, and keeps its key until then.
    /// - Parameter settle: what becomes of what it has stored.
    func follow(
        _ call: Task<Result<ObjectInfo, VFSError>, Never>, _ write: SealedWrite, at key: ObjectKey,
        _ settle: @escaping @Sendable (ObjectInfo) async -> Void, ended: @escaping @Sendable () -> Void
    ) {
        let mark = WriteMark(write)
        keep(key, Call(replaces: write.replaces, mark: mark)) {
            let isFound: Bool?
            switch await call.value {
            case .success(let info):
                await settle(info)
                isFound = true
            case .failure(let error) where !CommitVerdict.isUnclear(error): isFound = true
            case .failure: isFound = await self.look(for: mark, at: write.key, settle)
            }
            ended()
            if isFound != true { self.lookAgain(for: mark, at: write.key, settle) }
        }
    }

    @discardableResult
    private func keep(
        _ key: ObjectKey, _ call: Call, _ work: @escaping @Sendable () async -> Void
    ) -> Task<Void, Never> {
        underWay.withLock { $0[key] = call }
        return context.begin {
            await work()
            self.underWay.withLock { _ = $0.removeValue(forKey: key) }
            self.ended.resume()
        }
    }

    /// - Returns: whether what has the mark is there; nil when the store does not tell.
    private func look(
        for mark: WriteMark, at key: ObjectKey, _ settle: @Sendable (ObjectInfo) async -> Void
    ) async -> Bool? {
        let there = await persistently { () async throws(VFSError) -> ObjectInfo?? in
            .some(try await self.context.provider.headIfThere(key))
        }
        guard let there else { return nil }
        guard let there, mark.isOn(there) else { return false }
        await settle(there)
        return true
    }

    /// A store may carry out long after what it has not answered.
    private func lookAgain(
        for mark: WriteMark, at key: ObjectKey, _ settle: @escaping @Sendable (ObjectInfo) async -> Void
    ) {
        missing.withLock { _ = $0.insert(mark.nonce) }
        let clock = context.clock
        context.begin { [weak self] in
            for pause in Self.looks {
                let due = clock.monotonic() + pause.nanoseconds
                while let ended = self?.ended, clock.monotonic() < due {
                    let isOver = { [weak self] in self?.isMissing(mark) != true }
                    await ended.wait(unless: isOver, for: .nanoseconds(due - min(due, clock.monotonic())))
                    if isOver() { return }
                }
                guard let self else { return }
                // Another call to the key is being followed: nothing is changed under it.
                if self.underWay.withLock({ $0[key] != nil }) { continue }
                await self.keep(key, Call(replaces: nil, mark: mark)) {
                    let isFound = await self.look(for: mark, at: key) { there in
                        if self.isMissing(mark) { await settle(there) }
                    }
                    if isFound == true { self.isStored(mark) }
                }.value
            }
            self?.isStored(mark)
        }
    }

    private func isMissing(_ mark: WriteMark) -> Bool {
        !isEnding.withLock { $0 } && missing.withLock { $0.contains(mark.nonce) }
    }

    /// The same write has been stored after all: what has its mark is wanted.
    func isStored(_ mark: WriteMark) { missing.withLock { _ = $0.remove(mark.nonce) } }

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
            let isFound = await self.look(for: mark, at: key) { _ in await self.undo(mark, at: key) }
            if isFound != true {
                self.lookAgain(for: mark, at: key) { _ in await self.undo(mark, at: key) }
            }
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
            if let failure, failure.code == .permissionDenied { throw failure }
            return failure == nil || failure?.code == .notFound ? true : nil
        }
        // A listing may have shown it.
        if let place = tree.stored.place(of: key) { tree.stored.distrust([place]) }
        if isGone == true { return }
        context.log.error(
            "a write that was given up may be in the store and could not be taken away", metadata: ["key": "\(key)"])
    }

    /// Tries for some minutes, until there is a value, or the store forbids it.
    private func persistently<Value: Sendable>(
        _ work: @escaping @Sendable () async throws(VFSError) -> Value?
    ) async -> Value? {
        var pause = Duration.milliseconds(100)
        for _ in 0..<200 {
            switch await attempt(work) {
            case .success(let value?): return value
            case .failure(let error) where error.code == .permissionDenied: return nil
            default: break
            }
            await context.clock.sleep(pause)
            pause = min(pause * 2, .seconds(3))
        }
        return nil
    }
}
