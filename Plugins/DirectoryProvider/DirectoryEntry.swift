import CloudMountPlatform
import CloudMountVFS
import Glibc

/// An object as it lies in the folder.
struct DirectoryEntry: Sendable {
    enum Content: Sendable {
        case file(Descriptor)
        /// A file that may be seen but not read.
        case unreadable
        /// A symbolic link made by another program; its bytes are the target.
        case link([UInt8])
        /// A directory: the object of the key with a slash, empty.
        case folder
    }

    var key: ObjectKey
    var content: Content
    var status: stat
    var record: DirectoryRecord?

    var size: Int {
        switch content {
        case .file, .unreadable: Int(status.st_size)
        case .link(let target): target.count
        case .folder: 0
        }
    }

    /// Equal tags mean equal bytes: the write's own nonce (or, for files of others, the inode), and what the kernel changes
    /// when somebody writes to the file in place.
    var etag: ETag {
        if case .folder = content { return ETag(record.map { "v" + $0.nonce } ?? "d\(status.st_ino)") }
        let name = record.map { "v" + $0.nonce } ?? "i" + String(status.st_ino, radix: 36)
        let modified = String(status.st_mtim.tv_sec, radix: 36) + "." + String(status.st_mtim.tv_nsec, radix: 36)
        let changed = String(status.st_ctim.tv_sec, radix: 36) + "." + String(status.st_ctim.tv_nsec, radix: 36)
        return ETag("\(name)-\(String(size, radix: 36))-\(modified)-\(changed)")
    }

    /// As it was given with the object; of a file that another program made or touched, what the file itself says.
    var metadata: ObjectMetadata {
        guard var metadata = record?.metadata else {
            return ObjectMetadata(
                modified: status.modified,
                user: ["mode": "\(status.st_mode)", "uid": "\(status.st_uid)", "gid": "\(status.st_gid)"])
        }
        if let written = record?.fileModified, written != status.modified {
            metadata.modified = status.modified
            metadata.nonce = nil
        }
        return metadata
    }

    var info: ObjectInfo {
        ObjectInfo(key: key, size: size, etag: etag, stored: status.changed, metadata: metadata)
    }
}

extension Folder {
    /// - Throws: `notFound`.
    func existing(_ key: ObjectKey) throws(VFSError) -> DirectoryEntry {
        if let entry = try find(key) { return entry }
        // A folder that is gone altogether has not told us that the object is.
        if let status = try? status(root), status.st_nlink == 0 {
            throw VFSError(.bucketNotFound, "the folder \(path) has been removed")
        }
        throw DirectoryErrors.notFound(key)
    }

    /// The object of `key`, if there is one.
    func find(_ key: ObjectKey) throws(VFSError) -> DirectoryEntry? {
        let plain = DirectoryPaths.plain(key)
        // A key with a slash that has a body is in the hidden area, beside a directory that may exist.
        if key.endsWithSlash, let entry = try open(DirectoryPaths.hidden(key), key) { return entry }
        if let plain, let entry = try open(plain, key) { return entry }
        if let entry = try open(DirectoryPaths.hidden(key), key) { return entry }
        // It may have moved out of the hidden area between the two looks.
        guard let plain else { return nil }
        return try open(plain, key)
    }

    private func open(_ path: String, _ key: ObjectKey) throws(VFSError) -> DirectoryEntry? {
        do throws(SystemError) {
            let file = try root.open(path, for: .reading)
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
        let status = try status(file)
        let isFolder = status.kind == S_IFDIR
        guard isFolder || status.kind == S_IFREG else { return nil }
        let record = try record(of: file, status)
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
            let directory = try root.open(parent, for: .directory)
            return try link(name, in: directory, key)
        } catch {
            if [ENOENT, ENOTDIR, ELOOP, EINVAL].contains(error.code) { return nil }
            throw error
        }
    }

    func link(_ name: String, in directory: Descriptor, _ key: ObjectKey) throws(SystemError) -> DirectoryEntry {
        let status = try status(of: name, in: directory)
        var target = [CChar](repeating: 0, count: 4096)
        let count = try SystemError.check { readlinkat(directory.raw, name, &target, target.count) }
        let bytes = target.prefix(count).map { UInt8(bitPattern: $0) }
        return DirectoryEntry(key: key, content: .link(bytes), status: status, record: nil)
    }

    // MARK: Records

    func record(of file: Descriptor, _ status: stat) throws(SystemError) -> DirectoryRecord? {
        if let bytes = try file.attribute(DirectoryRecord.attribute) { return DirectoryRecord(bytes) }
        guard let bytes = try contents(of: recordPath(status)) else { return nil }
        let record = DirectoryRecord(bytes)
        // An inode number lives on in another file; that one has another mtime.
        if let written = record?.fileModified, status.kind == S_IFREG, written != status.modified { return nil }
        return record
    }

    func setRecord(_ record: DirectoryRecord, of file: Descriptor) throws(SystemError) {
        let bytes = record.encoded
        do throws(SystemError) {
            return try file.setAttribute(DirectoryRecord.attribute, bytes)
        } catch {
            guard [ENOTSUP, ENOSPC, E2BIG, ERANGE, EDQUOT].contains(error.code) else { throw error }
            // An older one that had room would be believed.
            try? file.removeAttribute(DirectoryRecord.attribute)
        }
        // Made whole before it takes its name.
        let (staging, records) = try (own(staging), own(records))
        let temporary = "r" + DirectoryRecord.newNonce()
        let sidecar = try staging.open(temporary, for: .creating)
        try bytes.withUnsafeBytes { bytes in Result { () throws(SystemError) in try sidecar.write(bytes, at: 0) } }
            .get()
        if isDurable { try SystemError.check { fsync(sidecar.raw) } }
        let target = try String(status(file).st_ino)
        try SystemError.check { renameat(staging.raw, temporary, records.raw, target) }
    }

    /// A file or directory that is about to go. Its number is given to no other while this is held.
    struct Leaving {
        fileprivate let itself: Descriptor
        let status: stat
    }

    func leaving(_ name: String, in directory: Descriptor) throws(SystemError) -> Leaving {
        let itself = try directory.open(name, for: .itself)
        return Leaving(itself: itself, status: try status(itself))
    }

    /// Of what has gone just now.
    func removeRecord(_ gone: Leaving) {
        withExtendedLifetime(gone.itself) {
            if let records { unlinkat(records.raw, String(gone.status.st_ino), 0) }
        }
    }

    private func recordPath(_ status: stat) -> String { DirectoryPaths.records + "/\(status.st_ino)" }

    /// A record is smaller than this by far; what is larger is none.
    private static let mostRecord = 1 << 20

    /// A small file of ours; nil when there is none.
    func contents(of path: String) throws(SystemError) -> [UInt8]? {
        do throws(SystemError) {
            let file = try root.open(path, for: .reading)
            let status = try status(file)
            let size = Int(status.st_size)
            guard status.kind == S_IFREG, size <= Self.mostRecord else { return nil }
            var count = 0
            let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, filled in
                count = pread(file.raw, buffer.baseAddress, size, 0)
                filled = max(0, count)
            }
            return count == size ? bytes : nil
        } catch {
            if [ENOENT, ENOTDIR].contains(error.code) { return nil }
            throw error
        }
    }
}
