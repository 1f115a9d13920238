import CloudMountVFS

/// Copies within the server.
struct WebDAVCopier: Sendable {
    let dav: WebDAVFolder
    let writer: WebDAVWriter

    private var client: WebDAVClient { dav.client }
    private var server: WebDAVServer { dav.server }

    /// COPY to a name of its own, and MOVE. Onto itself only the metadata changes.
    func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        let (source, destination) = (request.source, request.destination)
        try dav.check(source.key)
        try dav.check(destination)
        if let metadata = request.metadata { try WebDAVRecord.check(metadata) }
        if source.key.endsWithSlash != destination.endsWithSlash {
            throw VFSError(.invalidArgument, "a folder is copied to a folder, a file to a file")
        }
        if source.key.endsWithSlash {
            guard try await client.look(at: source.key)?.isFolder == true else {
                throw WebDAVErrors.notFound(source.key)
            }
            return try await writer.putFolder(destination, request.precondition)
        }
        let there = try await current(source)
        if source.key == destination { return try await redescribe(there, request) }
        var staged = WebDAVStaged(key: dav.staging(), tag: "", size: there.size, stored: there.modified)
        do throws(VFSError) {
            try await copyToStaging(there, source, &staged)
            try await writer.describe(&staged, request.metadata ?? there.metadata ?? ObjectMetadata())
        } catch {
            await dav.discard(staged.key)
            throw error
        }
        return try await writer.finish(
            staged, at: destination, request.precondition, nonce: request.metadata?.nonce ?? there.metadata?.nonce)
    }

    /// What a version is now.
    /// - Throws: `stale`, `notFound`.
    func current(_ source: ObjectInfo) async throws(VFSError) -> WebDAVEntry {
        guard let there = try await client.look(at: source.key), !there.isFolder else {
            throw WebDAVErrors.notFound(source.key)
        }
        dav.noteTag(there)
        guard there.version.etag == source.etag else { throw WebDAVErrors.stale(source.key) }
        return there
    }

    private func copyToStaging(
        _ there: WebDAVEntry, _ source: ObjectInfo, _ staged: inout WebDAVStaged
    ) async throws(VFSError) {
        do throws(VFSError) {
            do throws(VFSError) {
                try await dav.duplicate(there, to: staged.key, condition: condition(there))
            } catch {
                guard [403, 404, 409, 500].contains(error.wire?.status ?? 0),
                    try await client.look(at: dav.area)?.isFolder != true
                else { throw error }
                try await dav.makeArea()
                try await dav.duplicate(there, to: staged.key, condition: condition(there))
            }
        } catch {
            if error.code == .preconditionFailed { throw WebDAVErrors.stale(source.key, wire: error.wire) }
            throw error
        }
        guard let copied = try await client.look(at: staged.key), !copied.isFolder, copied.size == there.size else {
            throw WebDAVErrors.stale(source.key)
        }
        // It may be of what came after the look: of `If` only MOVE and DELETE are proved to obey it.
        _ = try await current(source)
        staged.tag = copied.tag
        staged.stored = copied.modified
    }

    private func condition(_ entry: WebDAVEntry) -> String? {
        server.conditions ? dav.condition(entry.key, entry.tag) : nil
    }

    /// New metadata for the same content.
    private func redescribe(_ there: WebDAVEntry, _ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        switch request.precondition {
        case .none: break
        case .absent: throw WebDAVErrors.changed(there.key)
        case .match(let etag): guard there.version.etag == etag else { throw WebDAVErrors.changed(there.key) }
        }
        guard server.keepsRecord, let metadata = request.metadata else { return there.info() }
        do throws(VFSError) {
            try await client.setRecord(
                WebDAVRecord(tag: there.tag, metadata: metadata), at: client.root.path(there.key), there.key,
                condition: condition(there))
        } catch {
            if error.code == .preconditionFailed || error.code == .notFound {
                throw WebDAVErrors.stale(there.key, wire: error.wire)
            }
            throw error
        }
        // It may have been replaced since the look: of `If` only MOVE and DELETE are proved to obey it.
        guard let now = try await client.look(at: there.key), now.tag == there.tag, now.metadata == metadata else {
            throw WebDAVErrors.stale(there.key)
        }
        return now.info()
    }
}
