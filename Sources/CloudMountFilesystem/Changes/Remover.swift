import CloudMountCommit
import CloudMountVFS
import Logging

/// Takes files and directories away.
struct Remover: Sendable {
    let context: MountContext
    let tree: Tree
    let resolver: Resolver
    let commits: Commits
    let markers: Markers

    private func hold(_ place: Place, _ inode: InodeID) -> Tree.Hold {
        let commits = commits
        return Tree.Hold(used: [place.parent], changed: [inode], doomed: [inode]) { commits.interrupt($0) }
    }

    /// Not `stale`: at that the kernel asks again by itself, and what nobody has been told of would go.
    static func changed(_ key: ObjectKey, _ error: VFSError) -> VFSError {
        VFSError(.busy, "\(key) was changed by somebody else", wire: error.wire)
    }

    // MARK: Files

    func unlink(_ place: Place) async throws(VFSError) {
        try await tree.persistently { () async throws(VFSError) -> Void? in
            guard let inode = try await resolver.findVisible(place) else { throw VFSError(.notFound, "no such file") }
            guard tree.stored.kind(inode) != .directory else {
                throw VFSError(.isDirectory, "\(place.name) is a directory")
            }
            return try await tree.holding(
                hold(place, inode), verify: { tree.stored.isNamed(place, inode, $0) },
                { () async throws(VFSError) in
                    try SlowPath.begin()
                    try await destroy(inode, place)
                    await markers.keepIfEmpty(place.parent)
                    markers.timesChanged()
                })
        }
    }

    /// Removes a file that was made for who does not want it any more, unless somebody else has taken it for theirs.
    func unmake(_ place: Place, _ inode: InodeID) async throws(VFSError) {
        try await tree.holding(
            hold(place, inode), verify: { tree.stored.isNamed(place, inode, $0) },
            { () async throws(VFSError) in
                guard tree.stored.isUnwanted(inode) else { return }
                try await destroy(inode, place)
                markers.timesChanged()
            })
    }

    /// Takes a file, whose name is held, out of the store and out of its directory. Who has it open keeps its bytes.
    private func destroy(_ inode: InodeID, _ place: Place) async throws(VFSError) {
        var target = try tree.stored.target(inode)
        if commits.stranded.mayMeanAnother(place), tree.stored.nonce(inode) == nil, tree.dirtyGeneration(inode) == nil {
            throw VFSError(.busy, "\(target.key) is somebody else's version by now; what was written here is kept")
        }
        if target.isOpen, target.object != nil, !target.isToReplace, !context.capabilities.deleteKeepsVersion {
            let content = try tree.borrowContent(inode)
            defer { tree.giveBackContent(inode) }
            try await Preservation(content: content, context: context).run()
            target = try tree.stored.target(inode)
        }
        var isForeign = false
        for attempt in 1... {
            var failure: VFSError?
            if let request = try await deletion(of: target) {
                do throws(VFSError) {
                    failure = try await context.provider.delete([request]).first?.error
                } catch {
                    // It may be gone, and the name be somebody else's the next time.
                    if CommitVerdict.isUnclear(error) { tree.stored.distrust([place]) }
                    throw error
                }
            }
            if let failure, failure.code != .preconditionFailed { throw failure }
            // A write of the file that was given up may have landed meanwhile: then that is what goes.
            if tree.stored.hasLanded(inode, since: target.object?.etag) {
                guard attempt < 4 else { throw VFSError(.busy, "\(target.key) keeps changing") }
                target = try tree.stored.target(inode)
                continue
            }
            // One that is about to replace what is somebody else's would take that along.
            if failure != nil, commits.landings.mayReplaceOther(target.key, than: target.object?.etag), attempt < 4 {
                try await commits.landings.clear(target.key)
                continue
            }
            isForeign = failure != nil
            // What was changed here is given up; what somebody else has stored meanwhile stays, and is shown.
            if let failure, tree.dirtyGeneration(inode) == nil {
                tree.stored.distrust([place])
                throw Self.changed(target.key, failure)
            }
            break
        }
        tree.stored.removed(target)
        await commits.withdraw(inode)
        if isForeign { tree.stored.distrust([place]) }
    }

    /// The version under the file's key that is this mount's to remove.
    private func deletion(of target: StoredNames.Target) async throws(VFSError) -> DeleteRequest? {
        // A commit that failed or was cut short may have reached the store all the same.
        let uncertain = commits.entries.uncertain(target.inode)
        if !uncertain.isEmpty, let there = try await context.provider.headIfThere(target.key),
            let mark = WriteMark(there), uncertain.contains(mark)
        {
            return DeleteRequest(target.key, version: there.etag, nonce: mark.nonce)
        }
        return target.object.map {
            DeleteRequest(target.key, version: $0.etag, nonce: tree.stored.nonce(target.inode))
        }
    }

    // MARK: Directories

    func removeDirectory(_ place: Place) async throws(VFSError) {
        try await tree.persistently { () async throws(VFSError) -> Void? in
            guard let inode = try await resolver.findVisible(place) else {
                throw VFSError(.notFound, "no such directory")
            }
            return try await tree.holding(
                hold(place, inode), verify: { tree.stored.isNamed(place, inode, $0) },
                { () async throws(VFSError) in
                    try SlowPath.begin()
                    try await destroyDirectory(inode)
                    await markers.keepIfEmpty(place.parent)
                    markers.timesChanged()
                })
        }
    }

    private func destroyDirectory(_ inode: InodeID) async throws(VFSError) {
        let (target, marker) = try await requireEmpty(inode, deletingUnreachable: true)
        if context.capabilities.emptyFolders {
            var requests: [DeleteRequest] = []
            if !context.capabilities.folderObjects {
                // Also where none is listed: some stores keep a folder for a while when its last object goes. It has no version.
                requests.append(DeleteRequest(target.key))
            } else if let marker {
                requests.append(DeleteRequest(target.key, version: marker.etag))
            }
            if let old = try await oldMarker(target) {
                requests.append(DeleteRequest(old.key, version: old.etag))
            }
            for request in requests {
                guard let failure = try await context.provider.delete([request]).first else { continue }
                guard failure.error.code == .preconditionFailed else { throw failure.error }
                // Somebody else has noted something of the directory: it is not what was seen.
                throw Self.changed(request.key, failure.error)
            }
        }
        tree.stored.removed(target)
    }

    /// The marker that an old tool has made, whose key has no slash. Where a listing shows it beside the directory's own keys, it is
    /// hidden like a file of that name; its metadata tells.
    private func oldMarker(_ target: StoredNames.Target) async throws(VFSError) -> ObjectInfo? {
        if let object = target.object, object.key != target.key { return object }
        let key = target.key.withoutSlash
        guard tree.stored.isHidden(key), let there = try await context.provider.headIfThere(key),
            AttributeCodec.isDirectory(there)
        else { return nil }
        return there
    }

    /// An empty directory, and its marker as it was listed just now.
    /// - Parameter deletingUnreachable: keys that no path can say do not count as its entries; they are deleted.
    /// - Throws: `notDirectory`, `notEmpty`, `busy` for the root, `tooLarge`.
    func requireEmpty(
        _ inode: InodeID, deletingUnreachable: Bool = false
    ) async throws(VFSError) -> (StoredNames.Target, marker: ObjectInfo?) {
        try tree.stored.requireNothingHeld(in: inode)
        let target = try tree.stored.target(inode)
        let key = target.key
        guard !key.isEmpty else { throw VFSError(.busy, "the root of a mount cannot be removed") }
        var unreachable = Gathered(in: context.names.room())
        var marker: ObjectInfo?
        var request = ListRequest(prefix: key, delimited: false, limit: 2, takesUnreadable: true)
        var order = PageOrder(context.capabilities)
        repeat {
            let page = try await context.provider.list(request)
            try order.check(page)
            guard page.unreadable.isEmpty else {
                throw VFSError(.notEmpty, "the store lists \(page.unreadable[0]) and cannot tell what it is")
            }
            for object in page.objects {
                if object.key == key {
                    guard object.size == 0 else {
                        throw VFSError(.notEmpty, "\(key) is an object with a body, which somebody may want")
                    }
                    marker = object
                } else if deletingUnreachable, Self.isUnreachable(object.key, below: key) {
                    try await unreachable.take([object], below: key)
                } else {
                    // Others have put something there: the next listing shows it.
                    tree.stored.noteUnseen(in: inode)
                    throw VFSError(.notEmpty, "the directory is not empty")
                }
            }
            request.limit = nil
            request.continuation = page.continuation
        } while request.continuation != nil
        if !unreachable.objects.isEmpty {
            context.log.notice(
                "keys that no path can say go with their directory",
                metadata: ["directory": "\(key)", "keys": "\(unreachable.objects.count)"])
            let failures = try await context.provider.deleteAll(
                unreachable.objects.map { DeleteRequest($0.key, version: $0.etag) })
            if let failure = failures.first { throw failure.error }
        }
        return (target, marker)
    }

    /// Whether no path can say `key`.
    private static func isUnreachable(_ key: ObjectKey, below prefix: ObjectKey) -> Bool {
        var names = key.dropping(prefix.byteCount).utf8.split(
            separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        if names.last?.isEmpty ?? false { names.removeLast() }
        return !names.allSatisfy { FileName.isLegal(String(Substring($0))) }
    }
}
