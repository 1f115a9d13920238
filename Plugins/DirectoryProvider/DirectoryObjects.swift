import CloudMountPlatform
import CloudMountVFS
import Glibc

/// What the folder has: the objects that keys name, wherever they lie.
struct DirectoryObjects: Sendable {
    let folder: Folder
    let records: DirectoryRecords

    /// - Throws: `notFound`.
    func existing(_ key: ObjectKey) throws(VFSError) -> DirectoryEntry {
        if let entry = try find(key) { return entry }
        // A folder that is gone altogether has not told us that the object is.
        if let status = try? folder.root.status(), status.st_nlink == 0 {
            throw VFSError(.bucketNotFound, "the folder \(folder.path) has been removed")
        }
        throw DirectoryErrors.notFound(key)
    }

    /// The object of `key`, if there is one.
    func find(_ key: ObjectKey) throws(VFSError) -> DirectoryEntry? {
        let plain = DirectoryPaths.plain(key)
        // A key with a slash that has a body is in the hidden area, beside a directory that may exist.
        if key.endsWithSlash, let entry = try open(DirectoryPaths.hidden(key), key) { return entry }
        // A file of the name without the slash is another object.
        let purpose = key.endsWithSlash ? Descriptor.Purpose.directory : .reading
        if let plain, let entry = try open(plain, key, for: purpose) { return entry }
        if let entry = try open(DirectoryPaths.hidden(key), key) { return entry }
        // It may have moved out of the hidden area between the two looks.
        guard let plain else { return nil }
        return try open(plain, key, for: purpose)
    }

    private func open(
        _ path: String, _ key: ObjectKey, for purpose: Descriptor.Purpose = .reading
    ) throws(VFSError) -> DirectoryEntry? {
        do throws(SystemError) {
            let file = try folder.root.open(path, for: purpose)
            return try entry(file, key)
        } catch {
            switch error.code {
            case ENOENT, ENOTDIR, ENAMETOOLONG, ENXIO, ENODEV: return nil
            case ELOOP: return try system("“\(key)”") { () throws(SystemError) in try link(path, key) }
            default: throw DirectoryErrors.map(error, "“\(key)”")
            }
        }
    }

    /// What an opened file is as the object of `key`; nil when it is none.
    func entry(_ file: Descriptor, _ key: ObjectKey) throws(SystemError) -> DirectoryEntry? {
        let status = try file.status()
        let isFolder = status.kind == S_IFDIR
        guard isFolder || status.kind == S_IFREG else { return nil }
        let record = try records.read(of: file, status)
        if isFolder {
            guard key.endsWithSlash, record?.isImplicit != true else { return nil }
            return DirectoryEntry(key: key, content: .folder, status: status, record: record)
        }
        // A file's name cannot end in a slash; in the hidden area it can.
        return DirectoryEntry(key: key, content: .file(file), status: status, record: record)
    }

    /// The symbolic link at `path`; nil when it is on the way to it, or the key names a directory.
    private func link(_ path: String, _ key: ObjectKey) throws(SystemError) -> DirectoryEntry? {
        if key.endsWithSlash { return nil }
        let (parent, name) = DirectoryPaths.split(path)
        do throws(SystemError) {
            let directory = try folder.root.open(parent, for: .directory)
            return try link(name, in: directory, key)
        } catch {
            if [ENOENT, ENOTDIR, ELOOP, EINVAL].contains(error.code) { return nil }
            throw error
        }
    }

    func link(_ name: String, in directory: Descriptor, _ key: ObjectKey) throws(SystemError) -> DirectoryEntry {
        let status = try directory.status(of: name)
        var target = [CChar](repeating: 0, count: 4096)
        let count = try SystemError.check { readlinkat(directory.raw, name, &target, target.count) }
        let bytes = target.prefix(count).map { UInt8(bitPattern: $0) }
        return DirectoryEntry(key: key, content: .link(bytes), status: status, record: nil)
    }

    /// Throws `stale` when the bytes of an opened file are no longer those of `entry`. Being replaced or deleted leaves the
    /// opened file as it is, and only its link count and ctime change.
    func demandUnchanged(_ entry: DirectoryEntry, _ file: Descriptor) throws(VFSError) {
        let now = try system("“\(entry.key)”") { () throws(SystemError) in try file.status() }
        let then = entry.status
        let isTouched = now.changed != then.changed && now.st_nlink == then.st_nlink
        if now.st_size != then.st_size || now.modified != then.modified || isTouched {
            throw DirectoryErrors.stale(entry.key)
        }
    }
}
