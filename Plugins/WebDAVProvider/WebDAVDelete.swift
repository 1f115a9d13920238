import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// Takes files and empty folders away.
struct WebDAVRemover: Sendable {
    let dav: WebDAVFolder

    private var client: WebDAVClient { dav.client }
    private var server: WebDAVServer { dav.server }

    /// DELETE of a file, or of a folder that is empty. WebDAV's own DELETE of a folder takes all that is in it.
    func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        var failures: [DeleteFailure] = []
        for object in objects {
            try dav.check(object.key)
            do throws(VFSError) {
                if object.key.endsWithSlash {
                    try await WebDAVAside(dav: dav).removeFolder(object.key)
                } else {
                    try await removeFile(object)
                }
            } catch {
                guard [.preconditionFailed, .notEmpty].contains(error.code) else { throw error }
                failures.append(DeleteFailure(key: object.key, error: error))
            }
        }
        return failures
    }

    private static let mostTries = 4

    private func removeFile(_ object: DeleteRequest) async throws(VFSError) {
        let server = server
        for attempt in 1... {
            var tag: String?
            if let version = object.version.map({ WebDAVVersion($0) }), server.conditions, version.nonce == nil,
                dav.believesTags
            {
                tag = version.tag
            } else {
                guard let there = try await client.look(at: object.key), !there.isFolder else { return }
                dav.noteTag(there)
                if let version = object.version, version != there.version.etag {
                    throw WebDAVErrors.changed(object.key)
                }
                tag = there.tag
            }
            do throws(VFSError) {
                return try await dav.remove(
                    object.key, condition: server.conditions ? tag.map { dav.condition(object.key, $0) } : nil)
            } catch {
                // With `If`, servers say 412 of what is not there as well.
                guard error.code == .preconditionFailed else { throw error }
                if object.version != nil {
                    if try await client.look(at: object.key) == nil { return }
                    throw WebDAVErrors.changed(object.key, wire: error.wire)
                }
                guard attempt < Self.mostTries else { throw error }
            }
        }
    }
}
