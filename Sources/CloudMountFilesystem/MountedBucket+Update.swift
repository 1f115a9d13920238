import CloudMountPlatform
import CloudMountVFS
import Synchronization

extension MountedBucket {
    /// Goes on with other settings. Open files are not disturbed; what is known is believed no longer than the new settings
    /// say, and the kernel is told to ask again for what it would believe for longer. The exception are names that it was
    /// told to be absent by a complete listing: those it asks for again within ten seconds by itself.
    ///
    /// The name of the mount, whether it is read-only and whether it keeps ACLs stay as they are.
    public func update(_ settings: MountSettings) {
        let old = live.withLock { live in
            let old = live
            live = settings
            (live.name, live.readOnly, live.acl) = (old.name, old.readOnly, old.acl)
            return old
        }
        let (policy, before) = (settings.policy, old.policy)
        if policy.prefetch != before.prefetch || policy.data != before.data {
            let most = policy.effectivePrefetch
            let files = handles.withLock { Array($0.files.values) }
            for file in files { file.limitPrefetch(to: most) }
        }
        let isShorter =
            policy.effectiveMetadataTTL < before.effectiveMetadataTTL
            || policy.effectiveNegativeTTL < before.effectiveNegativeTTL
        var forget = isShorter ? shorten(policy) : Forgotten()
        if old.defaults != settings.defaults { forget.inodes += adoptDefaults(settings) }
        if !forget.isEmpty {
            tellKernel { kernel in
                for entry in forget.entries {
                    kernel.expireEntry(parent: entry.parent, name: entry.name, isDirectory: entry.isDirectory)
                }
                for inode in forget.inodes { kernel.invalidateInode(inode, extent: nil) }
            }
        }
        if before.onConflict != policy.onConflict, policy.onConflict != .fail { retryConflicts() }
    }

    /// Refuses changes from now on, or takes them again. What is dirty stays so: `drain` it before and after.
    public func setReadOnly(_ on: Bool) { live.withLock { $0.readOnly = on } }

    private struct Forgotten {
        var entries: [(parent: InodeID, name: FileName, isDirectory: Bool)] = []
        var inodes: [InodeID] = []
        var isEmpty: Bool { entries.isEmpty && inodes.isEmpty }
    }

    /// Cuts what is believed already down to the times of `policy`.
    /// - Returns: what the kernel was told for longer.
    private func shorten(_ policy: CachePolicy) -> Forgotten {
        let now = SystemClock.monotonic()
        let known = now + policy.effectiveMetadataTTL
        let absent = now + policy.effectiveNegativeTTL
        return namespace.withLock { names in
            var forget = Forgotten()
            for node in names.all {
                node.validUntil = min(node.validUntil, known)
                if node.lookups > 0, node.parent != 0 {
                    forget.entries.append((node.parent, node.name, node.kind == .directory))
                }
                if node.lookups > 0 { forget.inodes.append(node.id) }
                guard let directory = node.directory else { continue }
                directory.completeUntil = min(directory.completeUntil, known)
                for (name, absence) in directory.absent where absence.until > absent {
                    directory.setAbsent(name, Directory.Absence(since: absence.since, until: absent))
                    forget.entries.append((node.id, name, false))
                }
            }
            return forget
        }
    }

    /// Gives nodes whose metadata names no owner or mode the new defaults.
    /// - Returns: the nodes that the kernel knows otherwise.
    private func adoptDefaults(_ settings: MountSettings) -> [InodeID] {
        namespace.withLock { names in
            var changed: [InodeID] = []
            for node in names.all where !node.defaulted.isEmpty {
                node.applyDefaults(settings)
                if node.lookups > 0 { changed.append(node.id) }
            }
            return changed
        }
    }

    /// What a conflict kept from being stored may go now.
    private func retryConflicts() {
        let refused: [(InodeID, FileContent)] = namespace.withLock { names in
            names.all.compactMap { node in
                guard node.isLocal, let content = node.content,
                    content.state.withLock({ $0.commitError?.code == .stale })
                else { return nil }
                return (node.id, content)
            }
        }
        for (inode, content) in refused {
            Task(executorPreference: provider.executor) {
                _ = await attempt { () async throws(VFSError) in try await self.commit(inode, content) }
                self.letGo(inode)
            }
        }
    }
}

extension MountSettings {
    /// Owner and modes of what has none.
    fileprivate var defaults: [UInt32] { [uid, gid, filePermissions, directoryPermissions] }
}

extension CachePolicy {
    /// Nanoseconds that names and attributes are believed.
    var effectiveMetadataTTL: UInt64 { freshness == .always ? 0 : metadataTTL.nanoseconds }
    var effectiveNegativeTTL: UInt64 { freshness == .always ? 0 : negativeTTL.nanoseconds }
    var effectivePrefetch: Int { data == .off ? 0 : prefetch }
}

extension Node {
    /// Gives what the metadata does not say the mount's defaults.
    func applyDefaults(_ settings: MountSettings) {
        if defaulted.contains(.permissions) {
            permissions = kind == .directory ? settings.directoryPermissions : settings.filePermissions
        }
        if defaulted.contains(.uid) { uid = settings.uid }
        if defaulted.contains(.gid) { gid = settings.gid }
    }
}
