import CloudMountFUSE
import CloudMountVFS
import Glibc

/// The folder that a mount covers: cleared of a dead mount, made when missing, and then removed again.
struct MountFolder: Sendable {
    /// Folders that were made, the deepest last.
    private let made: [String]

    /// Blocks.
    /// - Throws: `notDirectory`, `permissionDenied`, `io`.
    init(_ path: String) throws(VFSError) {
        do throws(VFSError) {
            _ = try FUSEMount.clearDeadMount(at: path)
        } catch {
            guard error.code == .notFound else { throw error }
        }
        made = try Self.make(path)
    }

    private static func make(_ path: String) throws(VFSError) -> [String] {
        var status = stat()
        if stat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFDIR else {
                throw VFSError(.notDirectory, "\(path) is not a directory")
            }
            return []
        }
        guard errno == ENOENT, let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else {
            throw fault(path, "cannot be used", errno)
        }
        let above = slash == path.startIndex ? [] : try make(String(path[..<slash]))
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw fault(path, "cannot be made", errno) }
        return above + [path]
    }

    private static func fault(_ path: String, _ what: String, _ number: Int32) -> VFSError {
        let code: VFSError.Code = number == EACCES || number == EPERM || number == EROFS ? .permissionDenied : .io
        return VFSError(code, "the folder \(path) \(what): \(String(cString: strerror(number)))")
    }

    /// Removes what was made, as far as it is empty.
    func remove() {
        for path in made.reversed() where rmdir(path) != 0 { return }
    }
}
