import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// What the bucket has: the files that a key names, and their versions.
struct B2Files: Sendable {
    static let byName = "b2_download_file_by_name"

    let client: B2Client
    let bucket: B2Bucket

    /// HEAD of the file by name: class B, where a listing of one entry would be class C, which costs ten times as much.
    ///
    /// The two names that the mark of a folder may have are asked for at the same time.
    func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        let names = B2Names.names(key)
        guard let first = names.first else { throw VFSError(.notFound, "there is no such object") }
        guard names.count > 1 else { return try await head(key, first) }
        async let other = attempt { () async throws(VFSError) in try await self.head(key, names[1]) }
        do throws(VFSError) {
            return try await head(key, first)
        } catch {
            guard error.code == .notFound else { throw error }
            return try await other.get()
        }
    }

    func head(_ key: ObjectKey, _ name: String) async throws(VFSError) -> ObjectInfo {
        let response = try await client.download(Self.byName, .head, key: key, path: client.path(name))
        guard let size = response.headers["content-length"].flatMap({ Int($0) }), size >= 0,
            let etag = Self.etag(response.headers)
        else { throw client.malformed("a file without length or id", Self.byName, key, response) }
        return Self.info(key, size: size, etag: etag, response.headers)
    }

    /// Nil when, and only when, the store says that there is no such object.
    func headIfThere(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo? {
        try await ifThere { () async throws(VFSError) in try await self.head(key) }
    }

    /// Of one of the names that the key may have; nil when the store says that there is none.
    func current(_ key: ObjectKey, _ name: String) async throws(VFSError) -> ObjectInfo? {
        try await ifThere { () async throws(VFSError) in try await self.head(key, name) }
    }

    // MARK: By id

    /// b2_get_file_info; nil when B2 knows no such file.
    func state(_ id: String, _ key: ObjectKey) async throws(VFSError) -> B2File? {
        do throws(VFSError) {
            return try await info(id, key)
        } catch {
            guard error.code == .notFound || error.code == .invalidArgument else { throw error }
            return nil
        }
    }

    func info(_ id: String, _ key: ObjectKey) async throws(VFSError) -> B2File {
        var call = B2Call("b2_get_file_info", key)
        call.body.add("fileId", id)
        return try await client.send(call) { reader throws(JSONError) in try B2File.read(&reader) }
    }

    /// The error of a copy whose source may be the reason: B2 calls an id that is none any more a bad request.
    func lostSource(_ source: ObjectInfo, _ error: VFSError) async throws(VFSError) -> VFSError {
        guard error.code == .notFound || error.code == .invalidArgument,
            try await state(source.etag.value, source.key) == nil
        else { return error }
        return VFSError(.stale, "the version to be copied has been deleted", wire: error.wire)
    }

    // MARK: Versions

    /// b2_list_file_versions of one name.
    func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion] {
        for name in B2Names.names(key) {
            let files = try await allVersions(name, key).filter { $0.action == .upload || $0.action == .hide }
            if files.isEmpty { continue }
            return files.enumerated().map { index, file in
                ObjectVersion(info: file.object(key), isLatest: index == 0, isDeleteMarker: file.action == .hide)
            }
        }
        return []
    }

    /// All versions of one name, newest first, or those down to the page that has `wanted`.
    func allVersions(
        _ name: String, _ key: ObjectKey, downTo wanted: String? = nil
    ) async throws(VFSError) -> [B2File] {
        var versions: [B2File] = []
        var next: (name: String, id: String?)?
        var markers = PageMarkers()
        while true {
            var call = B2Call("b2_list_file_versions", key)
            call.body.add("bucketId", bucket.id)
            call.body.add("prefix", name)
            call.body.add("maxFileCount", 1000)
            call.maxBodyBytes = B2Call.longAnswer
            call.body.add("startFileName", next?.name ?? name)
            call.body.add("startFileId", next?.id)
            let (page, following) = try await client.send(call) { reader throws(JSONError) in
                try Self.versionPage(&reader)
            }
            versions += page.filter { ObjectKey($0.name) == ObjectKey(name) }
            if let wanted, page.contains(where: { $0.id == wanted }) { return versions }
            // Other names that begin like it come after it.
            guard let following, ObjectKey(following.name) == ObjectKey(name) else { return versions }
            guard versions.count <= ObjectVersion.most else {
                throw VFSError(
                    .tooLarge,
                    "\(key) has more than \(ObjectVersion.most) versions: a lifecycle rule of the bucket can end them")
            }
            guard let id = following.id, markers.goOn(at: id) else {
                throw client.malformed("a listing of versions that does not go on", call.operation, key, nil)
            }
            next = following
        }
    }

    private static func versionPage(
        _ reader: inout JSONReader
    ) throws(JSONError) -> (files: [B2File], next: (name: String, id: String?)?)? {
        var files: [B2File] = []
        var isWhole = true
        var (hasFiles, hasEnd) = (false, false)
        var nextName: String?
        var nextID: String?
        try reader.object { reader, name throws(JSONError) in
            switch name {
            case "files":
                hasFiles = true
                try reader.array { reader throws(JSONError) in
                    if let file = try B2File.read(&reader) { files.append(file) } else { isWhole = false }
                }
            case "nextFileName":
                hasEnd = true
                nextName = try reader.optionalString()
            case "nextFileId": nextID = try reader.optionalString()
            default: try reader.skip()
            }
        }
        return isWhole && hasFiles && hasEnd ? (files, nextName.map { ($0, nextID) }) : nil
    }

    // MARK: Preconditions

    func compare(_ precondition: Precondition, _ key: ObjectKey) async throws(VFSError) {
        if precondition == .none { return }
        try Self.check(precondition, try await headIfThere(key))
    }

    static func check(_ precondition: Precondition, _ there: ObjectInfo?) throws(VFSError) {
        switch precondition {
        case .none: break
        case .absent: if there != nil { throw taken }
        case .match(let etag):
            guard there?.etag == etag else {
                throw VFSError(.preconditionFailed, "the object has been changed meanwhile")
            }
        }
    }

    static var taken: VFSError { VFSError(.preconditionFailed, "there is an object with this key already") }

    // MARK: What the headers of a download say

    static let etag: @Sendable (HTTPHeaders) -> ETag? = { headers in
        headers["x-bz-file-id"].flatMap { $0.isEmpty ? nil : ETag($0) }
    }

    static func info(_ key: ObjectKey, size: Int, etag: ETag, _ headers: HTTPHeaders) -> ObjectInfo {
        let uploaded = headers["x-bz-upload-timestamp"].flatMap { Int($0) } ?? 0
        return ObjectInfo(
            key: key, size: size, etag: etag, stored: Timestamp(milliseconds: uploaded),
            encryption: B2Encryption.told(headers), metadata: B2FileInfo.metadata(headers))
    }
}
