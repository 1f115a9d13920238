import CloudMountPlatform
import CloudMountVFS
import Glibc

extension UInt8 {
    var isLetterOrDigit: Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self)
            || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self)
    }
}

/// An error of the local disk, from `errno`.
func localError(_ message: String, _ number: Int32 = errno) -> VFSError {
    let code: VFSError.Code =
        switch number {
        case ENOSPC, EDQUOT, EFBIG: .noSpace
        case EACCES, EPERM, EROFS: .permissionDenied
        default: .io
        }
    return VFSError(code, "\(message): \(String(cString: strerror(number)))")
}

/// What a file system says to have, of which sums can be made: some, such as those of other daemons, say more than there can be.
func diskBytes(_ blocks: UInt64, of size: UInt64) -> Int {
    let (bytes, isBeyond) = blocks.multipliedReportingOverflow(by: size)
    return isBeyond ? 1 << 60 : Int(min(bytes, 1 << 60))
}

/// Makes `path` and what is missing above it.
func makeDirectories(_ path: String) throws(VFSError) {
    if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
    if errno == ENOENT, let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex {
        try makeDirectories(String(path[..<slash]))
        if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
    }
    throw localError("the directory \(path) cannot be made")
}

/// What others could put into a directory, they could read or plant: it is this user's, and not everybody's to write, unless it keeps
/// everybody from what is not theirs, as a new tmpfs does.
/// - Parameter mode: what it is given; then no symbolic link may stand for it, as one may for a directory that the user has named.
/// - Throws: `permissionDenied`.
func requireOwn(_ path: String, mode: mode_t? = nil) throws(VFSError) {
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
    } else if status.st_mode & 0o1002 == 0o002 {
        throw VFSError(.permissionDenied, "everybody may write into the directory \(path); chmod o-w it")
    }
}

/// Takes `DIRECTORY/lock` for this process and writes its id into it.
func lockDirectory(_ directory: String) throws(VFSError) -> Descriptor {
    let path = directory + "/lock"
    let raw = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard raw >= 0 else { throw localError("\(path) cannot be opened") }
    let lock = Descriptor(owning: raw)
    guard flock(raw, LOCK_EX | LOCK_NB) == 0 else {
        guard errno == EWOULDBLOCK else { throw localError("\(path) cannot be locked") }
        var text = [UInt8](repeating: 0, count: 20)
        let count = max(0, pread(raw, &text, text.count, 0))
        let digits = String(decoding: text[..<count].prefix { $0.isLetterOrDigit }, as: UTF8.self)
        let holder = digits.isEmpty ? "another process" : "process \(digits)"
        throw VFSError(.busy, "\(directory) is in use by \(holder)")
    }
    let text = Array("\(getpid())\n".utf8)
    guard ftruncate(raw, 0) == 0, pwrite(raw, text, text.count, 0) == text.count else {
        throw localError("\(path) cannot be written")
    }
    return lock
}

/// The regular files of `directory`, oldest first.
func listLeftovers(_ directory: String) throws(VFSError) -> [StagingArea.Leftover] {
    guard let stream = opendir(directory) else { throw localError("\(directory) cannot be read") }
    defer { closedir(stream) }
    var found: [StagingArea.Leftover] = []
    while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if let leftover = leftover("\(directory)/\(name)") { found.append(leftover) }
    }
    return found.sorted { ($0.modified, $0.path) < ($1.modified, $1.path) }
}

/// What lies at `path`; nil when that is no regular file.
func leftover(_ path: String) -> StagingArea.Leftover? {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    let modified = Timestamp(seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec)
    let size = diskBytes(UInt64(max(0, status.st_blocks)), of: 512)
    return StagingArea.Leftover(path: path, size: size, modified: modified)
}
