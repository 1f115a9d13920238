import CloudMountPlatform
import CloudMountVFS
import Glibc

/// Gives files and directories other places by rename(2). What does not lie at the path of its key is left to who copies.
struct DirectoryMover: Sendable {
    let folder: Folder
    let records: DirectoryRecords
    let objects: DirectoryObjects
    let lister: DirectoryLister
    let writer: DirectoryWriter
    let remover: DirectoryRemover

    func move(_ request: MoveRequest) throws(VFSError) -> ObjectInfo? {
        let (source, destination) = (request.source.key, request.destination)
        guard source.endsWithSlash == destination.endsWithSlash else {
            throw VFSError(.invalidArgument, "a folder is moved to a folder, a file to a file")
        }
        try writer.check(destination, ObjectMetadata())
        guard let from = DirectoryPaths.plain(source), let to = DirectoryPaths.plain(destination) else {
            throw Self.unsupported(source)
        }
        var touched: [Descriptor] = []
        let info = try folder.exclusively { () throws(VFSError) -> ObjectInfo? in
            do throws(VFSError) {
                return source.endsWithSlash
                    ? try moveFolder(source, from, destination, to, &touched)
                    : try moveFile(request, from, to, &touched)
            } catch {
                // Directories that were made for it and are empty.
                remover.removeImplicit(DirectoryPaths.split(to).parent)
                throw error
            }
        }
        do throws(VFSError) {
            for directory in touched { try folder.sync(directory) }
        } catch {
            // It has taken place, and may be gone again after a power cut.
            throw VFSError(.unavailable, error.message, retry: error.retry)
        }
        return info
    }

    private static func unsupported(_ key: ObjectKey) -> VFSError {
        VFSError(.notSupported, "“\(key)” cannot be moved in one step")
    }

    // MARK: Files

    /// Under the lock.
    private func moveFile(
        _ request: MoveRequest, _ from: String, _ to: String, _ touched: inout [Descriptor]
    ) throws(VFSError) -> ObjectInfo? {
        let key = request.source.key
        let entry = try objects.existing(key)
        guard entry.etag == request.source.etag else { throw DirectoryErrors.stale(key) }
        guard case .file(let file) = entry.content, try isThere(file, from) else { throw Self.unsupported(key) }
        let replaced = try objects.find(request.destination)
        switch request.precondition {
        case .none: break
        case .absent: if replaced != nil { throw DirectoryErrors.precondition(request.destination) }
        case .match(let etag): if replaced?.etag != etag { throw DirectoryErrors.precondition(request.destination) }
        }
        if let replaced {
            guard case .file(let file) = replaced.content, try isThere(file, to) else { throw Self.unsupported(key) }
        }
        try rename(from, to, replaces: replaced != nil, request.destination, &touched)
        guard let moved = try objects.find(request.destination) else { throw DirectoryErrors.stale(key) }
        // Other programs take no lock: what they have put there in this moment has moved, and is not what was meant.
        guard moved.size == entry.size, moved.status.modified == entry.status.modified,
            moved.record?.nonce == entry.record?.nonce, moved.status.st_ino == entry.status.st_ino
        else { throw DirectoryErrors.stale(key) }
        return moved.info
    }

    /// Whether a file that was opened by its key lies at the path of that, and not in the hidden area.
    private func isThere(_ file: Descriptor, _ path: String) throws(VFSError) -> Bool {
        let (parent, name) = DirectoryPaths.split(path)
        do throws(SystemError) {
            let status = try file.status()
            let there = try folder.root.open(parent, for: .directory).status(of: name)
            return there.kind == S_IFREG && there.st_ino == status.st_ino && there.st_dev == status.st_dev
        } catch {
            if [ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG].contains(error.code) { return false }
            throw DirectoryErrors.map(error, "moving “\(path)”")
        }
    }

    // MARK: Directories

    /// Under the lock.
    private func moveFolder(
        _ source: ObjectKey, _ from: String, _ destination: ObjectKey, _ to: String, _ touched: inout [Descriptor]
    ) throws(VFSError) -> ObjectInfo? {
        guard !destination.hasPrefix(source) else {
            throw VFSError(.invalidArgument, "a directory cannot be moved into itself")
        }
        // A key that cannot have its path stays where it is when the directory goes.
        guard try !lister.hidesAny(below: source) else { throw Self.unsupported(source) }
        if try isTaken(destination) { throw DirectoryErrors.precondition(destination) }
        do throws(SystemError) {
            let directory = try folder.root.open(from, for: .directory)
            let longest = writer.longestKey
            if destination.byteCount > source.byteCount,
                try Self.grows(directory, from: source.byteCount, to: destination.byteCount, beyond: longest)
            {
                throw SystemError(ENAMETOOLONG)
            }
        } catch {
            if error.code == ENAMETOOLONG {
                throw VFSError(.nameTooLong, "a key below “\(destination)” would be too long")
            }
            if [ENOENT, ENOTDIR, ELOOP].contains(error.code) { throw DirectoryErrors.notFound(source) }
            throw DirectoryErrors.map(error, "moving “\(source)”")
        }
        try rename(from, to, replaces: false, destination, &touched)
        return try objects.find(destination)?.info
    }

    /// Whether a key below the directory is no longer than `most` now, and would be.
    private static func grows(
        _ directory: Descriptor, from old: Int, to new: Int, beyond most: Int
    ) throws(SystemError) -> Bool {
        for (name, type) in try directory.entries() {
            let isDirectory = type == DT_DIR
            let count = name.utf8.count + (isDirectory ? 1 : 0)
            guard old + count <= most else { continue }
            if new + count > most { return true }
            guard isDirectory else { continue }
            let below = try directory.open(name, for: .directory)
            if try grows(below, from: old + count, to: new + count, beyond: most) { return true }
        }
        return false
    }

    /// Whether there is an object under the key; for a folder's, also below it or under the name without the slash.
    private func isTaken(_ key: ObjectKey) throws(VFSError) -> Bool {
        guard key.endsWithSlash else { return try objects.find(key) != nil }
        if try !lister.list(ListRequest(prefix: key, delimited: false), limit: 1).isEmpty { return true }
        return try objects.find(ObjectKey(String(key.string.dropLast()))) != nil
    }

    /// Under the lock.
    private func rename(
        _ from: String, _ to: String, replaces: Bool, _ destination: ObjectKey, _ touched: inout [Descriptor]
    ) throws(VFSError) {
        let (parent, name) = DirectoryPaths.split(from)
        let (newParent, newName) = DirectoryPaths.split(to)
        guard let target = try writer.makeDirectories(newParent, &touched) else { throw Self.unsupported(destination) }
        do throws(SystemError) {
            let directory = try folder.root.open(parent, for: .directory)
            if replaces {
                let replaced = try records.leaving(newName, in: target)
                try SystemError.check { renameat(directory.raw, name, target.raw, newName) }
                records.remove(replaced)
            } else {
                try directory.rename(name, to: newName, in: target)
            }
            touched += [target, directory]
        } catch {
            switch error.code {
            // Something that is no object has the name, or somebody's object that came this moment.
            case EEXIST, ENOTEMPTY:
                throw try isTaken(destination)
                    ? DirectoryErrors.precondition(destination) : Self.unsupported(destination)
            case ENOENT: throw DirectoryErrors.notFound(destination)
            case EINVAL, ENOSYS, ENOTSUP, EXDEV, EBUSY, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG, EILSEQ:
                throw Self.unsupported(destination)
            default: throw DirectoryErrors.map(error, "moving to “\(destination)”")
            }
        }
        remover.removeImplicit(parent)
    }
}
