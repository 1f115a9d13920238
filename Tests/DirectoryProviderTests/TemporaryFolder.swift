import Glibc

/// A folder that is removed with its owner, or else when the test process ends.
final class TemporaryFolder: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/cloudmount-folder-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
    }

    deinit { TemporaryFolder.remove(path) }

    static func remove(_ path: String) {
        if let stream = opendir(path) {
            while let entry = readdir(stream) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name == "." || name == ".." { continue }
                if entry.pointee.d_type == DT_DIR { remove(path + "/" + name) } else { unlink(path + "/" + name) }
            }
            closedir(stream)
        }
        rmdir(path)
    }
}
