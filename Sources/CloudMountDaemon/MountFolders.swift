import CloudMountFUSE
import CloudMountVFS
import Glibc
import Synchronization

/// The folders that mounts cover: cleared of dead mounts, made when missing, and then removed again.
final class MountFolders: Sendable {
    /// Made by this process; mounts may share parents.
    private let made = Mutex<Set<[UInt8]>>([])

    /// Blocks.
    /// - Throws: `notDirectory`, `permissionDenied`, `io`.
    func prepare(_ path: String) throws(VFSError) {
        do throws(VFSError) {
            _ = try FUSEMount.clearDeadMount(at: path)
        } catch {
            guard error.code == .notFound else { throw error }
        }
        try FUSEMount.checkLinks(on: path)
        try make(path)
    }

    private func make(_ path: String) throws(VFSError) {
        var status = stat()
        if stat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFDIR else {
                throw VFSError(.notDirectory, "\(path) is not a directory")
            }
            return
        }
        guard errno == ENOENT else { throw fault(path, "cannot be used", errno) }
        if let above = Self.parent(path) { try make(above) }
        if mkdir(path, 0o755) == 0 {
            _ = made.withLock { $0.insert(Array(path.utf8)) }
        } else if errno != EEXIST {
            throw fault(path, "cannot be made", errno)
        }
    }

    /// Removes the folder, and those above it, as far as this process made them and they are empty.
    func remove(_ path: String) {
        guard made.withLock({ $0.contains(Array(path.utf8)) }), rmdir(path) == 0 else { return }
        _ = made.withLock { $0.remove(Array(path.utf8)) }
        if let above = Self.parent(path) { remove(above) }
    }

    /// Nil for what lies in the root.
    private static func parent(_ path: String) -> String? {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex else { return nil }
        return String(path[..<slash])
    }

    private func fault(_ path: String, _ what: String, _ number: Int32) -> VFSError {
        let code: VFSError.Code = number == EACCES || number == EPERM || number == EROFS ? .permissionDenied : .io
        return VFSError(code, "the folder \(path) \(what): \(String(cString: strerror(number)))")
    }
}
