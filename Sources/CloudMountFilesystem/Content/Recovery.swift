import CloudMountCommit
import CloudMountStaging
package import CloudMountVFS
import Logging

/// Gives files back what an earlier process, or an earlier life of the mount, could not store.
package struct Recovery: Sendable {
    let context: MountContext
    let tree: Tree
    let commits: Commits
    let saved: SavedNames

    /// What has become of records.
    package struct Count: Sendable {
        /// Files that go on.
        package var restored = 0
        /// Records that another life of the mount answers for, which may yet leave them.
        package var held = 0
    }

    /// The mount serves: what was taken up is stored behind it.
    package func start() { commits.queue.start() }

    /// Blocks on local disk; asks the store nothing.
    /// - Parameter isReadOnly: nothing is stored: what there is stays on record, and `status` names it.
    /// - Throws: `io`: the journal cannot be read.
    package func run(isReadOnly: Bool = false) throws(VFSError) -> Count {
        var count = Count()
        let own = context.writes.ids.union(commits.strandedIDs)
        for id in try context.writes.left() where !own.contains(id) {
            switch context.writes.claim(id) {
            case .gone: continue
            case .held: count.held += 1
            case .taken(let left):
                do throws(VFSError) {
                    if isReadOnly, try left.write.get().isFinal == false {
                        throw VFSError(.readOnly, "the mount is read-only")
                    }
                    try take(left, &count)
                } catch {
                    commits.strandLeft(left, error.description, since: context.clock.now())
                }
            }
        }
        return count
    }

    /// Another number whenever a life of any mount has left records.
    package var leavings: Int { context.writes.leavings }

    private func take(_ left: WriteLog.Left, _ count: inout Count) throws(VFSError) {
        switch left.write {
        case .failure(let error): commits.strandLeft(left, error.description, since: context.clock.now())
        case .success(let write) where write.isFinal:
            if let name = left.staged, context.staging.isGone(name) {
                // Somebody has taken the bytes away.
                return context.writes.drop([left.id])
            }
            commits.strandLeft(left, write.error ?? "", since: write.since)
        case .success(let write) where !context.writes.isKept:
            commits.strandLeft(left, "the store keeps no marks any more", since: write.since)
        case .success(let write):
            var staged: StagedFile?
            if let name = left.staged {
                staged = try context.staging.reopen(name, for: context.name)
                if staged == nil, !context.staging.isGone(name) {
                    // Of a life of the mount that is just ending.
                    context.writes.unclaim(left.id)
                    count.held += 1
                    return
                }
                if staged == nil {
                    // Told once: nobody can do anything for it.
                    commits.strandLeft(left, "its bytes, \(name), are gone", since: write.since)
                    return context.writes.drop([left.id])
                }
            }
            // What the other process wrote and nobody has acknowledged is no part of the file.
            let end = write.write.layers.image.dirty.upperBound
            if let staged, (try? staged.truncate(to: end)) == nil { staged.noteExcess() }
            let names = RestoredNames(context: context, tree: tree, saved: saved)
            guard let restored = names.restore(write.write, staged, unseen: write.unseen) else {
                return commits.strandLeft(left, "its name is taken", since: write.since)
            }
            context.writes.adopt(left.id, restored.inode, write, staged)
            commits.adopt(write, restored)
            count.restored += 1
        }
    }
}
