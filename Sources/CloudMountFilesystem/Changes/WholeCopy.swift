import CloudMountVFS

/// copy_file_range(2) of a whole stored object, made by the store before the call returns; anything else the kernel copies through its
/// pages.
struct WholeCopy: Sendable {
    private let base: ObjectInfo
    private let target: OpenFile
    private let tree: Tree
    private let commits: Commits
    /// What it changes of the target.
    let adopted: ContentChange

    /// Small objects are as quick through the kernel, which then has their pages.
    private static let least = 1 << 20

    /// Nil where the store is not to do it.
    init?(
        from source: OpenFile, to target: OpenFile, atMost count: Int, _ context: MountContext, _ tree: Tree,
        _ commits: Commits
    ) {
        guard context.capabilities.serverCopy, source.inode != target.inode, let base = source.content.unchangedBase(),
            base.size >= Self.least, count >= base.size, base.size <= context.capabilities.maxCopySize,
            // What was made of the same version before would be taken for what is made of it now.
            !commits.entries.hasSent(over: base.etag, of: target.inode),
            let adopted = target.content.adopt(base)
        else { return nil }
        (self.base, self.target, self.tree, self.commits, self.adopted) = (base, target, tree, commits, adopted)
    }

    /// - Returns: the bytes copied. The source may go then: they are in the store.
    /// - Throws: `notSupported` when the source has been replaced meanwhile: read through the kernel it says so, or goes on with that.
    func store() async throws(VFSError) -> Int {
        do throws(VFSError) {
            try await commits.commit(target.inode)
        } catch {
            guard let change = target.content.dropAdopted(base) else { throw error }
            tree.wrote(target.inode, change, clearSetID: false)
            guard error.code == .stale || error.code == .notFound else { throw error }
            throw VFSError(.notSupported, "the source has been replaced", wire: error.wire)
        }
        return base.size
    }
}
