import CloudMountFUSE
import CloudMountVFS
import Synchronization

/// The folders that mounts cover: cleared of dead mounts, made when missing, and then removed again.
final class MountFolders: Sendable {
    /// Made by this process, by their paths' bytes; mounts may share parents.
    private let made = Mutex<[[UInt8]: MadeFolder]>([:])

    /// Blocks.
    /// - Throws: `notDirectory`, `permissionDenied`, `notFound` behind a link that leads nowhere, `io`.
    func prepare(_ path: String) throws(VFSError) {
        do throws(VFSError) {
            _ = try FUSEMount.clearDeadMount(at: path)
        } catch {
            guard error.code == .notFound else { throw error }
        }
        try FUSEMount.makeFolders(path) { folder in made.withLock { $0[Array(folder.path.utf8)] = folder } }
    }

    /// Removes the folder, and those above it, as far as this process made them and they are empty.
    func remove(_ path: String) {
        let path = "/" + ObjectKey(path).names.joined(separator: "/")
        let key = Array(path.utf8)
        guard let folder = made.withLock({ $0[key] }), folder.remove() else { return }
        _ = made.withLock { $0.removeValue(forKey: key) }
        if let above = Self.parent(path) { remove(above) }
    }

    /// Nil for what lies in the root.
    private static func parent(_ path: String) -> String? {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex else { return nil }
        return String(path[..<slash])
    }
}
