import CloudMountKit
public import CloudMountVFS

extension B2Provider {
    /// b2_list_file_versions of one name.
    public func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion] {
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
            call.body.add("bucketId", place.bucketID)
            call.body.add("prefix", name)
            call.body.add("maxFileCount", 1000)
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
}
