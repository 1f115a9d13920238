import CloudMountPlatform
import CloudMountVFS
import Glibc

/// The opened folder: its descriptors, its lock, and our own area in it. All of it blocks and runs on the provider's own threads.
///
/// Commits of one folder, also from several mounts or processes, exclude each other by `flock(2)`; each takes its own
/// descriptor of the lock file, so that threads exclude each other too. Readers take no lock: what they open is whole.
final class Folder: Sendable {
    let root: Descriptor
    /// Opened once: whoever may write into the folder cannot put others in their place. Nil where nothing is written.
    let staging: Descriptor?
    let recordArea: Descriptor?
    /// Threads take turns before the folder's lock is asked for.
    private let turn = Semaphore(value: 1)
    let path: String
    let writable: Bool
    let isDurable: Bool
    /// Unfinished files older than this are left-overs of a crash.
    private static let stagingLife = 7 * 86_400

    /// Milliseconds that other commits are waited for. Who may read the folder could hold the lock for ever.
    private let patience: Int

    init(path: String, writable: Bool, isDurable: Bool, patience: Int = 5000) throws(VFSError) {
        self.path = path
        self.patience = patience
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
            (staging, recordArea) = (nil, nil)
            return
        }
        let (folder, top) = (try Self.status(of: root, path), root)
        func made(_ directory: String, in parent: Descriptor) throws(VFSError) -> Descriptor {
            try Self.made(directory, in: parent, sharedAs: folder, path)
        }
        let area = try made(DirectoryPaths.area, in: top)
        (staging, recordArea) = (
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
        let deadline = SystemClock.monotonic() + UInt64(patience) * 1_000_000
        // These threads read and list, too: none waits for its turn for ever.
        guard turn.wait(milliseconds: patience) else {
            throw VFSError(.unavailable, "others have been changing \(path) for too long", retry: .backoff)
        }
        defer { turn.signal() }
        try take(lock, until: deadline)
        // Closing releases the lock.
        return try withExtendedLifetime(lock) { () throws(VFSError) in try body() }
    }

    /// - Parameter deadline: in nanoseconds of the monotonic clock.
    private func take(_ lock: Descriptor, until deadline: UInt64) throws(VFSError) {
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

    func sync(_ descriptor: Descriptor) throws(VFSError) {
        guard isDurable else { return }
        try system("writing to \(path)") { () throws(SystemError) in
            try SystemError.check { fsync(descriptor.raw) }
        }
    }

    /// What is ours is smaller than this by far.
    private static let mostBytes = 1 << 20

    /// A small file of ours; nil when there is none.
    func contents(of path: String) throws(SystemError) -> [UInt8]? {
        do throws(SystemError) {
            let file = try root.open(path, for: .reading)
            let status = try file.status()
            let size = Int(status.st_size)
            guard status.kind == S_IFREG, size <= Self.mostBytes else { return nil }
            var count = 0
            let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, filled in
                count = pread(file.raw, buffer.baseAddress, size, 0)
                filled = max(0, count)
            }
            return count == size ? bytes : nil
        } catch {
            if [ENOENT, ENOTDIR].contains(error.code) { return nil }
            throw error
        }
    }

    /// Names that one start looks at. Others may write into a shared folder's area, too, and any number of them.
    static let mostLeftOvers = 10_000

    private func removeLeftOvers() {
        guard let staging else { return }
        var names: [String] = []
        // The error is the end that is set here, or the directory's: what was read is gone through all the same.
        try? staging.eachEntry { name, _ throws(SystemError) in
            guard names.count < Self.mostLeftOvers else { throw SystemError(ECANCELED) }
            if let name = String(validating: name, as: UTF8.self) { names.append(name) }
        }
        let now = SystemClock.now().seconds
        for name in names {
            guard let status = try? staging.status(of: name) else { continue }
            if now - status.modified.seconds < Self.stagingLife { continue }
            if unlinkat(staging.raw, name, 0) != 0 { staging.removeTree(name) }
        }
    }
}
