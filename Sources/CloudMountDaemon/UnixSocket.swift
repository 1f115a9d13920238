import CloudMountPlatform
import CloudMountVFS
import Glibc

/// Stream sockets of the local machine, one line each way. All calls block.
enum UnixSocket {
    static let maxLine = 16 << 20

    /// Listens at `path`, readable and writable for the user alone. A socket that nobody listens at is replaced.
    /// - Throws: `busy` when somebody listens there; `permissionDenied` in a folder that is another user's.
    static func listen(at path: String) throws(VFSError) -> Descriptor {
        if let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex {
            let folder = String(path[..<slash])
            try makeFolders(folder)
            var status = stat()
            guard stat(folder, &status) == 0 else { throw fault(path, "has no folder") }
            // Whoever owns the folder could put another socket in its place.
            guard status.st_uid == geteuid() || status.st_uid == 0 else {
                throw VFSError(.permissionDenied, "the folder \(folder) of the control socket belongs to somebody else")
            }
        }
        let socket = try make()
        // The mode of the descriptor becomes that of the socket's file, so that it is never open to others.
        fchmod(socket.raw, 0o600)
        if try with(path, { bind(socket.raw, $0, $1) }) != 0 {
            guard errno == EADDRINUSE else { throw fault(path, "cannot be made") }
            if (try? connect(to: path, patiently: false)) != nil {
                throw VFSError(.busy, "another cloudmount is listening at \(path)")
            }
            try requireOwnSocket(path)
            unlink(path)
            guard try with(path, { bind(socket.raw, $0, $1) }) == 0 else { throw fault(path, "cannot be made") }
        }
        guard Glibc.listen(socket.raw, 16) == 0 else { throw fault(path, "cannot be listened at") }
        return socket
    }

    /// A file that somebody named by a slip is not taken for a socket that was left behind.
    private static func requireOwnSocket(_ path: String) throws(VFSError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw VFSError(.alreadyExists, "the control socket \(path) cannot be made: what is there is no socket")
        }
        guard status.st_uid == geteuid() else {
            throw VFSError(.permissionDenied, "the control socket \(path) belongs to somebody else")
        }
    }

    /// - Parameter patiently: waits, where so many do already that the listener's queue is full, for half a minute at most.
    /// - Throws: `notFound` when there is no such socket or nobody listens.
    static func connect(to path: String, patiently: Bool = true) throws(VFSError) -> Descriptor {
        let socket = try make(flags: patiently ? 0 : Int32(SOCK_NONBLOCK.rawValue))
        setTimeout(socket, seconds: 30)
        defer { setTimeout(socket, seconds: 0) }
        guard try with(path, { Glibc.connect(socket.raw, $0, $1) }) == 0 else {
            // Somebody listens, to whom too many others talk.
            if !patiently, errno == EAGAIN { return socket }
            if errno == ENOENT || errno == ECONNREFUSED {
                throw VFSError(.notFound, "no cloudmount daemon is listening at \(path)")
            }
            throw fault(path, "cannot be reached")
        }
        return socket
    }

    /// Who listens at the other end; nil when the kernel does not tell.
    static func peer(of socket: Descriptor) -> UInt32? {
        // As struct ucred of unix(7): pid, uid, gid.
        var peer: [UInt32] = [0, 0, 0]
        var size = socklen_t(peer.count * MemoryLayout<UInt32>.size)
        guard getsockopt(socket.raw, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 else { return nil }
        return peer[1]
    }

    static func setTimeout(_ socket: Descriptor, seconds: Int) {
        var time = timeval(tv_sec: seconds, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(socket.raw, SOL_SOCKET, option, &time, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    static func readLine(_ socket: Descriptor) -> [UInt8]? {
        var lines = Lines(socket)
        return lines.next()
    }

    /// Lines, each up to its newline, which is not part of it. Nil when the peer went away, was too slow (errno is then EAGAIN) or too
    /// talkative.
    struct Lines {
        private let socket: Descriptor
        /// Of the next ones.
        private var bytes: [UInt8] = []

        init(_ socket: Descriptor) { self.socket = socket }

        mutating func next() -> [UInt8]? {
            var chunk = [UInt8](repeating: 0, count: 64 << 10)
            var seen = 0
            while true {
                if let end = bytes[seen...].firstIndex(of: UInt8(ascii: "\n")) {
                    defer { bytes.removeSubrange(...end) }
                    return Array(bytes[..<end])
                }
                seen = bytes.count
                let count = read(socket.raw, &chunk, chunk.count)
                if count < 0, errno == EINTR { continue }
                if count == 0 { errno = ECONNRESET }
                guard count > 0 else { return nil }
                bytes += chunk[..<count]
                if bytes.count > maxLine { return nil }
            }
        }
    }

    static func write(_ bytes: [UInt8], to socket: Descriptor) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                send(socket.raw, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    private static func make(flags: Int32 = 0) throws(VFSError) -> Descriptor {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue) | flags
        let raw = socket(AF_UNIX, type, 0)
        guard raw >= 0 else { throw VFSError(.io, "no socket: \(String(cString: strerror(errno)))") }
        return Descriptor(owning: raw)
    }

    private static func fault(_ path: String, _ what: String) -> VFSError {
        let code: VFSError.Code = errno == EACCES || errno == EPERM ? .permissionDenied : .io
        return VFSError(code, "the control socket \(path) \(what): \(String(cString: strerror(errno)))")
    }

    private static func with(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) throws(VFSError) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw VFSError(.nameTooLong, "the path of the control socket is too long: \(path)")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    private static func makeFolders(_ path: String) throws(VFSError) {
        if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
        if errno == ENOENT, let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex {
            try makeFolders(String(path[..<slash]))
            if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
        }
        throw fault(path, "has no folder")
    }
}
