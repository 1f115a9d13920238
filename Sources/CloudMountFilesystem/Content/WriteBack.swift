import CloudMountStaging
import CloudMountVFS
import Logging

/// What close, fsync and changes of attributes wait for, and what becomes of a file behind them.
struct WriteBack: Sendable {
    let context: MountContext
    let tree: Tree
    let commits: Commits

    init(context: MountContext, tree: Tree, commits: Commits) {
        (self.context, self.tree, self.commits) = (context, tree, commits)
        commits.queue.attach { [weak commits] inode in
            guard let commits else { return .isOver }
            return await WriteBack.store(inode, context, tree, commits)
        }
        commits.records.attach { [weak commits] inode in commits?.told(inode) }
    }

    /// Returns when what was changed before the call outlives the process: when the store has it, or, with `write: back`, when local disk has
    /// it and it is in the queue.
    /// - Throws: why the store has not got it, as `Commits.commit` does; with `write: back` also why the store has refused what it was
    ///   given before.
    func persist(_ inode: InodeID) async throws(VFSError) {
        let policy = context.policy()
        guard policy.write == .back, context.writes.isKept, !context.staging.isCrowded
        else {
            return try await commits.commit(inode)
        }
        guard tree.dirtyGeneration(inode) != nil else { return try commits.requireWhole(inode) }
        let result = await attempt { () async throws(VFSError) in
            try await commits.records.keep(inode, isPromised: true)
        }
        guard case .success(true) = result else {
            // Attributes alone, or local disk has no room.
            if case .failure(let error) = result {
                if error.code == .cancelled { throw error }
                context.log.warning("written through, for want of local disk", metadata: ["error": "\(error)"])
            }
            return try await commits.commit(inode)
        }
        commits.queue.add(inode, after: policy.writeDelay, hasFailed: false)
        if let failure = tree.contentIfAny(inode)?.failure() ?? refusal(inode) { throw failure }
    }

    /// What a flush or an fsync answers without waiting for anything; nil: `persist` is to be called.
    func answerNow(_ inode: InodeID, _ content: FileContent) -> Result<Void, VFSError>? {
        if let failure = content.failure() { return .failure(failure) }
        guard tree.dirtyGeneration(inode) == nil else { return nil }
        // Stranded in this moment, perhaps.
        if let failure = content.failure() { return .failure(failure) }
        // What holds the name is what is wanted.
        tree.stored.keep(inode)
        return .success(())
    }

    /// Whether just this state of the file is on record already, and so in the queue.
    func isOnRecord(_ inode: InodeID, _ content: FileContent) -> Bool {
        guard let mark = context.writes.mark(inode), let seal = tree.stored.seal(inode) else { return false }
        return commits.entries.isPlanned(mark, [seal.generation, content.generation()], of: inode)
    }

    /// What fails is told by `statistics`.
    func persistUnheard(_ inode: InodeID) async {
        _ = await attempt { () async throws(VFSError) in try await persist(inode) }
        tree.dropIdleContent(inode)
    }

    /// Why what was written back before is not stored, as far as programs are told: with `offline: serve` not that the store cannot be
    /// reached.
    func refusal(_ inode: InodeID) -> VFSError? {
        let policy = context.policy()
        guard policy.write == .back, let error = commits.entries.error(inode) else { return nil }
        return policy.offline == .serve && error.code.isUnreachable ? nil : error
    }

    /// One try, for the queue.
    private static func store(
        _ inode: InodeID, _ context: MountContext, _ tree: Tree, _ commits: Commits
    ) async -> UploadQueue.Verdict {
        await commits.commitUnheard(inode)
        guard tree.dirtyGeneration(inode) != nil else {
            // It may have been taken back.
            await commits.records.update(inode)
            return .isOver
        }
        guard let error = commits.entries.error(inode) else { return commits.records.has(inode) ? .again : .isOver }
        // A reload that sets another rule tries again.
        return error.code == .stale && context.policy().onConflict == .fail ? .givenUp : .failed
    }
}
