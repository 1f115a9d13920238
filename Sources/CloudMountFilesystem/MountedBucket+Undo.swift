import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Logging
import Synchronization

/// Taking back what the store has refused: who was told that a change failed does not see it.
extension MountedBucket {
    /// A node before a change.
    private struct Before: Sendable {
        var permissions: UInt32
        var uid: UInt32
        var gid: UInt32
        var size: Int
        var modified: Timestamp
        var changed: Timestamp
        var details: StoredAttributes?
        var hasExplicitTime: Bool
        /// Nothing was uncommitted, so that everything uncommitted afterwards is the change's.
        var wasClean: Bool
        var base: ObjectInfo?
        var wasWritten: Bool
    }

    /// Runs a change of a node that ends with its commit. When it fails, the node is again what it was, unless somebody
    /// writes the file or had left it uncommitted.
    func undoing(_ inode: InodeID, _ work: () async throws(VFSError) -> Void) async throws(VFSError) {
        let before: Before? = namespace.withLock { names in
            guard let node = names[inode] else { return nil }
            let base = node.content?.state.withLock { $0.base }
            return Before(
                permissions: node.permissions, uid: node.uid, gid: node.gid, size: node.size, modified: node.modified,
                changed: node.changed, details: node.details, hasExplicitTime: node.hasExplicitTime,
                wasClean: !node.isLocal, base: base ?? self.base(of: node, names), wasWritten: node.writers > 0)
        }
        do throws(VFSError) {
            try await work()
        } catch {
            if let before, before.wasClean, !before.wasWritten { takeBack(inode, before) }
            throw error
        }
    }

    private func takeBack(_ inode: InodeID, _ before: Before) {
        let reads: FileContent.Reads? = namespace.withLock { names in
            guard let node = names[inode], node.writers == 0 else { return nil }
            let sizeNow = node.size
            node.permissions = before.permissions
            node.uid = before.uid
            node.gid = before.gid
            node.size = before.size
            node.modified = before.modified
            node.changed = before.changed
            node.details = before.details
            node.hasExplicitTime = before.hasExplicitTime
            // The answer may have been lost, and the store have another version.
            if node.size != sizeNow { node.validUntil = 0 }
            let reads = node.content?.goBack(to: before.base, size: before.size)
            if node.openCount == 0 { node.content = nil }
            names.dropIfUnused(node)
            return reads
        }
        if let reads { redirect(inode, reads) }
    }

    private func redirect(_ inode: InodeID, _ reads: FileContent.Reads) {
        namespace.withLock { names in names[inode]?.content }?.redirect(reads)
        for fetch in reads.fetches { fetch.stop() }
    }

    /// The last handle of a file is closed, which the store forbids to be written: trying again would change nothing. The
    /// file is again what the store has, and the new bytes stay on local disk.
    /// - Returns: whom to tell that the name is not what it was.
    func giveUpForbidden(_ node: Node, _ names: inout Namespace) -> (parent: InodeID, name: FileName)? {
        guard node.openCount == 0, node.isLocal, let content = node.content else { return nil }
        let (error, staged) = content.state.withLock { ($0.commitError, $0.staged) }
        guard error?.code == .permissionDenied else { return nil }
        staged?.keep()
        log.error(
            "the store forbids to write the file; its new bytes are kept",
            metadata: [
                "key": "\(names.key(of: node)?.string ?? node.name.string)", "staged": "\(staged?.place ?? "-")",
            ])
        content.detach()
        node.content = nil
        let place = (node.parent, node.name)
        if node.version == nil {
            names.orphan(node)
        } else {
            // To be looked at again, as if it were another's.
            node.version = ETag("")
            node.isCached = false
            node.validUntil = 0
            node.isKnown = false
        }
        return place
    }

    /// What memory holds of a node, and of all below it, is to be asked again.
    func distrust(_ node: Node) {
        node.validUntil = 0
        guard let directory = node.directory else { return }
        directory.completeUntil = 0
        for child in directory.children { distrust(child) }
    }

    /// A rename failed half-way: what is under these names now, only the store knows.
    func distrust(_ places: [(parent: InodeID, name: FileName)]) {
        namespace.withLock { names in
            for (parent, name) in places {
                guard let directory = names[parent]?.directory else { continue }
                directory.completeUntil = 0
                directory.setAbsent(name, nil)
                if let child = directory.children[name] { distrust(child) }
            }
        }
        tellKernel { for (parent, name) in places { $0.invalidateEntry(parent: parent, name: name) } }
    }
}

extension FileContent {
    /// Drops all local changes.
    func goBack(to base: ObjectInfo?, size: Int) -> Reads {
        let (stream, reads) = state.withLock { state in
            state.image = nil
            state.staged = nil
            state.base = base
            state.size = size
            state.committed = state.generation
            state.commitError = nil
            state.failedSince = nil
            defer { state.stream = nil }
            return (state.stream, FileContent.takeReads(&state))
        }
        stream?.abandon()
        return reads
    }
}
