import CloudMountPlatform
import CloudMountVFS
import Glibc

/// A file under construction in the staging folder; removed unless it is given its place.
final class StagedFile {
    let file: Descriptor
    let name = "p" + DirectoryRecord.newNonce()
    private(set) var count = 0
    private let folder: Folder
    private let directory: Descriptor
    private var isPlaced = false
    /// What the umask, or the folder's default ACL, leaves of a file that everybody may read and write.
    private let mostPermissions: mode_t

    /// - Parameter directory: on the folder's file system; nil: where all is staged.
    init(in folder: Folder, directory: Descriptor? = nil) throws(VFSError) {
        guard folder.writable else {
            throw VFSError(.readOnly, "the folder \(folder.path) was opened for reading only")
        }
        self.folder = folder
        let name = name
        let given = directory ?? folder.staging
        (self.directory, file, mostPermissions) = try system("staging in \(folder.path)") { () throws(SystemError) in
            let directory = try folder.own(given)
            let file = try directory.open(name, for: .creating)
            do throws(SystemError) {
                let most = try folder.status(file).st_mode & 0o777
                // Nobody else reads the bytes before it is known who may.
                try file.setPermissions(0o600)
                return (directory, file, most)
            } catch {
                unlinkat(directory.raw, name, 0)
                throw error
            }
        }
    }

    deinit { if !isPlaced { unlinkat(directory.raw, name, 0) } }

    func fill(from source: any ByteSource) throws(VFSError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(1, min(source.count, 1 << 20)), alignment: 4096)
        defer { buffer.deallocate() }
        var position = 0
        while position < source.count {
            let wanted = min(buffer.count, source.count - position)
            let got = try source.read(at: position, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted]))
            guard got > 0 else { throw VFSError(.io, "the bytes to store ended early") }
            try append(UnsafeRawBufferPointer(rebasing: buffer[..<got]))
            position += got
        }
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(VFSError) {
        try system("writing to \(folder.path)") { () throws(SystemError) in try file.write(bytes, at: count) }
        count += bytes.count
    }

    func append(_ extent: Extent, of other: Descriptor) throws(VFSError) {
        try system("writing to \(folder.path)") { () throws(SystemError) in
            try other.copy(from: extent.lowerBound, count: extent.count, to: file, at: count)
        }
        count += extent.count
    }

    /// Gives the file its mtime, its record, and of the permissions that it has in the mount those that files are given here.
    func describe(_ metadata: ObjectMetadata) throws(VFSError) {
        // Its owner goes on reading it, and may write beside it what it is.
        let mode = mostPermissions & (Self.permissions(metadata) | 0o600)
        try system("writing to \(folder.path)") { () throws(SystemError) in
            try file.setPermissions(mode)
            if let modified = metadata.modified {
                var times = [timespec(), timespec()]
                // The access time stays: UTIME_OMIT of utimensat(2).
                times[0].tv_nsec = (1 << 30) - 2
                times[1] = timespec(tv_sec: modified.seconds, tv_nsec: modified.nanoseconds)
                try SystemError.check { futimens(file.raw, times) }
            }
            var record = DirectoryRecord(metadata: metadata)
            record.fileModified = try folder.status(file).modified
            try folder.setRecord(record, of: file)
        }
    }

    /// Those of `st_mode` as the metadata has it, octal with a zero before it, else decimal; all where it says nothing.
    private static func permissions(_ metadata: ObjectMetadata) -> mode_t {
        guard let text = metadata.user["mode"], let mode = UInt32(text, radix: text.hasPrefix("0") ? 8 : 10) else {
            return 0o777
        }
        return mode & 0o777
    }

    /// Moves the file to `name` in `directory`, in the place of whatever file is there.
    /// - Returns: false when a directory, a fifo, a socket or a device is in the way, or no file can have that name.
    func place(_ name: String, in directory: Descriptor) throws(VFSError) -> Bool {
        let replaced = try? folder.leaving(name, in: directory)
        // It is no object, and so not ours to replace.
        if let replaced, ![S_IFREG, S_IFLNK].contains(replaced.status.kind) { return false }
        if renameat(self.directory.raw, self.name, directory.raw, name) != 0 {
            let error = SystemError(errno)
            if [EISDIR, ENOTEMPTY, EEXIST, ENAMETOOLONG, EINVAL, EILSEQ].contains(error.code) { return false }
            throw DirectoryErrors.map(error, "storing “\(name)” in \(folder.path)")
        }
        isPlaced = true
        if let replaced { folder.removeRecord(replaced) }
        return true
    }

    func placed() { isPlaced = true }
}

extension Descriptor {
    /// Where the file system has any.
    fileprivate func setPermissions(_ mode: mode_t) throws(SystemError) {
        do throws(SystemError) {
            try SystemError.check { fchmod(raw, mode) }
        } catch {
            guard [EPERM, ENOTSUP, ENOSYS].contains(error.code) else { throw error }
        }
    }
}

extension Folder {
    func put(_ request: PutRequest, from source: any ByteSource) throws(VFSError) -> ObjectInfo {
        try check(request.key, request.metadata)
        if request.key.endsWithSlash, source.count == 0 {
            return try putFolder(request.key, request.metadata, request.precondition)
        }
        let staged = try StagedFile(in: self)
        try staged.fill(from: source)
        return try commit(staged, request.key, request.metadata, request.precondition)
    }

    func check(_ key: ObjectKey, _ metadata: ObjectMetadata) throws(VFSError) {
        if key.isEmpty { throw VFSError(.invalidName, "an object needs a key") }
        if key.byteCount > 1024 { throw VFSError(.nameTooLong, "a key of \(key.byteCount) bytes is longer than 1024") }
        let count = metadata.user.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
        if count > 32 << 10 { throw VFSError(.tooLarge, "\(count) bytes of metadata are too many") }
        if let nonce = metadata.nonce, !ObjectMetadata.isNonce(nonce) {
            throw VFSError(.invalidArgument, "“\(nonce)” is no nonce")
        }
    }

    /// Makes a staged file the object of `key`: on the disk before it has its name, and in one step.
    func commit(
        _ staged: StagedFile, _ key: ObjectKey, _ metadata: ObjectMetadata, _ precondition: Precondition
    ) throws(VFSError) -> ObjectInfo {
        try staged.describe(metadata)
        try sync(staged.file)
        var touched: [Descriptor] = []
        let info = try exclusively { () throws(VFSError) -> ObjectInfo in
            try demand(precondition, key)
            try place(staged, key, &touched)
            let stored = try system("“\(key)”") { () throws(SystemError) in try self.entry(staged.file, key) }
            guard let entry = stored else { throw DirectoryErrors.notFound(key) }
            return entry.info
        }
        for directory in touched { try sync(directory) }
        return info
    }

    /// Under the lock.
    private func demand(_ precondition: Precondition, _ key: ObjectKey) throws(VFSError) {
        switch precondition {
        case .none: return
        case .absent: if try find(key) == nil { return }
        case .match(let etag): if try find(key)?.etag == etag { return }
        }
        throw DirectoryErrors.precondition(key)
    }

    /// Under the lock. At the plain path if that can be, else in the hidden area.
    private func place(_ staged: StagedFile, _ key: ObjectKey, _ touched: inout [Descriptor]) throws(VFSError) {
        let hidden = DirectoryPaths.hidden(key)
        if !key.endsWithSlash, let plain = DirectoryPaths.plain(key) {
            let (parent, name) = DirectoryPaths.split(plain)
            if let directory = try makeDirectories(parent, &touched), try staged.place(name, in: directory) {
                touched.append(directory)
                remove(hidden)
                return
            }
        }
        let (parent, name) = DirectoryPaths.split(hidden)
        guard let directory = try makeDirectories(parent, &touched), try staged.place(name, in: directory) else {
            throw VFSError(.invalidName, "the folder \(path) cannot hold the key “\(key)”")
        }
        touched.append(directory)
    }

    /// Under the lock. Opens `path`, making what is missing of it.
    /// - Returns: nil when something on the way is no directory.
    func makeDirectories(_ path: String, _ touched: inout [Descriptor]) throws(VFSError) -> Descriptor? {
        do throws(SystemError) {
            do throws(SystemError) {
                return try root.open(path, for: .directory)
            } catch {
                if error.code != ENOENT { throw error }
            }
            var directory = root
            for name in path.split(separator: "/").map(String.init) {
                let isNew = mkdirat(directory.raw, name, 0o777) == 0
                if !isNew, errno != EEXIST { throw SystemError(errno) }
                if isNew { touched.append(directory) }
                directory = try directory.open(name, for: .directory)
                if isNew { try setRecord(DirectoryRecord(isImplicit: true), of: directory) }
            }
            return directory
        } catch {
            if [ENOTDIR, ELOOP, ENAMETOOLONG, EINVAL, EILSEQ].contains(error.code) { return nil }
            throw DirectoryErrors.map(error, "making \(path) in \(self.path)")
        }
    }

    /// An empty object whose key ends in a slash is the directory itself.
    func putFolder(
        _ key: ObjectKey, _ metadata: ObjectMetadata, _ precondition: Precondition
    ) throws(VFSError) -> ObjectInfo {
        var touched: [Descriptor] = []
        let info = try exclusively { () throws(VFSError) -> ObjectInfo? in
            try demand(precondition, key)
            guard let plain = DirectoryPaths.plain(key), let directory = try makeDirectories(plain, &touched) else {
                return nil
            }
            let entry = try system("“\(key)”") { () throws(SystemError) in
                try setRecord(DirectoryRecord(metadata: metadata), of: directory)
                return try self.entry(directory, key)
            }
            remove(DirectoryPaths.hidden(key))
            return entry?.info
        }
        for directory in touched { try sync(directory) }
        if let info { return info }
        return try commit(StagedFile(in: self), key, metadata, precondition)
    }
}
