package import CloudMountVFS
package import Glibc

/// An error of the local disk, from `errno`.
package func localError(_ message: String, _ number: Int32 = errno) -> VFSError {
    let code: VFSError.Code =
        switch number {
        case ENOSPC, EDQUOT, EFBIG: .noSpace
        case EACCES, EPERM, EROFS: .permissionDenied
        default: .io
        }
    return VFSError(code, "\(message): \(String(cString: strerror(number)))")
}

/// Makes `path` and what is missing above it.
package func makeDirectories(_ path: String) throws(VFSError) {
    if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
    if errno == ENOENT, let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex {
        try makeDirectories(String(path[..<slash]))
        if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
    }
    throw localError("the directory \(path) cannot be made")
}

/// What others could put into a directory, they could read or plant: it is this user's, and not its group's or everybody's to write, unless it keeps
/// everybody from what is not theirs, as a new tmpfs does.
/// - Parameter mode: what it is given; then no symbolic link may stand for it, as one may for a directory that the user has named.
/// - Throws: `permissionDenied`.
package func requireOwn(_ path: String, mode: mode_t? = nil) throws(VFSError) {
    let raw = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (mode == nil ? 0 : O_NOFOLLOW))
    guard raw >= 0 else {
        if errno == ENOTDIR || errno == ELOOP {
            throw VFSError(.permissionDenied, "\(path) is no directory; a symbolic link is not followed")
        }
        throw localError("the directory \(path) cannot be opened")
    }
    let directory = Descriptor(owning: raw)
    var status = stat()
    guard fstat(directory.raw, &status) == 0 else { throw localError("the directory \(path) cannot be read") }
    guard status.st_uid == geteuid() else {
        throw VFSError(.permissionDenied, "the directory \(path) belongs to user \(status.st_uid), not to this one")
    }
    if let mode {
        guard fchmod(directory.raw, mode) == 0 else { throw localError("the directory \(path) cannot be made private") }
    } else if status.st_mode & 0o1000 == 0, status.st_mode & 0o022 != 0 {
        let (who, mode) = status.st_mode & 0o002 != 0 ? ("everybody", "go-w") : ("its group", "g-w")
        throw VFSError(.permissionDenied, "\(who) may write into the directory \(path); chmod \(mode) it")
    }
}

/// Opens `path`, a file that only this user may read, for reading and writing; it is made when missing.
/// - Returns: its descriptor.
/// - Throws: `permissionDenied` when it is a symbolic link, is no regular file, belongs to somebody else or has a second name.
package func openOwnFile(_ path: String) throws(VFSError) -> Descriptor {
    // Non-blocking, since a fifo would hold the thread.
    let raw = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
    guard raw >= 0 else {
        if errno == ELOOP { throw VFSError(.permissionDenied, "\(path) is a symbolic link, which is not followed") }
        throw localError("\(path) cannot be opened")
    }
    let file = Descriptor(owning: raw)
    var status = stat()
    guard fstat(raw, &status) == 0 else { throw localError("\(path) cannot be read") }
    guard status.st_mode & S_IFMT == S_IFREG else { throw VFSError(.permissionDenied, "\(path) is no file") }
    guard status.st_uid == geteuid() else {
        throw VFSError(.permissionDenied, "\(path) belongs to user \(status.st_uid), not to this one")
    }
    guard status.st_nlink <= 1 else {
        throw VFSError(.permissionDenied, "\(path) has \(status.st_nlink) names; it may have one")
    }
    guard status.st_mode & 0o077 == 0 || fchmod(raw, 0o600) == 0 else {
        throw localError("\(path) cannot be made private")
    }
    return file
}
