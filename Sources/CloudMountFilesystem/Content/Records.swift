import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Logging
import Synchronization

/// Has on disk what files hold that the store does not have, so that another process can go on.
final class Records: Sendable {
    let context: MountContext
    let tree: Tree

    typealias Told = WriteLog.Told

    /// In a struct: a function by itself is wrapped once more each time that it is taken out of a generic type.
    private struct Look {
        /// Nil: there is nothing to tell.
        let tell: @Sendable (InodeID) -> Told?
    }

    private let look = Mutex<Look?>(nil)

    init(context: MountContext, tree: Tree) { (self.context, self.tree) = (context, tree) }

    /// Set once, before the first request.
    func attach(_ look: @escaping @Sendable (InodeID) -> Told?) { self.look.withLock { $0 = Look(tell: look) } }

    /// The bytes that `told` may name.
    private func staged(_ inode: InodeID) -> StagedFile? { tree.contentIfAny(inode)?.staged() }

    private func told(_ inode: InodeID) -> Told? { look.withLock { $0 }?.tell(inode) }

    private var log: WriteLog { context.writes }

    func has(_ inode: InodeID) -> Bool { log.has(inode) }

    /// By which the file's record knows what was sent; nil: it has none.
    func mark(_ inode: InodeID) -> WriteMark? { log.mark(inode) }

    /// As `keep`. What fails is told by the log.
    /// - Returns: whether nothing has failed.
    @discardableResult
    func keepUnheard(
        _ inode: InodeID, as moved: (key: ObjectKey, etag: ETag?)? = nil, replacing replaced: InodeID? = nil
    ) async -> Bool {
        let result = await attempt { () async throws(VFSError) in
            try await keep(inode, as: moved, replacing: replaced)
        }
        guard case .failure(let error) = result else { return true }
        context.log.error(
            "what is not stored could not be put on record: after a crash only its bytes are left",
            metadata: ["error": "\(error)"])
        return false
    }

    /// Returns when the file's record says what the file is, if it holds anything that the store does not have.
    /// - Parameters:
    ///   - moved: what the file's object is by now, under the name that it is about to get.
    ///   - replaced: a file whose record goes in the same step.
    ///   - isPromised: whoever waits for it is told that all is kept.
    /// - Returns: false when there is no record: nothing to tell.
    @discardableResult
    func keep(
        _ inode: InodeID, as moved: (key: ObjectKey, etag: ETag?)? = nil, replacing replaced: InodeID? = nil,
        isPromised: Bool = false
    ) async throws(VFSError) -> Bool {
        guard log.isKept else { return false }
        let isKept = try await BlockingPool.shared.run(context.name) { () throws(VFSError) in
            try self.log.put(inode, replacing: replaced, bytes: { self.staged(inode) }) {
                var told = self.told(inode)
                if let moved {
                    told?.write.write.key = moved.key
                    told?.write.write.replaces = moved.etag
                }
                told?.write.isPromised = isPromised
                return told
            }
        }
        // It may have been stored while it was put on record, or before.
        await removeIfStored(inode)
        return isKept
    }

    /// Blocks.
    /// - Returns: whether there is a record.
    func keepNow(_ inode: InodeID) throws(VFSError) -> Bool {
        try log.put(inode, bytes: { self.staged(inode) }) { told(inode) }
    }

    /// The store has got something of a file that is on record.
    func update(_ inode: InodeID) async {
        await removeIfStored(inode)
        if log.concerns(inode) { await keepUnheard(inode) }
    }

    private func removeIfStored(_ inode: InodeID) async {
        // One that is put from now on is of a later state. What has lost its name is not stored for that.
        let turn = log.turn(of: inode)
        guard tree.stored.isWhole(inode) else { return }
        if let turn { return await remove(inode, of: turn) }
        await unheard { () async throws(VFSError) in try await log.removeInherited(inode) }
    }

    /// - Parameter turn: nil: whatever there is, or is about to be.
    func remove(_ inode: InodeID, of turn: UInt64? = nil) async {
        await unheard { () async throws(VFSError) in try await log.remove(inode, of: turn) }
    }

    private func unheard(_ removal: () async throws(VFSError) -> Void) async {
        guard case .failure(let error) = await attempt(removal) else { return }
        context.log.error(
            "a record of a file that is stored or removed could not be taken away; it goes with the next that is written",
            metadata: ["error": "\(error)"])
    }

    /// The bytes of a file will never be stored: what they were to be is on record for a person.
    /// - Returns: the record; nil when there is none.
    func end(_ inode: InodeID, _ told: Told?, _ error: VFSError) async -> Int64? {
        guard log.isKept, var told, told.staged != nil else {
            await remove(inode)
            return nil
        }
        (told.write.isFinal, told.write.error) = (true, error.description)
        let last = told
        let result = await BlockingPool.shared.run(context.name) {
            attemptNow { () throws(VFSError) in try self.log.end(inode, last) }
        }
        switch result {
        case .success(let id): return id
        case .failure(let error):
            context.log.error("bytes that are kept have no name on record", metadata: ["error": "\(error)"])
            return nil
        }
    }

    // MARK: Names that change

    /// Names have changed: the records of files at or below `inode` tell the new ones, and that of the file which had the name before is gone
    /// in the same step.
    /// - Returns: false when a record still tells an old name.
    @discardableResult
    func renamed(_ inode: InodeID, over replaced: InodeID? = nil) async -> Bool {
        var isTold = true
        if let replaced, log.concerns(replaced), tree.dirtyGeneration(inode) != nil {
            // Better the old one twice than neither.
            guard await keepUnheard(inode, replacing: replaced) else {
                log.inherit(replaced, by: inode)
                return !log.has(inode)
            }
        } else {
            let told = await inParallelToEnd(below(inode), width: 32) { one async throws(VFSError) in
                await self.keepUnheard(one) || !self.log.has(one)
            }
            isTold = told.allSatisfy { (try? $0?.get()) ?? false }
        }
        // Of one that is stored, the bytes are in the store under the name.
        if let replaced { await remove(replaced) }
        return isTold
    }

    /// A file is about to be under another name only, where it replaces another one.
    /// - Parameter etag: of what is under the new name in the store, to be replaced.
    /// - Returns: false when that could not be put on record.
    func moves(_ inode: InodeID, to key: ObjectKey, replacing etag: ETag?, over replaced: InodeID?) async -> Bool {
        guard log.concerns(inode) || replaced.map(log.concerns) ?? false else { return true }
        guard await keepUnheard(inode, as: (key, etag), replacing: replaced) else { return !log.has(inode) }
        if let replaced { await remove(replaced) }
        return true
    }

    private func below(_ inode: InodeID) -> [InodeID] {
        guard tree.stored.kind(inode) == .directory else { return log.concerns(inode) ? [inode] : [] }
        return log.inodes.filter { tree.stored.isAtOrBelow($0, inode) }
    }
}
