import CloudMountCrypto
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// Unfinished large files that a process of CloudMount has left behind: invisible, and on the bill for ever.
///
/// Each large file is marked with who began it: machine, boot, process namespace, process and its start. One is cancelled
/// only when it is certain that nobody goes on with it: its process ran in this namespace since this boot and is there no
/// more; or it began on this machine, before this boot or in another namespace, more than a day ago. What others began
/// is never touched.
enum B2Leftovers {
    struct Owner: Equatable, Sendable {
        /// Digests of names that are nobody else's business.
        var machine: String
        var boot: String
        var namespace: String
        var process: String
        /// In ticks since boot: a process id may be used again.
        var start: String

        var text: String { [machine, boot, namespace, process, start].joined(separator: ".") }

        init(machine: String, boot: String, namespace: String, process: String, start: String) {
            self.machine = machine
            self.boot = boot
            self.namespace = namespace
            self.process = process
            self.start = start
        }

        init?(_ text: String) {
            let parts = text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 5, parts.allSatisfy({ !$0.isEmpty }) else { return nil }
            self.init(machine: parts[0], boot: parts[1], namespace: parts[2], process: parts[3], start: parts[4])
        }
    }

    static let maxAge = 86_400

    static let own = Owner(
        machine: digest(contents("/etc/machine-id") ?? "-"),
        boot: digest(contents("/proc/sys/kernel/random/boot_id") ?? "-"),
        namespace: digest(link("/proc/self/ns/pid") ?? "-"), process: "\(getpid())",
        start: start(ofProcess: "self") ?? "0")

    /// What this process marks its large files with.
    static var tag: String { own.text }

    /// - Parameters:
    ///   - began: when the large file was begun, in seconds.
    ///   - start: of the process of that id in this namespace; nil when there is none.
    static func isLeftover(
        _ owner: Owner, own: Owner = B2Leftovers.own, began: Int, now: Int,
        start: (_ process: String) -> String? = B2Leftovers.start
    ) -> Bool {
        guard owner.machine == own.machine else { return false }
        if owner.boot == own.boot, owner.namespace == own.namespace { return start(owner.process) != owner.start }
        return now - began > maxAge
    }

    // MARK: Reading /proc

    static func start(ofProcess process: String) -> String? {
        guard process == "self" || process.utf8.allSatisfy({ 0x30...0x39 ~= $0 }),
            let text = contents("/proc/\(process)/stat"), let end = text.lastIndex(of: ")")
        else { return nil }
        // Field 22 of proc(5); the name, which may hold anything, is the second.
        let fields = text[end...].split(separator: " ")
        return fields.count > 20 ? String(fields[20]) : nil
    }

    private static func contents(_ path: String) -> String? {
        guard let file = fopen(path, "re") else { return nil }
        defer { fclose(file) }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = fread(&buffer, 1, buffer.count, file)
        let text = buffer[..<count].prefix { $0 != 0x0A && $0 != 0 }
        return text.isEmpty ? nil : String(decoding: text, as: UTF8.self)
    }

    private static func link(_ path: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = buffer.withUnsafeMutableBytes { room in
            room.baseAddress.map { readlink(path, $0, room.count) } ?? 0
        }
        return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
    }

    private static func digest(_ text: String) -> String {
        Hex.string(SHA256.digest(Array(text.utf8)).prefix(6))
    }
}

/// Cancels what earlier processes of this machine have left below the mount's prefix. Left alone where it cannot be
/// done: the next mount tries again.
struct B2LeftoverSweep: Sendable {
    let client: B2Client
    let bucket: B2Bucket
    let largeFiles: B2LargeFiles

    func run() async {
        let now = SystemClock.now().seconds
        var start: String?
        // So many at most at one start; a hundred in one request.
        for _ in 0..<10 {
            guard let (files, next) = try? await unfinished(from: start) else { return }
            let ours = files.filter { file in
                file.info[B2FileInfo.session].flatMap(B2Leftovers.Owner.init).map {
                    B2Leftovers.isLeftover($0, began: file.uploaded / 1000, now: now)
                } ?? false
            }
            _ = try? await inParallel(ours, width: 8) { file async throws(VFSError) in
                try await self.largeFiles.abort(Upload(key: ObjectKey(file.name), id: file.id))
            }
            guard let next, next != start else { return }
            start = next
        }
    }

    private func unfinished(from start: String?) async throws(VFSError) -> (files: [B2File], next: String?) {
        var call = B2Call("b2_list_unfinished_large_files")
        call.body.add("bucketId", bucket.id)
        call.body.add("maxFileCount", 100)
        call.maxBodyBytes = B2Call.longAnswer
        if !client.options.prefix.isEmpty { call.body.add("namePrefix", client.options.prefix) }
        call.body.add("startFileId", start)
        return try await client.send(call) { reader throws(JSONError) in
            var files: [B2File] = []
            var next: String?
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "files":
                    try reader.array { reader throws(JSONError) in
                        if let file = try B2File.read(&reader) { files.append(file) }
                    }
                case "nextFileId": next = try reader.optionalString()
                default: try reader.skip()
                }
            }
            return (files, next)
        }
    }
}
