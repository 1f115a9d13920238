import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Content that is whole, and has not its name yet.
struct WebDAVStaged: Sendable {
    var key: ObjectKey
    var tag: String
    var size: Int
    var stored: Timestamp
    var metadata: ObjectMetadata?
    /// The tag that the answer to PUT has told.
    var told: String?
}

/// Writes whose MOVE may have taken place: by the nonce, what would show it. Servers that keep no nonce cannot tell.
final class WebDAVDoubts: Sendable {
    struct Doubt: Sendable {
        var key: ObjectKey
        var tag: String
        var size: Int
    }

    private static let most = 1000
    /// How long a folder may be an unclear attempt's, in nanoseconds.
    private static let life: UInt64 = 120_000_000_000
    private let folders = Mutex<[ObjectKey: (error: VFSError, at: UInt64)]>([:])

    func noteFolder(_ key: ObjectKey, _ error: VFSError) {
        folders.withLock { folders in
            if folders.count >= Self.most { folders.removeAll() }
            folders[key] = (error, SystemClock.monotonic())
        }
    }

    /// The error of an attempt to make a folder that may have made it, told once and without a repeat.
    func takeFolder(_ key: ObjectKey) -> VFSError? {
        guard let doubt = folders.withLock({ $0.removeValue(forKey: key) }),
            SystemClock.monotonic() &- doubt.at < Self.life
        else { return nil }
        return VFSError(doubt.error.code, doubt.error.message, wire: doubt.error.wire)
    }

    private let doubts = Mutex<[String: Doubt]>([:])

    func note(_ staged: WebDAVStaged, _ nonce: String?, at key: ObjectKey) {
        guard let nonce else { return }
        doubts.withLock { doubts in
            if doubts.count >= Self.most { doubts.removeAll() }
            doubts[nonce] = Doubt(key: key, tag: staged.tag, size: staged.size)
        }
    }

    func find(_ nonce: String?, at key: ObjectKey) -> Doubt? {
        guard let nonce, let doubt = doubts.withLock({ $0[nonce] }), doubt.key == key else { return nil }
        return doubt
    }

    func settle(_ nonce: String?) {
        if let nonce { doubts.withLock { $0[nonce] = nil } }
    }
}

/// Stores what is new.
struct WebDAVWriter: Sendable {
    let dav: WebDAVFolder
    private let doubts = WebDAVDoubts()

    private var client: WebDAVClient { dav.client }
    private var server: WebDAVServer { dav.server }

    /// PUT under a name of its own, and MOVE.
    func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try dav.check(request.key)
        try WebDAVRecord.check(request.metadata)
        if request.key.endsWithSlash {
            guard source.count == 0 else { throw VFSError(.invalidArgument, "a folder holds no bytes of its own") }
            return try await putFolder(request.key, request.precondition)
        }
        if let info = try await landed(request) { return info }
        let staged = try await stage(request.metadata, request.key, source)
        return try await finish(staged, at: request.key, request.precondition, nonce: request.metadata.nonce)
    }

    /// The outcome of an earlier attempt at the same write, whose answer was lost.
    private func landed(_ request: PutRequest) async throws(VFSError) -> ObjectInfo? {
        let nonce = request.metadata.nonce
        guard let doubt = doubts.find(nonce, at: request.key), server.moveKeepsTag else { return nil }
        let there = try await client.look(at: request.key)
        doubts.settle(nonce)
        guard let there, !there.isFolder, there.tag == doubt.tag, there.size == doubt.size else { return nil }
        return there.info()
    }

    // MARK: Folders

    /// A folder that is there after an unclear attempt may be its own: it is neither taken for made nor for somebody else's.
    func putFolder(_ key: ObjectKey, _ precondition: Precondition) async throws(VFSError) -> ObjectInfo {
        do throws(VFSError) {
            let info = try await makeFolder(key, precondition)
            _ = doubts.takeFolder(key)
            return info
        } catch {
            if precondition == .absent {
                if error.leavesOpen { doubts.noteFolder(key, error) }
                if error.code == .preconditionFailed, let unclear = doubts.takeFolder(key) { throw unclear }
            }
            throw error
        }
    }

    private func makeFolder(_ key: ObjectKey, _ precondition: Precondition) async throws(VFSError) -> ObjectInfo {
        if precondition == .absent, !server.exclusiveFolders, try await client.look(at: key) != nil {
            throw WebDAVErrors.changed(key)
        }
        var isMade: Bool
        do throws(VFSError) {
            isMade = try await client.makeFolder(key)
        } catch {
            guard error.wire?.status == 409 || error.code == .notFound else { throw error }
            try await client.makeParents(of: key)
            isMade = try await client.makeFolder(key)
        }
        if !isMade, precondition == .absent { throw WebDAVErrors.changed(key) }
        guard let there = try await client.look(at: key) else {
            throw VFSError(.conflict, "the folder “\(key)” went as it was made", retry: .backoff)
        }
        guard there.isFolder else { throw VFSError(.notDirectory, "“\(there.key)” is a file") }
        return there.info()
    }

    // MARK: Staging

    func stage(
        _ metadata: ObjectMetadata, _ key: ObjectKey, _ source: any ByteSource
    ) async throws(VFSError) -> WebDAVStaged {
        let name = dav.staging()
        do throws(VFSError) {
            var staged: WebDAVStaged
            let time = server.keepsTime ? metadata.modified : nil
            do throws(VFSError) {
                staged = try await upload(source, to: name, modified: time, type: metadata.contentType)
            } catch {
                guard [403, 404, 405, 409].contains(error.wire?.status ?? 0),
                    try await client.look(at: dav.area)?.isFolder != true
                else { throw error }
                try await dav.makeArea()
                staged = try await upload(source, to: name, modified: time, type: metadata.contentType)
            }
            try await describe(&staged, metadata)
            return staged
        } catch {
            await dav.discard(name)
            throw error
        }
    }

    /// Puts the metadata beside the content where the server keeps any.
    func describe(_ staged: inout WebDAVStaged, _ metadata: ObjectMetadata) async throws(VFSError) {
        guard server.keepsRecord else { return }
        let record = WebDAVRecord(tag: staged.tag, metadata: metadata)
        try await client.setRecord(record, at: client.root.path(staged.key), staged.key)
        staged.metadata = metadata
    }

    /// One PUT, and its outcome.
    /// - Parameter looks: whatever the answer tells.
    func upload(
        _ source: any ByteSource, to key: ObjectKey, modified: Timestamp?, type: String? = nil, looks: Bool = false
    ) async throws(VFSError) -> WebDAVStaged {
        var request = WebDAVRequest(.put, client.root.path(key), key)
        request.body = source
        if let type, !type.utf8.contains(where: { $0 < 0x20 || $0 > 0x7E }) {
            request.headers.append("Content-Type", type)
        }
        if let modified { request.headers.append("X-OC-Mtime", "\(modified.seconds)") }
        request.worksOn = source.count
        let response = try await client.send(request)
        guard [200, 201, 204].contains(response.status) else {
            throw WebDAVErrors.odd("an odd answer to PUT", response, wire: client.wire(request))
        }
        let text = response.headers["etag"].flatMap { $0.hasPrefix("W/") ? nil : $0 }
        let told = text.flatMap { ETag(header: $0)?.value }
        // 200 is also what a portal says to anything.
        if response.status != 200, server.tellsTag, !looks, let told,
            let date = response.headers["date"].flatMap(WireDate.http)
        {
            return WebDAVStaged(key: key, tag: told, size: source.count, stored: date, told: told)
        }
        guard let there = try await client.look(at: key), !there.isFolder, there.size == source.count else {
            throw WebDAVErrors.odd("what was sent is not there", response, wire: client.wire(request))
        }
        dav.noteTag(there)
        return WebDAVStaged(key: key, tag: there.tag, size: there.size, stored: there.modified, told: told)
    }

    // MARK: Taking a place

    /// What was staged takes its name, or goes.
    func finish(
        _ staged: WebDAVStaged, at key: ObjectKey, _ precondition: Precondition, nonce: String?
    ) async throws(VFSError) -> ObjectInfo {
        do throws(VFSError) {
            try await place(staged, at: key, precondition)
        } catch {
            if error.leavesOpen { doubts.note(staged, nonce, at: key) }
            await dav.discard(staged.key, after: error)
            throw error
        }
        guard server.moveKeepsTag else {
            guard let there = try await client.look(at: key), !there.isFolder, there.size == staged.size else {
                throw VFSError(.conflict, "“\(key)” was replaced as it was stored", retry: .backoff)
            }
            dav.noteTag(there)
            return there.info()
        }
        let version = WebDAVVersion(tag: staged.tag, nonce: staged.metadata?.nonce)
        return ObjectInfo(
            key: key, size: staged.size, etag: version.etag, stored: staged.stored, metadata: staged.metadata)
    }

    private static let mostTries = 4

    /// MOVE from wherever it lies, onto what `precondition` allows.
    func place(
        _ staged: WebDAVStaged, at key: ObjectKey, _ precondition: Precondition
    ) async throws(VFSError) {
        var madeParents = false
        for attempt in 1... {
            let leave = try await permission(key, precondition, isFirst: attempt == 1)
            do throws(VFSError) {
                return try await dav.move(
                    staged.key, to: key, overwrite: leave.overwrites, condition: leave.condition, size: staged.size)
            } catch {
                switch error.wire?.status {
                case 412?:
                    guard precondition == .none, attempt < Self.mostTries else {
                        throw WebDAVErrors.changed(key, wire: error.wire)
                    }
                case 400?, 403?, 404?, 405?, 409?, 500?:
                    let parent = WebDAVRoot.parent(key)
                    if madeParents { throw error.code == .notFound ? Self.conflict(key, error) : error }
                    madeParents = true
                    let isThere = parent.isEmpty ? true : try await client.look(at: parent)?.isFolder == true
                    if !isThere {
                        try await client.makeParents(of: key)
                    } else if try await client.look(at: key)?.isFolder == true {
                        try Self.refuseFolder(key, precondition)
                    }
                default: throw error
                }
            }
        }
    }

    private static func conflict(_ key: ObjectKey, _ error: VFSError) -> VFSError {
        VFSError(.conflict, "“\(key)” could not take its place", retry: .backoff, wire: error.wire)
    }

    private static func refuseFolder(_ key: ObjectKey, _ precondition: Precondition) throws(VFSError) {
        if precondition != .none { throw WebDAVErrors.changed(key) }
        throw VFSError(.isDirectory, "“\(key)” is a folder")
    }

    private struct Leave {
        var overwrites: Bool
        var condition: String?
    }

    /// Whether and how the MOVE may overwrite. A folder never is, which would go with all that is in it.
    private func permission(
        _ key: ObjectKey, _ precondition: Precondition, isFirst: Bool
    ) async throws(VFSError) -> Leave {
        let server = server
        switch precondition {
        case .absent:
            if !server.exclusiveMove, try await client.look(at: key) != nil { throw WebDAVErrors.changed(key) }
            return Leave(overwrites: false)
        case .match(let etag):
            let version = WebDAVVersion(etag)
            if !server.conditions || version.nonce != nil || !dav.believesTags {
                guard let there = try await client.look(at: key), !there.isFolder, there.version == version else {
                    throw WebDAVErrors.changed(key)
                }
            }
            return Leave(overwrites: true, condition: server.conditions ? dav.condition(key, version.tag) : nil)
        case .none:
            if isFirst, server.exclusiveMove { return Leave(overwrites: false) }
            guard let there = try await client.look(at: key) else { return Leave(overwrites: false) }
            if there.isFolder { try Self.refuseFolder(key, precondition) }
            return Leave(overwrites: true, condition: server.conditions ? dav.condition(key, there.tag) : nil)
        }
    }

}

extension WebDAVRecord {
    /// Of names and values of metadata, and as many again of types and headers.
    static let maxMetadataBytes = 2048
    /// Names of metadata and of headers.
    static let mostEntries = 128

    /// - Throws: `tooLarge`, and `invalidArgument` for a nonce that is none.
    static func check(_ metadata: ObjectMetadata) throws(VFSError) {
        let bytes = max(metadata.userBytes, metadata.otherBytes)
        guard bytes <= maxMetadataBytes else {
            throw VFSError(.tooLarge, "\(bytes) bytes of metadata, at most \(maxMetadataBytes) are kept")
        }
        guard metadata.entries <= mostEntries else {
            throw VFSError(.tooLarge, "\(metadata.entries) names of metadata, at most \(mostEntries) are kept")
        }
        if let nonce = metadata.nonce, !ObjectMetadata.isNonce(nonce) {
            throw VFSError(.invalidArgument, "a nonce has 1 to 32 printable characters")
        }
    }
}
