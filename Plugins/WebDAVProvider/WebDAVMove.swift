import CloudMountHTTP
import CloudMountVFS

/// Gives files and folders other names by MOVE.
struct WebDAVMover: Sendable {
    let dav: WebDAVFolder
    let copier: WebDAVCopier
    let writer: WebDAVWriter

    private var client: WebDAVClient { dav.client }

    func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo? {
        let (source, destination) = (request.source.key, request.destination)
        try dav.check(source)
        try dav.check(destination)
        guard source.endsWithSlash == destination.endsWithSlash, source != destination else {
            throw VFSError(.invalidArgument, "a folder is moved to another folder, a file to another file")
        }
        if source.endsWithSlash { return try await moveFolder(request) }
        return try await moveFile(request)
    }

    // MARK: Files

    /// The source is compared just before, and looked at again under its new name: what has come in its place meanwhile has moved, and is
    /// not destroyed.
    private func moveFile(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo {
        guard dav.server.exclusiveMove, dav.server.moveKeepsTag else {
            throw VFSError(.notSupported, "this server moves over what is there, or makes another version of it")
        }
        let key = request.source.key
        let there = try await copier.current(request.source)
        let itself = WebDAVStaged(key: key, tag: there.tag, size: there.size, stored: there.modified)
        do throws(VFSError) {
            try await writer.place(itself, at: request.destination, request.precondition)
        } catch {
            if error.leavesOpen || error.code == .preconditionFailed { throw error }
            guard try await client.look(at: key) == nil else { throw error }
            // Servers also say of what they have carried out that it failed.
            if let moved = try await arrived(request.destination, there) { return moved }
            throw WebDAVErrors.notFound(key)
        }
        guard let moved = try await arrived(request.destination, there) else { throw WebDAVErrors.stale(key) }
        return moved
    }

    private func arrived(_ key: ObjectKey, _ source: WebDAVEntry) async throws(VFSError) -> ObjectInfo? {
        guard let moved = try await client.look(at: key), !moved.isFolder, moved.size == source.size,
            moved.version == source.version
        else { return nil }
        dav.noteTag(moved)
        return moved.info()
    }

    // MARK: Folders

    /// What a server may have to work through, which nobody has counted.
    private static let work = 36 << 30

    private func moveFolder(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo {
        guard dav.server.movesFolders, request.precondition == .absent else {
            throw VFSError(.notSupported, "this server is not known to move a folder whole, and onto nothing")
        }
        let (source, destination) = (request.source.key, request.destination)
        // Some servers move a file whatever slash is after its name.
        guard try await client.look(at: source)?.isFolder == true else { throw WebDAVErrors.notFound(source) }
        var madeParents = false
        while true {
            do throws(VFSError) {
                try await dav.move(source, to: destination, overwrite: false, condition: nil, size: Self.work)
                return ObjectInfo(
                    key: destination, size: 0, etag: WebDAVEntry.folderTag, stored: request.source.stored,
                    metadata: ObjectMetadata())
            } catch {
                let status = error.wire?.status ?? 0
                if status == 412 { throw WebDAVErrors.changed(destination, wire: error.wire) }
                let parent = WebDAVRoot.parent(destination)
                // It was not moved where there is no folder to move it into.
                if !madeParents, !parent.isEmpty, [403, 404, 409, 500].contains(status),
                    try await client.look(at: parent) == nil
                {
                    try await client.makeParents(of: destination)
                    madeParents = true
                    continue
                }
                // 500 may be said of anything.
                if error.leavesOpen { throw error }
                if try await client.look(at: source) == nil { throw WebDAVErrors.notFound(source) }
                if try await client.look(at: destination) != nil {
                    throw WebDAVErrors.changed(destination, wire: error.wire)
                }
                throw error
            }
        }
    }
}
