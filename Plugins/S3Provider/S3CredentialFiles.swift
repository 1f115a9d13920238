import CloudMountPlatform
import CloudMountVFS
import Glibc

/// A file and the state in which it was read.
struct WatchedFile: Sendable, Equatable {
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

    /// Nil when there is no such file.
    /// - Returns: its bytes, and why no command that it names is run.
    func read(limit: Int = 1 << 20) throws(VFSError) -> (bytes: [UInt8], commandFault: String?)? {
        guard let file = fopen(path, "re") else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw .credentials("\(path) cannot be read: \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = fread(&bytes, 1, limit, file)
        guard ferror(file) == 0 else { throw .credentials("\(path) cannot be read") }
        guard count < limit else { throw .credentials("\(path) is longer than any file of its kind") }
        var status = stat()
        guard fstat(fileno(file), &status) == 0 else { throw .credentials("\(path) cannot be read") }
        let fault = CommandFile.fault(path, mode: status.st_mode, owner: status.st_uid, user: geteuid())
        return (Array(bytes[..<count]), fault)
    }

    /// What a file of one line says, without white space at its ends.
    /// - Parameter what: how messages name it.
    static func token(_ path: String, _ what: String) throws(VFSError) -> String {
        guard let file = try WatchedFile(path).read(limit: 64 << 10) else {
            throw .credentials("there is no \(what) \(path)")
        }
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
