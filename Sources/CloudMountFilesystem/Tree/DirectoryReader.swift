import CloudMountVFS

/// Answers `readdir` from the tree while the listing still grows.
struct DirectoryReader: Sendable {
    let tree: Tree
    let lister: Lister
    let revalidator: Revalidator

    /// Gives entries to `packer`, waiting for names and attributes as long as there are none to give.
    func fill(
        _ packer: any DirectoryPacker, _ open: OpenDirectory, _ offset: Int, plus: Bool, from first: Step
    ) async throws(VFSError) {
        var step = first
        var describing = true
        while true {
            switch step {
            case .done: return
            case .wait(let listing, let count): await listing.wait(past: count)
            case .describe(let ids):
                if !revalidator.silence.isSilent { await revalidator.describe(ids) }
                // What could not be had now is shown without.
                describing = false
            }
            if Task.isCancelled { throw .cancelled }
            step = try pack(open, offset, plus, packer, describing: describing)
        }
    }

    enum Step: Sendable {
        case done
        /// No more names than `past` have come yet.
        case wait(Listing, past: Int)
        /// The attributes of these are wanted first.
        case describe([InodeID])
    }

    /// Entries looked at in one answer; a 32 KiB answer has room for fewer.
    private static let batch = 512

    func pack(
        _ open: OpenDirectory, _ offset: Int, _ plus: Bool, _ packer: any DirectoryPacker, describing: Bool
    ) throws(VFSError) -> Step {
        var offset = offset
        while true {
            if let step = try packBatch(open, &offset, plus, packer, describing: describing) { return step }
        }
    }

    /// - Returns: nil, and where to go on, when there was nothing to give but there may be more.
    private func packBatch(
        _ open: OpenDirectory, _ offset: inout Int, _ plus: Bool, _ packer: any DirectoryPacker, describing: Bool
    ) throws(VFSError) -> Step? {
        let now = tree.now()
        let listing = try lister.listing(of: open)
        let first = max(0, offset - 2)
        let some = listing.names(from: first, count: Self.batch)
        if some.isEmpty {
            guard let more = try listing.hasMore(than: first) else {
                // The two first entries need no names, but an answer with them alone would end a short buffer's turn early.
                return .wait(listing, past: first)
            }
            if more { return nil }
        }
        let begin = offset
        let step: Step? = tree.withNames { names in
            guard let node = names[open.inode], let directory = node.directory else { return .done }
            if plus || names.rules.symlinks == .hide, describing, directory.evidence == .present {
                let ids = some.prefix(128).compactMap { name -> InodeID? in
                    guard let child = directory.children[name], !child.isKnown, !child.isDirty,
                        names.isValid(child, now)
                    else { return nil }
                    return child.id
                }
                if !ids.isEmpty { return .describe(ids) }
            }
            if begin < 1,
                !packer.add(DirectoryEntry(name: ".", inode: node.id, kind: .directory, nextOffset: 1, entry: nil))
            {
                return .done
            }
            if begin < 2 {
                let above = node.parent == 0 ? node.id : node.parent
                let entry = DirectoryEntry(name: "..", inode: above, kind: .directory, nextOffset: 2, entry: nil)
                if !packer.add(entry) { return .done }
            }
            var index = first
            var isEmpty = true
            for name in some {
                index += 1
                guard let child = directory.children[name], !names.isHiddenLink(child) else { continue }
                let described = names.isDescribed(child, in: directory) || directory.evidence == .unknown
                let known = described && names.isValid(child, now)
                let wasBehind = child.kernelIsBehind
                let entry = plus && known ? names.entry(for: child, now) : nil
                let kind = child.kind == .directory || known ? child.kind : nil
                let taken = packer.add(
                    DirectoryEntry(
                        name: name.string, inode: child.id, kind: kind, nextOffset: index + 2, entry: entry))
                if !taken {
                    if entry != nil {
                        child.lookups -= 1
                        child.kernelIsBehind = wasBehind
                    }
                    return .done
                }
                isEmpty = false
            }
            // Nothing at all would say that the directory ends here.
            return isEmpty && !some.isEmpty && begin >= 2 ? nil : .done
        }
        if step == nil { offset = first + some.count + 2 }
        return step
    }
}
