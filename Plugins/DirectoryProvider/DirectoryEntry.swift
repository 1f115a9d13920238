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
