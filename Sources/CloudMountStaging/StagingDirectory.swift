import CloudMountPlatform
import CloudMountVFS
import Glibc

extension UInt8 {
    var isLetterOrDigit: Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self)
            || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self)
    }
}

/// What a file system says to have, of which sums can be made: some, such as those of other daemons, say more than there can be.
func diskBytes(_ blocks: UInt64, of size: UInt64) -> Int {
    let (bytes, isBeyond) = blocks.multipliedReportingOverflow(by: size)
    return isBeyond ? 1 << 60 : Int(min(bytes, 1 << 60))
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
