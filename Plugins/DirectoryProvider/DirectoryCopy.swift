import CloudMountPlatform
import CloudMountVFS

extension Folder {
    func copy(_ request: CopyRequest) throws(VFSError) -> ObjectInfo {
        let source = try current(request.source, pinned: request.pinned)
        let metadata = request.metadata ?? source.metadata
        try check(request.destination, metadata)
        if source.size == 0, request.destination.endsWithSlash {
            return try putFolder(request.destination, metadata, request.precondition)
        }
        let staged = try StagedFile(in: self)
        try append(Extent(0, source.size), of: source, to: staged)
        return try commit(staged, request.destination, metadata, request.precondition)
    }

    func copy(_ extent: Extent, of source: ObjectInfo, to staged: StagedFile) throws(VFSError) {
        let entry = try current(source)
        guard Extent(0, entry.size).contains(extent) else {
            throw VFSError(.invalidArgument, "“\(source.key)” has no bytes \(extent)")
        }
        try append(extent, of: entry, to: staged)
    }

    /// The object that `info` describes; with `pinned` only if it is still the current one.
    private func current(_ info: ObjectInfo, pinned: Bool = true) throws(VFSError) -> DirectoryEntry {
        let entry = try existing(info.key)
        guard !pinned || entry.etag == info.etag else { throw DirectoryErrors.stale(info.key) }
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
            try demandUnchanged(entry, file)
        }
    }
}
