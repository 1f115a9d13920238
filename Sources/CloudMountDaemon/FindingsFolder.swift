import CloudMountPlatform
import CloudMountVFS
import Glibc

/// What providers keep from one start to the next: small files in the cache's folder, which is this user's alone and locked by this process.
struct FindingsFolder: ProviderMemory {
    private static let mostBytes = 4096
    private let path: String

    /// - Parameter directory: the cache's.
    init(in directory: String) { path = directory + "/findings" }

    func recall(_ name: String) async -> [UInt8]? {
        guard let file = file(name) else { return nil }
        return await BlockingPool.shared.run("findings") { Self.read(file) }
    }

    func keep(_ bytes: [UInt8], as name: String) async {
        guard let file = file(name), bytes.count <= Self.mostBytes else { return }
        let path = path
        await BlockingPool.shared.run("findings") {
            _ = mkdir(path, 0o700)
            Self.write(bytes, file)
        }
    }

    private func file(_ name: String) -> String? {
        let isPlain = name.utf8.allSatisfy { 0x61...0x7A ~= $0 || 0x30...0x39 ~= $0 }
        return isPlain && 1...64 ~= name.utf8.count ? "\(path)/\(name)" : nil
    }

    private static func read(_ file: String) -> [UInt8]? {
        let raw = open(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard raw >= 0 else { return nil }
        let descriptor = Descriptor(owning: raw)
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_uid == geteuid()
        else { return nil }
        var bytes = [UInt8](repeating: 0, count: mostBytes + 1)
        let count = pread(descriptor.raw, &bytes, bytes.count, 0)
        return 1...mostBytes ~= count ? Array(bytes[..<count]) : nil
    }

    private static func write(_ bytes: [UInt8], _ file: String) {
        let raw = open(file + ".new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard raw >= 0 else { return }
        let descriptor = Descriptor(owning: raw)
        guard pwrite(descriptor.raw, bytes, bytes.count, 0) == bytes.count, rename(file + ".new", file) == 0 else {
            unlink(file + ".new")
            return
        }
    }
}
