import CloudMountPlatform
import CloudMountVFS
import Glibc

/// A file and the state in which it was read.
struct WatchedFile: Sendable, Equatable {
    struct Contents: Sendable {
        var bytes: [UInt8]
        /// Who else may write it; nil: root and the daemon's user alone.
        var fault: String?
    }

    var path: String
    private var seconds = 0
    private var nanoseconds = 0
    private var size = 0
    private var inode: UInt = 0

    /// The state now; a file that is not there has one as well.
    init(_ path: String) {
        self.path = path
        var status = stat()
        guard stat(path, &status) == 0 else { return }
        seconds = status.st_mtim.tv_sec
        nanoseconds = status.st_mtim.tv_nsec
        size = Int(status.st_size)
        inode = UInt(status.st_ino)
    }

    var isChanged: Bool { WatchedFile(path) != self }

    /// Waits for nobody: what is no file, such as a pipe, is an error. `/dev/null` is an empty file.
    /// - Parameter limit: in bytes; a longer file is an error.
    /// - Returns: nil when there is no such file.
    func read(limit: Int = 1 << 20) throws(VFSError) -> Contents? {
        let raw = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
        guard raw >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw unreadable(errno)
        }
        let file = Descriptor(owning: raw)
        var status = stat()
        guard fstat(file.raw, &status) == 0 else { throw unreadable(errno) }
        if status.st_mode & S_IFMT == S_IFCHR, status.st_rdev == Self.null { return Contents(bytes: []) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .credentials("\(path) is not a regular file") }
        var bytes = [UInt8](repeating: 0, count: min(limit, max(0, Int(status.st_size))) + 1)
        var count = 0
        while count <= limit {
            if count == bytes.count { bytes += [UInt8](repeating: 0, count: min(count, limit + 1 - count)) }
            let got = bytes[count...].withUnsafeMutableBytes { Glibc.read(file.raw, $0.baseAddress, $0.count) }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw unreadable(errno) }
            if got == 0 { break }
            count += got
        }
        guard count <= limit else { throw .credentials("\(path) is longer than any file of its kind") }
        let fault = Self.fault(path, mode: status.st_mode, owner: status.st_uid, user: geteuid())
        return Contents(bytes: Array(bytes[..<count]), fault: fault)
    }

    /// `/dev/null`: character device 1, 3.
    private static let null: dev_t = 1 << 8 | 3

    private func unreadable(_ code: Int32) -> VFSError {
        .credentials("\(path) cannot be read: \(String(cString: strerror(code)))")
    }

    /// - Returns: why what such a file says is not believed where it sends requests or names an identity; nil when nobody may write
    ///   it but root and `user`.
    static func fault(_ path: String, mode: UInt32, owner: UInt32, user: UInt32) -> String? {
        if mode & 0o022 != 0 {
            let who = mode & 0o002 != 0 ? "everyone" : "its group"
            return "\(who) may write \(path) (mode 0\(String(mode & 0o777, radix: 8))); chmod go-w it"
        }
        if owner != 0, owner != user {
            return "\(path) belongs to user \(owner), who is neither root nor the daemon's user \(user)"
        }
        return nil
    }

    /// What a file of one line says, without white space at its ends.
    /// - Parameter what: how messages name it.
    static func token(_ path: String, _ what: String) throws(VFSError) -> String {
        guard let file = try WatchedFile(path).read(limit: 64 << 10) else {
            throw .credentials("there is no \(what) \(path)")
        }
        if let fault = file.fault { throw .credentials("the \(what) is not used: \(fault)") }
        let bytes = file.bytes
        guard let start = bytes.firstIndex(where: { $0 > 0x20 }), let end = bytes.lastIndex(where: { $0 > 0x20 }),
            bytes[start...end].allSatisfy({ 0x21...0x7E ~= $0 })
        else { throw .credentials("\(what) \(path) holds no token") }
        return String(decoding: bytes[start...end], as: UTF8.self)
    }
}

extension BlockingPool {
    /// Where files of credentials are read.
    static let credentialFiles = BlockingPool(name: "cm-credentials", width: 4)
}
