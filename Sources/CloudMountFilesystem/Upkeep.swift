package import CloudMountVFS

/// What the daemon does with a mount beside serving it.
package struct Upkeep: Sendable {
    let context: MountContext
    let tree: Tree
    let handles: Handles
    let commits: Commits
    let markers: Markers

    /// What takes up what an earlier process could not store.
    package var recovery: Recovery { Recovery(context: context, tree: tree, commits: commits) }

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
