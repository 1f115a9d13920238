import CloudMountPlatform
import CloudMountVFS
import Glibc

/// The opened folder. All of it blocks and runs on the provider's own threads.
///
/// Commits of one folder, also from several mounts or processes, exclude each other by `flock(2)`; each takes its own
/// descriptor of the lock file, so that threads exclude each other too. Readers take no lock: what they open is whole.
final class Folder: Sendable {
    let root: Descriptor
    /// Opened once: whoever may write into the folder cannot put others in their place. Nil where nothing is written.
    let staging: Descriptor?
    let records: Descriptor?
    /// Threads take turns before the folder's lock is asked for.
    private let turn = Semaphore(value: 1)
    let path: String
    let writable: Bool
    let isDurable: Bool
    /// Unfinished files older than this are left-overs of a crash.
    private static let stagingLife = 7 * 86_400

    init(path: String, writable: Bool, isDurable: Bool) throws(VFSError) {
        self.path = path
        self.writable = writable
        self.isDurable = isDurable
        let raw = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else {
            let error = SystemError(errno)
            if [ENOENT, ENOTDIR, ELOOP].contains(error.code) {
                throw VFSError(.bucketNotFound, "the folder \(path) cannot be opened: \(error.message)")
            }
            throw DirectoryErrors.map(error, "the folder \(path)")
        }
        root = Descriptor(owning: raw)
        guard writable else {
            (staging, records) = (nil, nil)
            return
        }
        let (folder, top) = (try Self.status(of: root, path), root)
        func made(_ directory: String, in parent: Descriptor) throws(VFSError) -> Descriptor {
            try Self.made(directory, in: parent, sharedAs: folder, path)
        }
        let area = try made(DirectoryPaths.area, in: top)
        (staging, records) = (
            try made(DirectoryPaths.staging, in: area), try made(DirectoryPaths.records, in: area)
        )
        _ = try made(DirectoryPaths.keys, in: area)
        do throws(SystemError) {
            _ = try root.open(DirectoryPaths.lock, for: .creating)
        } catch {
            if error.code != EEXIST { throw DirectoryErrors.map(error, "the folder \(path)") }
        }
        removeLeftOvers()
    }

    /// A directory of ours, which no symbolic link stands for.
    ///
    /// Who may write into it could put bytes of his own in the place of those that are about to be stored. Those who share the folder, as
    /// a group does, could do that without; but a sticky folder keeps what is in it from all but its owner.
    private static func made(
        _ directory: String, in parent: Descriptor, sharedAs folder: stat, _ path: String
    ) throws(VFSError) -> Descriptor {
        let isEverybodys = folder.st_mode & 0o002 != 0
        let isShared = folder.st_mode & S_ISVTX == 0 && folder.st_mode & 0o022 != 0
        let name = DirectoryPaths.split(directory).name
        let made = try system("\(DirectoryPaths.area) in the folder \(path)") { () throws(SystemError) in
            let mode = 0o755 | (isShared ? folder.st_mode & 0o022 : 0)
            if mkdirat(parent.raw, name, mode) != 0, errno != EEXIST { throw SystemError(errno) }
            return try parent.open(name, for: .directory)
        }
        let status = try status(of: made, path)
        guard isShared || [geteuid(), 0, folder.st_uid].contains(status.st_uid) else {
            throw VFSError(.permissionDenied, "\(directory) in the folder \(path) is of another user, \(status.st_uid)")
        }
        if status.st_mode & (S_ISVTX | 0o002) == 0o002, !(isShared && isEverybodys) {
            throw VFSError(
                .permissionDenied, "everybody may write into \(directory) in the folder \(path); chmod o-w it")
        }
        // What is staged is nobody else's to open, not even for the moment before it has its mode.
        if directory == DirectoryPaths.staging, !isShared, status.st_uid == geteuid(), status.st_mode & 0o077 != 0 {
            fchmod(made.raw, 0o700)
        }
        return made
    }

    private static func status(of descriptor: Descriptor, _ path: String) throws(VFSError) -> stat {
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0 else {
            throw DirectoryErrors.map(SystemError(errno), "the folder \(path)")
        }
        return status
    }

    /// A directory that is there where something is written.
    func own(_ directory: Descriptor?) throws(SystemError) -> Descriptor {
        guard let directory else { throw SystemError(EROFS) }
        return directory
    }

    /// Runs `body` while no other commit to this folder is under way.
    func exclusively<Value>(_ body: () throws(VFSError) -> Value) throws(VFSError) -> Value {
        guard writable else { throw VFSError(.readOnly, "the folder \(path) was opened for reading only") }
        let lock = try system("the lock of \(path)") { () throws(SystemError) in
            try root.open(DirectoryPaths.lock, for: .reading)
        }
        turn.wait()
        defer { turn.signal() }
        try take(lock)
        // Closing releases the lock.
        return try withExtendedLifetime(lock) { () throws(VFSError) in try body() }
    }

    /// Milliseconds that other commits are waited for. Who may read the folder could hold the lock for ever.
    private static let patience = 5000

    private func take(_ lock: Descriptor) throws(VFSError) {
        let deadline = SystemClock.monotonic() + UInt64(Self.patience) * 1_000_000
        var pause: UInt32 = 200
        while flock(lock.raw, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR else {
                throw DirectoryErrors.map(SystemError(errno), "the lock of \(path)")
            }
            guard SystemClock.monotonic() < deadline else {
                throw VFSError(.unavailable, "somebody else holds the lock of \(path)", retry: .backoff)
            }
            usleep(pause)
            pause = min(2 * pause, 50_000)
        }
    }

    /// Names in a directory, without `.` and `..`, in no order; those that are not UTF-8 are left out: no key names them.
    func entries(of directory: Descriptor) throws(SystemError) -> [(name: String, type: UInt8)] {
        let copy = try SystemError.check { openat(directory.raw, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard let stream = fdopendir(copy) else {
            close(copy)
            throw SystemError(errno)
        }
        defer { closedir(stream) }
        var result: [(name: String, type: UInt8)] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno != 0 { throw SystemError(errno) }
                return result
            }
            let type = entry.pointee.d_type
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let name, !name.utf8.elementsEqual(".".utf8), !name.utf8.elementsEqual("..".utf8) {
                result.append((name, type))
            }
        }
    }

    func status(_ descriptor: Descriptor) throws(SystemError) -> stat {
        var status = stat()
        try SystemError.check { fstat(descriptor.raw, &status) }
        return status
    }

    /// Of a name itself, not of what a symbolic link points to.
    func status(of name: String, in directory: Descriptor) throws(SystemError) -> stat {
        var status = stat()
        try SystemError.check { fstatat(directory.raw, name, &status, AT_SYMLINK_NOFOLLOW) }
        return status
    }

    func sync(_ descriptor: Descriptor) throws(VFSError) {
        guard isDurable else { return }
        try system("writing to \(path)") { () throws(SystemError) in
            try SystemError.check { fsync(descriptor.raw) }
        }
    }

    /// Removes a directory of files, best effort.
    func removeTree(_ name: String, in parent: Descriptor) {
        if let directory = try? parent.open(name, for: .directory), let names = try? entries(of: directory) {
            for entry in names { unlinkat(directory.raw, entry.name, 0) }
        }
        unlinkat(parent.raw, name, AT_REMOVEDIR)
    }

    private func removeLeftOvers() {
        guard let staging, let names = try? entries(of: staging) else { return }
        let now = SystemClock.now().seconds
        for entry in names {
            guard let status = try? status(of: entry.name, in: staging) else { continue }
            if now - status.modified.seconds < Self.stagingLife { continue }
            if unlinkat(staging.raw, entry.name, 0) != 0 { removeTree(entry.name, in: staging) }
        }
    }
}

extension stat {
    var kind: mode_t { st_mode & S_IFMT }
    var modified: Timestamp { Timestamp(seconds: st_mtim.tv_sec, nanoseconds: st_mtim.tv_nsec) }
    var changed: Timestamp { Timestamp(seconds: st_ctim.tv_sec, nanoseconds: st_ctim.tv_nsec) }
}
