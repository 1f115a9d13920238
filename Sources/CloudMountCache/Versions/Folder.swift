import CloudMountVFS
import Glibc

/// Looks into the store's folders.
enum Folder {
    struct Version {
        var name: String
        /// Bytes of the version.
        var size: Int
        /// Bytes on the disk, the map's too.
        var bytes: Int
        /// Seconds.
        var modified: Int
        var mode: mode_t
    }

    /// The names in a folder that begin with no dot; none where there is no folder, nil when it cannot be read.
    static func names(_ path: String) -> [String]? {
        guard let stream = opendir(path) else { return [ENOENT, ENOTDIR].contains(errno) ? [] : nil }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }

    /// What there is of versions.
    static func versions(_ path: String) -> [Version]? {
        guard let names = names(path) else { return nil }
        let maps = Set(names.filter { $0.hasSuffix(VersionStore.mapSuffix) })
        return names.compactMap { name in
            guard !name.hasSuffix(VersionStore.mapSuffix), let file = status("\(path)/\(name)") else { return nil }
            var version = Version(
                name: name, size: max(0, Int(file.st_size) - VersionMap.headerCount),
                bytes: file.bytes, modified: file.modified, mode: file.st_mode)
            if maps.contains(name + VersionStore.mapSuffix) {
                let map = "\(path)/\(name)\(VersionStore.mapSuffix)"
                version.bytes = min(version.bytes + (status(map)?.bytes ?? 0), stat.mostBytes)
                version.size = size(map) ?? 0
            }
            return version
        }
    }

    /// Of a regular file.
    static func status(_ path: String) -> stat? {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG ? status : nil
    }

    private static func size(_ map: String) -> Int? {
        guard status(map) != nil else { return nil }
        let raw = open(map, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard raw >= 0 else { return nil }
        defer { close(raw) }
        var header = [UInt8](repeating: 0, count: VersionMap.headerCount)
        guard read(raw, &header, header.count) == header.count else { return nil }
        return VersionMap.size(header)
    }
}

extension stat {
    /// What it takes of the disk.
    var bytes: Int { max(0, min(Int(st_blocks), Self.mostBytes / 512)) * 512 }
    /// What sums may be made of.
    static var mostBytes: Int { 1 << 50 }

    /// Seconds, as far as sums may be made of them.
    var modified: Int { Timestamp(seconds: st_mtim.tv_sec).seconds }
}
