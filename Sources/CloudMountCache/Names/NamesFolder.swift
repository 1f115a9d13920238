import CloudMountCrypto
import CloudMountPlatform
public import CloudMountStaging
public import CloudMountVFS
import Glibc
import Synchronization

/// What mounts knew of names when they ended, `DIRECTORY/names`: a file for each mount, written at its clean end and taken away at its
/// next start, before it is used. So what a process that was killed had known is never believed.
public final class NamesFolder: Sendable {
    static let unfinished = ".new"
    /// Of a mount that is not in the configuration any more.
    private static let longest = 30 * 86_400
    private static let mostBytes = 512 << 20

    let area: StagingArea
    let directory: String
    /// The newest life of each file's mount.
    private let lives = Mutex<[String: Int]>([:])

    /// - Parameter area: whose directory it shares. The files are not counted in its limit; each has a sixteenth of that at most.
    /// - Throws: `permissionDenied`, `noSpace`, `io`.
    public init(_ area: StagingArea) throws(VFSError) {
        self.area = area
        directory = area.directory + "/names"
        try makeDirectories(directory)
        try requireOwn(directory, mode: 0o700)
        let now = SystemClock.now().seconds
        for name in Folder.names(directory) ?? [] {
            let path = "\(directory)/\(name)"
            guard let status = Folder.status(path) else { continue }
            if name.hasSuffix(Self.unfinished) || now - status.modified > Self.longest { unlink(path) }
        }
    }

    /// Bytes that one file may have.
    var limit: Int { min(Self.mostBytes, area.limit / 16, area.spareBytes() ?? 0) }

    func begin(_ name: String) -> Int {
        lives.withLock { lives in
            lives[name, default: 0] += 1
            return lives[name] ?? 0
        }
    }

    /// Runs `body` while no later life of the mount can begin; false when one has.
    func ifNewest(_ name: String, _ life: Int, _ body: () -> Bool) -> Bool {
        lives.withLock { lives in lives[name] == life && body() }
    }

    /// Names that have come or gone are on disk when it returns.
    func sync() {
        let raw = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else { return }
        let folder = Descriptor(owning: raw)
        while fsync(folder.raw) != 0, errno == EINTR {}
    }

    /// The name of a folder or file that belongs to one mount of one bucket.
    static func name(mount: String, bucket: String) -> String {
        let plain = mount.unicodeScalars.prefix(32).map { scalar in
            let isPlain =
                scalar.isASCII && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar) || scalar == "-")
            return isPlain ? String(scalar) : "_"
        }
        let digest = SHA256.digest(Array("\(mount)\0\(bucket)".utf8)).prefix(6)
        let tag = digest.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }
        return plain.joined() + "-" + tag.joined()
    }
}

/// One life of a mount, and its file in the folder.
public final class MountNames: Sendable {
    private let folder: NamesFolder
    private let name: String
    private let life: Int

    /// From now on no earlier life of the mount leaves anything.
    /// - Parameters:
    ///   - mount: its name.
    ///   - bucket: what is mounted.
    public init(_ folder: NamesFolder, mount: String, bucket: String) {
        self.folder = folder
        name = NamesFolder.name(mount: mount, bucket: bucket)
        life = folder.begin(name)
    }

    private var path: String { "\(folder.directory)/\(name)" }

    /// What an earlier process has left. It has no name any more when this returns, also after a power loss. Blocks.
    /// - Returns: nil when there is none, or what there is is no such file.
    public func take() -> NamesFile? {
        let raw = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard raw >= 0 else {
            if errno != ENOENT { unlink(path) }
            return nil
        }
        let file = Descriptor(owning: raw)
        var status = stat()
        let isOwn = fstat(raw, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && status.st_uid == geteuid()
        guard unlink(path) == 0 else { return nil }
        folder.sync()
        return isOwn ? NamesFile(file, count: Int(status.st_size)) : nil
    }

    /// A new file, which has no name that counts before `finish`. Blocks.
    /// - Throws: `noSpace`, `permissionDenied`, `io`.
    public func begin() throws(VFSError) -> NamesWriter {
        // Another life of the mount may end at the same time.
        let path = "\(path).\(life)\(NamesFolder.unfinished)"
        unlink(path)
        let raw = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else { throw localError("\(path) cannot be made") }
        return NamesWriter(Descriptor(owning: raw), path: path, limit: folder.limit)
    }

    /// The file is whole, and is what the next start takes. Blocks.
    /// - Parameter tail: what is read first.
    /// - Throws: `noSpace`, `io`; `stale` when another life of the mount has begun meanwhile, which knows better.
    public func finish(_ writer: inout NamesWriter, tail: [UInt8]) throws(VFSError) {
        try writer.end(tail)
        let temporary = writer.path
        let isNamed = folder.ifNewest(name, life) { rename(temporary, path) == 0 }
        guard isNamed else {
            unlink(temporary)
            throw VFSError(.stale, "another life of the mount has begun")
        }
        folder.sync()
    }

    /// What was begun is not wanted.
    public func giveUp(_ writer: NamesWriter) { unlink(writer.path) }
}
