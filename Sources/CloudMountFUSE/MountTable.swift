import CloudMountPlatform
import CloudMountVFS
import Glibc

/// One line of `/proc/self/mountinfo`. Reading it asks no file system anything, so a dead or slow one cannot block it.
struct MountedFileSystem {
    /// Of this mount: no other has it at the same time.
    var id: Int
    /// `MAJOR:MINOR`, as in `/sys/class/bdi`.
    var device: String
    var type: String
    var source: String
    /// What of the file system is mounted: `/`, or the folder that a bind mount shows.
    var root: [UInt8]
    var path: [UInt8]
    /// Of this mount, not of the file system: `ro`, `nosuid`, …
    var options: [String]
    /// Of FUSE: the user who mounted it (`user_id=`).
    var owner: UInt32?
}

enum MountTable {
    /// What is mounted at `path` (absolute, without symbolic links); the uppermost when several are.
    static func top(at path: String) -> MountedFileSystem? {
        let path = Array(path.utf8)
        return all().last { $0.path == path }
    }

    /// Every mount that a process sees; nil: this one.
    static func all(of process: Int32? = nil) -> [MountedFileSystem] {
        let file = process.map { "/proc/\($0)/mountinfo" } ?? "/proc/self/mountinfo"
        return contents(of: file).split(separator: UInt8(ascii: "\n")).compactMap { line in
            // 36 35 98:0 /root /mount/point options [optional fields] - type source options
            let fields = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
            guard fields.count > 6, let id = number(fields[0]),
                let dash = fields[6...].firstIndex(where: { $0.elementsEqual("-".utf8) }),
                dash + 2 < fields.count
            else { return nil }
            return MountedFileSystem(
                id: id, device: String(decoding: fields[2], as: UTF8.self),
                type: String(decoding: fields[dash + 1], as: UTF8.self),
                source: String(decoding: unescape(fields[dash + 2]), as: UTF8.self), root: unescape(fields[3]),
                path: unescape(fields[4]),
                options: String(decoding: fields[5], as: UTF8.self).split(separator: ",").map(String.init),
                owner: dash + 3 < fields.count ? owner(fields[dash + 3]) : nil)
        }
    }

    private static func number(_ field: ArraySlice<UInt8>) -> Int? { Int(String(decoding: field, as: UTF8.self)) }

    /// The id of the mount that an open file or folder is on. Nobody who serves it is asked.
    static func mount(of descriptor: Descriptor) -> Int? {
        contents(of: "/proc/self/fdinfo/\(descriptor.raw)").split(separator: UInt8(ascii: "\n"))
            .first { $0.starts(with: "mnt_id:".utf8) }
            .flatMap { number($0.dropFirst(7).drop { $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: " ") }) }
    }

    /// `user_id=` among the options of a file system.
    private static func owner(_ options: ArraySlice<UInt8>) -> UInt32? {
        String(decoding: options, as: UTF8.self).split(separator: ",").lazy
            .compactMap { $0.hasPrefix("user_id=") ? UInt32($0.dropFirst(8)) : nil }.first
    }

    /// Where else the file system `device` is mounted: paths of this process, then processes that see other mounts than
    /// this one does (containers), as far as they may be asked.
    static func places(of device: String, except path: String) -> [String] {
        let own = Array(path.utf8)
        var places = all().filter { $0.device == device && $0.path != own }.map {
            String(decoding: $0.path, as: UTF8.self)
        }
        var seen: Set<[UInt8]> = [link("/proc/self/ns/mnt")]
        guard let processes = opendir("/proc") else { return places }
        defer { closedir(processes) }
        while let entry = readdir(processes) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard let process = Int32(name), seen.insert(link("/proc/\(name)/ns/mnt")).inserted else { continue }
            guard all(of: process).contains(where: { $0.device == device }) else { continue }
            let command = String(decoding: contents(of: "/proc/\(name)/comm").dropLast(), as: UTF8.self)
            places.append("process \(name) (\(command)) in another mount namespace")
        }
        return places
    }

    /// What a symbolic link of /proc says; empty when it says nothing.
    static func link(_ path: String) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 1 << 13) { buffer, count in
            count = buffer.withMemoryRebound(to: CChar.self) { chars in
                chars.baseAddress.map { max(0, readlink(path, $0, chars.count)) } ?? 0
            }
        }
    }

    /// Undoes the kernel's `\ooo` for blanks and backslashes.
    static func unescape(_ field: ArraySlice<UInt8>) -> [UInt8] {
        var bytes: [UInt8] = []
        var rest = field
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3, digits.allSatisfy({ (0x30...0x37).contains($0) }) {
                bytes.append(digits.reduce(0) { $0 &* 8 &+ ($1 - 0x30) })
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return bytes
    }

    private static func contents(of path: String) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { close(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(file, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return bytes }
            bytes.append(contentsOf: chunk[..<count])
        }
    }

    /// `path` as the mount table has it. The last component is not followed, unless it is a symbolic link: it may be a
    /// dead mount, of which nothing can be asked.
    static func resolve(_ path: String) throws(VFSError) -> String {
        var path = path
        while path.utf8.count > 1, path.utf8.last == UInt8(ascii: "/") { path.removeLast() }
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return try real(path) }
        let name = path[path.utf8.index(after: slash)...]
        if name.isEmpty || name == "." || name == ".." || isLink(path) { return try real(path) }
        let parent = try real(slash == path.startIndex ? "/" : String(path[..<slash]))
        return parent == "/" ? "/\(name)" : "\(parent)/\(name)"
    }

    /// Asks nobody who serves a mount, nor does it have one made where autofs waits, as readlink(2) of the path would.
    private static func isLink(_ path: String) -> Bool {
        let raw = open(path, 0o10000000 | O_NOFOLLOW | O_CLOEXEC)
        guard raw >= 0 else { return false }
        defer { close(raw) }
        var link: CChar = 0
        return readlinkat(raw, "", &link, 1) >= 0
    }

    private static func real(_ path: String) throws(VFSError) -> String {
        guard let resolved = realpath(path, nil) else { throw VFSError(systemCall: errno, path) }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}
