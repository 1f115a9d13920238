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
    /// Names that are looked at before a directory gets a longer key; where there are more, it is copied.
    var mostWalked = 1_000_000
    /// Bytes of names of directories that are still to be looked at, all levels together.
    var mostHeld = 64 << 20

    func move(_ request: MoveRequest) throws(VFSError) -> ObjectInfo? {
        let (source, destination) = (request.source.key, request.destination)
        guard source.endsWithSlash == destination.endsWithSlash else {
            throw VFSError(.invalidArgument, "a folder is moved to a folder, a file to a file")
        }
        try writer.check(destination, ObjectMetadata())
        guard let from = DirectoryPaths.plain(source), let to = DirectoryPaths.plain(destination) else {
            throw Self.unsupported(source)
        }
        // Whatever takes long is looked at before the lock: what others put below either name meanwhile might as well have come later.
        if source.endsWithSlash { try checkFolder(source, from, destination) }
        var touched: [Descriptor] = []
        let arrival = try folder.exclusively { () throws(VFSError) -> Arrival in
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
        guard case .moved(let info) = arrival else {
            throw try isTaken(destination)
                ? DirectoryErrors.precondition(destination) : Self.unsupported(destination)
        }
        do throws(VFSError) {
            for directory in touched { try folder.sync(directory) }
        } catch {
            // It has taken place, and may be gone again after a power cut.
            throw VFSError(.unavailable, error.message, retry: error.retry)
        }
        return info
    }

    private enum Arrival {
        case moved(ObjectInfo?)
        /// Something has the name: no object perhaps, or somebody's object that came this moment.
        case occupied
    }

    private static func unsupported(_ key: ObjectKey) -> VFSError {
        VFSError(.notSupported, "“\(key)” cannot be moved in one step")
    }

    // MARK: Files

    /// Under the lock.
    private func moveFile(
        _ request: MoveRequest, _ from: String, _ to: String, _ touched: inout [Descriptor]
    ) throws(VFSError) -> Arrival {
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
        guard try rename(from, to, replaces: replaced != nil, request.destination, &touched) else { return .occupied }
        guard let moved = try objects.find(request.destination) else { throw DirectoryErrors.stale(key) }
        // Other programs take no lock: what they have put there in this moment has moved, and is not what was meant.
        guard moved.size == entry.size, moved.status.modified == entry.status.modified,
            moved.record?.nonce == entry.record?.nonce, moved.status.st_ino == entry.status.st_ino
        else { throw DirectoryErrors.stale(key) }
        return .moved(moved.info)
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

    /// Before the lock.
    private func checkFolder(_ source: ObjectKey, _ from: String, _ destination: ObjectKey) throws(VFSError) {
        guard !destination.hasPrefix(source) else {
            throw VFSError(.invalidArgument, "a directory cannot be moved into itself")
        }
        // A key that cannot have its path stays where it is when the directory goes.
        guard try !lister.hidesAny(below: source) else { throw Self.unsupported(source) }
        if try isTaken(destination) { throw DirectoryErrors.precondition(destination) }
        let directory = try open(from, source)
        guard destination.byteCount > source.byteCount else { return }
        var growth = Growth(
            by: destination.byteCount - source.byteCount, longest: writer.longestKey, left: mostWalked, room: mostHeld)
        let verdict = try system("moving “\(source)”") { () throws(SystemError) in
            try growth.walk(directory, source.byteCount)
        }
        switch verdict {
        case .fits: return
        case .tooLong: throw VFSError(.nameTooLong, "a key below “\(destination)” would be too long")
        case .unknown: throw Self.unsupported(source)
        }
    }

    private func open(_ path: String, _ source: ObjectKey) throws(VFSError) -> Descriptor {
        do throws(SystemError) {
            return try folder.root.open(path, for: .directory)
        } catch {
            if [ENOENT, ENOTDIR, ELOOP].contains(error.code) { throw DirectoryErrors.notFound(source) }
            throw DirectoryErrors.map(error, "moving “\(source)”")
        }
    }

    /// Under the lock.
    private func moveFolder(
        _ source: ObjectKey, _ from: String, _ destination: ObjectKey, _ to: String, _ touched: inout [Descriptor]
    ) throws(VFSError) -> Arrival {
        _ = try open(from, source)
        for key in [destination, destination.withoutSlash] where try objects.find(key) != nil {
            throw DirectoryErrors.precondition(destination)
        }
        guard try rename(from, to, replaces: false, destination, &touched) else { return .occupied }
        return .moved(try objects.find(destination)?.info)
    }

    /// Whether there is an object under the key; for a folder's, also below it or under the name without the slash.
    private func isTaken(_ key: ObjectKey) throws(VFSError) -> Bool {
        guard key.endsWithSlash else { return try objects.find(key) != nil }
        if try !lister.list(ListRequest(prefix: key, delimited: false), limit: 1).isEmpty { return true }
        return try objects.find(ObjectKey(String(key.string.dropLast()))) != nil
    }

    /// Under the lock.
    /// - Returns: false when something else has the name.
    private func rename(
        _ from: String, _ to: String, replaces: Bool, _ destination: ObjectKey, _ touched: inout [Descriptor]
    ) throws(VFSError) -> Bool {
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
            case EEXIST, ENOTEMPTY:
                remover.removeImplicit(newParent)
                return false
            case ENOENT: throw DirectoryErrors.notFound(destination)
            case EINVAL, ENOSYS, ENOTSUP, EXDEV, EBUSY, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG, EILSEQ:
                throw Self.unsupported(destination)
            default: throw DirectoryErrors.map(error, "moving to “\(destination)”")
            }
        }
        remover.removeImplicit(parent)
        return true
    }
}

/// Whether keys below a directory that gets a longer one would be longer than keys are, and are not now.
private struct Growth {
    enum Verdict {
        case fits, tooLong
        /// There are too many names to look at.
        case unknown
    }

    /// Bytes that each key gets more.
    let gain: Int
    let longest: Int
    /// Names that are still looked at.
    var left: Int
    /// Bytes of names that may still be held.
    var room: Int

    init(by gain: Int, longest: Int, left: Int, room: Int) {
        (self.gain, self.longest, self.left, self.room) = (gain, longest, left, room)
    }

    /// - Parameter count: bytes of the directory's key, with its slash.
    mutating func walk(_ directory: Descriptor, _ count: Int) throws(SystemError) -> Verdict {
        var deeper: [String] = []
        var verdict = Verdict.fits
        do throws(SystemError) {
            try directory.eachEntry { name, type throws(SystemError) in
                left -= 1
                let before = deeper.count
                if isTooLong(name, type, in: directory, count, &deeper) { verdict = .tooLong }
                if deeper.count > before { room -= Self.cost(name.count) }
                if verdict == .fits, left < 0 || room < 0 { verdict = .unknown }
                // No more of them.
                if verdict != .fits { throw SystemError(ECANCELED) }
            }
        } catch {
            if verdict == .fits { throw error }
        }
        for name in deeper where verdict == .fits {
            do throws(SystemError) {
                let below = try directory.open(name, for: .directory)
                verdict = try walk(below, count + name.utf8.count + 1)
            } catch {
                // Gone since, or nobody here can read it: no listing shows a key below it.
                if ![ENOENT, ENOTDIR, ELOOP, EACCES].contains(error.code) { throw error }
            }
        }
        for name in deeper { room += Self.cost(name.utf8.count) }
        return verdict
    }

    /// Of a name in a list.
    private static func cost(_ count: Int) -> Int { count + 48 }

    private func isTooLong(
        _ name: UnsafeRawBufferPointer, _ type: UInt8, in directory: Descriptor, _ count: Int, _ deeper: inout [String]
    ) -> Bool {
        // No key names what is not UTF-8.
        guard let text = String(validating: name, as: UTF8.self) else { return false }
        let isDirectory = directory.isDirectory(name, type) ?? false
        let end = count + name.count + (isDirectory ? 1 : 0)
        guard end <= longest else { return false }
        if isDirectory { deeper.append(text) }
        return end + gain > longest
    }
}
