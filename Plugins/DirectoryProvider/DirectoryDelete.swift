import CloudMountPlatform
import CloudMountVFS
import Glibc

/// Takes objects away, and the directories that were there for them alone.
struct DirectoryRemover: Sendable {
    let folder: Folder
    let records: DirectoryRecords
    let objects: DirectoryObjects
    let writer: DirectoryWriter

    func delete(_ requests: [DeleteRequest]) throws(VFSError) -> [DeleteFailure] {
        var failures: [DeleteFailure] = []
        var touched: [Descriptor] = []
        try folder.exclusively { () throws(VFSError) in
            for object in requests {
                do throws(VFSError) {
                    if let version = object.version {
                        guard let entry = try objects.find(object.key) else { continue }
                        guard entry.etag == version else { throw DirectoryErrors.precondition(object.key) }
                    }
                    try delete(object.key, &touched)
                } catch {
                    failures.append(DeleteFailure(key: object.key, error: error))
                }
            }
        }
        for directory in touched { try folder.sync(directory) }
        return failures
    }

    private func delete(_ key: ObjectKey, _ touched: inout [Descriptor]) throws(VFSError) {
        writer.remove(DirectoryPaths.hidden(key))
        guard let plain = DirectoryPaths.plain(key) else { return }
        let (parent, name) = DirectoryPaths.split(plain)
        do throws(SystemError) {
            let directory = try folder.root.open(parent, for: .directory)
            let leaving = try records.leaving(name, in: directory)
            let status = leaving.status
            let isFolder = status.kind == S_IFDIR
            guard isFolder == key.endsWithSlash, isFolder || status.kind == S_IFREG || status.kind == S_IFLNK else {
                return
            }
            if isFolder {
                if unlinkat(directory.raw, name, AT_REMOVEDIR) != 0 {
                    guard [ENOTEMPTY, EEXIST].contains(errno) else { throw SystemError(errno) }
                    // The directory stays for what is below it, and is no object any more.
                    let itself = try directory.open(name, for: .directory)
                    if try records.read(of: itself, status)?.isImplicit != true {
                        try records.write(DirectoryRecord(isImplicit: true), of: itself)
                    }
                    return
                }
            } else {
                try SystemError.check { unlinkat(directory.raw, name, 0) }
            }
            records.remove(leaving)
            if touched.last?.raw != directory.raw { touched.append(directory) }
            removeImplicit(parent)
        } catch {
            // Absent, or below something that is no directory.
            if [ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG].contains(error.code) { return }
            throw DirectoryErrors.map(error, "deleting “\(key)”")
        }
    }

    /// Removes directories that were there only for keys below them, upwards from `path`, as far as they are empty.
    func removeImplicit(_ path: String) {
        var path = path
        while path != "." {
            let (parent, name) = DirectoryPaths.split(path)
            guard let directory = try? folder.root.open(path, for: .directory),
                let above = try? folder.root.open(parent, for: .directory),
                let leaving = try? records.leaving(name, in: above),
                let record = try? records.read(of: directory, leaving.status), record.isImplicit,
                unlinkat(above.raw, name, AT_REMOVEDIR) == 0
            else { return }
            records.remove(leaving)
            path = parent
        }
    }
}
