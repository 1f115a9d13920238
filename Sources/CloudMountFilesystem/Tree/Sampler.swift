import CloudMountVFS

/// Finds out whether the objects of a directory have attributes that its listing does not show.
struct Sampler: Sendable {
    let context: MountContext
    let tree: Tree
    let revalidator: Revalidator

    /// What is to be looked at.
    struct Choice: Sendable {
        var ids: [InodeID] = []
        /// The entries are shown only after the samples are in.
        var awaited = false
    }

    /// S3 listings show neither mode nor mtime, and no listing shows those of a directory below. Whether the objects of a
    /// directory have any is learnt from a few of them: where a tool that keeps attributes has been at work, all of its
    /// objects have them.
    func choose(
        _ page: ListPage, _ prefix: ObjectKey, _ directory: Directory, _ names: inout Namespace
    ) -> Choice {
        guard context.capabilities.metadata else {
            directory.evidence = .absent
            return Choice()
        }
        guard directory.evidence == .unknown else { return Choice() }
        let objects = page.objects.filter { $0.key.byteCount > prefix.byteCount }
        var keys: [(ObjectKey, Bool)] = []
        if !objects.isEmpty {
            var picks = [objects[0], objects[objects.count - 1], objects[objects.count / 2]]
            if let newest = objects.max(by: { $0.stored < $1.stored }) { picks.append(newest) }
            keys += picks.map { ($0.key, false) }
        }
        if let first = page.commonPrefixes.first, let last = page.commonPrefixes.last {
            keys += [(first, true), (last, true)]
        }
        var sampling = Choice()
        for (key, isDirectory) in keys {
            guard let name = FileName.listed(key, prefix, isDirectory: isDirectory),
                let child = directory.children[name],
                !child.isKnown, !sampling.ids.contains(child.id)
            else { continue }
            sampling.ids.append(child.id)
        }
        sampling.awaited = directory.marker == .present || names.evidenceSeen || names.sampledDirectories < 3
        names.sampledDirectories += 1
        if sampling.ids.isEmpty { directory.evidence = objects.isEmpty ? .unknown : .absent }
        return sampling
    }

    /// Looks at the metadata of some nodes, and settles the evidence of their directory by it.
    func sample(_ ids: [InodeID], of directory: InodeID) async {
        await revalidator.describe(ids)
        tree.withNames { names in
            guard let directory = names[directory]?.directory, directory.evidence == .unknown else { return }
            directory.evidence = .absent
        }
    }

    /// As `sample`, while the entries are being shown already: if they were shown wrong, the kernel is told.
    func sampleLater(_ ids: [InodeID], of id: InodeID) async {
        await sample(ids, of: id)
        let stale: [InodeID] = tree.withNames { names in
            guard let directory = names[id]?.directory, directory.evidence == .present else { return [] }
            return directory.children.filter { $0.lookups > 0 }.map(\.id)
        }
        if !stale.isEmpty { context.tellKernel { for id in stale { $0.invalidateInode(id, extent: nil) } } }
    }
}
