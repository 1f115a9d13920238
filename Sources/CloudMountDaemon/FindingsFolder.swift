import CloudMountPlatform
import CloudMountVFS
import Glibc

/// What providers keep from one start to the next: small files in a folder of the cache's, which is this user's alone, whatever others may put
/// beside it. Where it is not, nothing is kept: each start finds out anew.
struct FindingsFolder: ProviderMemory {
    private static let mostBytes = 4096
    private let path: String

    /// - Parameter directory: the cache's.
    init(in directory: String) { path = directory + "/findings" }

    func recall(_ name: String) async -> [UInt8]? {
        guard Self.isPlain(name) else { return nil }
        return await BlockingPool.shared.run("findings") { opened().flatMap { Self.read(name, in: $0) } }
    }

    func keep(_ bytes: [UInt8], as name: String) async {
        guard Self.isPlain(name), bytes.count <= Self.mostBytes else { return }
        await BlockingPool.shared.run("findings") {
            _ = mkdir(path, 0o700)
            if let folder = opened() { Self.write(bytes, name, in: folder) }
        }
    }

    private static func isPlain(_ name: String) -> Bool {
        1...64 ~= name.utf8.count && name.utf8.allSatisfy { 0x61...0x7A ~= $0 || 0x30...0x39 ~= $0 }
    }

    /// The folder itself, of this user and nobody else's to write; nil when it is not there or is another's.
    private func opened() -> Descriptor? {
        let raw = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard raw >= 0 else { return nil }
        let folder = Descriptor(owning: raw)
        var status = stat()
        guard fstat(raw, &status) == 0, status.st_uid == geteuid(), fchmod(raw, 0o700) == 0 else { return nil }
        return folder
    }

    private static func read(_ name: String, in folder: Descriptor) -> [UInt8]? {
        let raw = openat(folder.raw, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard raw >= 0 else { return nil }
        let descriptor = Descriptor(owning: raw)
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_uid == geteuid()
        else { return nil }
        var bytes = [UInt8](repeating: 0, count: mostBytes + 1)
        let count = pread(descriptor.raw, &bytes, bytes.count, 0)
        return 1...mostBytes ~= count ? Array(bytes[..<count]) : nil
    }

    private static func write(_ bytes: [UInt8], _ name: String, in folder: Descriptor) {
        let fresh = name + ".new"
        // What a crash has left, or what somebody put there while the folder was open to him.
        unlinkat(folder.raw, fresh, 0)
        let raw = openat(folder.raw, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard raw >= 0 else { return }
        let descriptor = Descriptor(owning: raw)
        guard pwrite(descriptor.raw, bytes, bytes.count, 0) == bytes.count,
            renameat(folder.raw, fresh, folder.raw, name) == 0
        else {
            unlinkat(folder.raw, fresh, 0)
            return
        }
    }
}
