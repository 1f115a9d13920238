import CloudMountPlatform
import CloudMountVFS

/// Copies the bytes of objects within the folder.
struct DirectoryCopier: Sendable {
    let records: DirectoryRecords
    let objects: DirectoryObjects
    let writer: DirectoryWriter

    func copy(_ request: CopyRequest) throws(VFSError) -> ObjectInfo {
        let source = try current(request.source)
        let metadata = request.metadata ?? source.metadata
        try writer.check(request.destination, metadata)
        // Onto itself: what came after the look above must not go under older bytes.
        let isOntoItself = request.destination == request.source.key && request.precondition == .none
        let precondition = isOntoItself ? .match(source.etag) : request.precondition
        do throws(VFSError) {
            if source.size == 0, request.destination.endsWithSlash {
                return try writer.putFolder(request.destination, metadata, precondition)
            }
            let staged = try StagedFile(in: records)
            try append(Extent(0, source.size), of: source, to: staged)
            return try writer.commit(staged, request.destination, metadata, precondition)
        } catch {
            guard isOntoItself, error.code == .preconditionFailed else { throw error }
            throw DirectoryErrors.stale(request.source.key)
        }
    }

    func copy(_ extent: Extent, of source: ObjectInfo, to staged: StagedFile) throws(VFSError) {
        let entry = try current(source)
        guard Extent(0, entry.size).contains(extent) else {
            throw VFSError(.invalidArgument, "“\(source.key)” has no bytes \(extent)")
        }
        try append(extent, of: entry, to: staged)
    }

    /// The object that `info` describes, if it is still the current one.
    private func current(_ info: ObjectInfo) throws(VFSError) -> DirectoryEntry {
        let entry = try objects.existing(info.key)
        guard entry.etag == info.etag else { throw DirectoryErrors.stale(info.key) }
        return entry
    }

    private func append(_ extent: Extent, of entry: DirectoryEntry, to staged: StagedFile) throws(VFSError) {
        switch entry.content {
        case .folder: break
        case .unreadable: throw VFSError(.permissionDenied, "“\(entry.key)” may not be read")
        case .link(let target):
            try target[extent.lowerBound..<extent.upperBound].withUnsafeBytes { bytes in
                Result { () throws(VFSError) in try staged.append(bytes) }
            }.get()
        case .file(let file):
            try staged.append(extent, of: file)
            try objects.demandUnchanged(entry, file)
        }
    }
}
