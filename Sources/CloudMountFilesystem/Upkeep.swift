package import CloudMountVFS
import Logging

/// What the daemon does with a mount beside serving it.
package struct Upkeep: Sendable {
    let context: MountContext
    let tree: Tree
    let handles: Handles
    let commits: Commits
    let markers: Markers
    let saved: SavedNames
    /// Looks for what changed elsewhere.
    package let poller: Poller

    /// What takes up what an earlier process could not store.
    package var recovery: Recovery { Recovery(context: context, tree: tree, commits: commits, saved: saved) }

    /// What drops what is believed.
    package var invalidator: Invalidator { Invalidator(context: context, tree: tree) }

    /// Takes up what an earlier process knew of names; before `recovery`, and before the kernel asks for any. Blocks on local disk, for as
    /// long whatever there is.
    package func takeUpNames() { saved.begin() }

    /// Writes down what is known of names, for the next process: all is stored that can be, and the kernel has let go of the mount. Blocks on local
    /// disk.
    package func saveNames() {
        do throws(VFSError) {
            try NamesSaver.save(context, tree, isSettled: commits.landings.isClear && tree.isQuiet)
        } catch {
            let level: Logger.Level = error.code == .stale ? .debug : .warning
            context.log.log(level: level, "what is known of names is asked for again after the next start: \(error)")
        }
    }

    /// What `cloudmount sync` waits for.
    package var sync: StoreSync { StoreSync(context: context, tree: tree, commits: commits, markers: markers) }

    /// What will never be stored by itself. Blocks on local disk.
    package func kept() -> [MountStatistics.FailedCommit] { commits.stranded.everything() }

    /// Takes away what is kept of one of them, for good.
    /// - Throws: `notFound`, `io`.
    package func discard(_ kept: MountStatistics.FailedCommit) async throws(VFSError) {
        try await commits.stranded.discard(kept)
    }

    /// As `MountedBucket.update`.
    package func update(_ settings: MountSettings) {
        let old = context.replace { live in
            let old = live
            live = settings
            (live.name, live.readOnly, live.acl, live.symlinks) = (old.name, old.readOnly, old.acl, old.symlinks)
        }
        let (policy, before) = (settings.policy, old.policy)
        if policy.effectivePrefetch != before.effectivePrefetch {
            for file in handles.files() { file.limitPrefetch(to: policy.effectivePrefetch) }
        }
        poller.start()
        let forgotten = tree.adopt(TreeRules(settings, context.capabilities))
        if !forgotten.isEmpty {
            context.tellKernel { kernel in
                for entry in forgotten.entries {
                    kernel.expireEntry(parent: entry.parent, name: entry.name, isDirectory: entry.isDirectory)
                }
                for inode in forgotten.inodes { kernel.invalidateInode(inode, extent: nil) }
            }
        }
        if before.onConflict != policy.onConflict, policy.onConflict != .fail { commits.retryConflicts() }
    }
}
