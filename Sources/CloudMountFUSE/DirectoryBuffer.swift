import CFUSE3
import CloudMountFilesystem
import CloudMountVFS
import Glibc

/// The answer to one READDIR or READDIRPLUS, as the kernel will read it.
final class DirectoryBuffer: DirectoryPacker, @unchecked Sendable {
    // SAFETY: filled by the operation that answers the request, one entry after another, and read when it has answered.
    private let request: Request
    private let plus: Bool
    private let capacity: Int
    private let memory: UnsafeMutablePointer<CChar>
    private var used = 0
    /// Inodes that the kernel counts as looked up when it takes the answer.
    private var lookups: [InodeID] = []

    init(_ request: Request, capacity: Int, plus: Bool) {
        self.request = request
        self.plus = plus
        self.capacity = capacity
        memory = .allocate(capacity: capacity)
    }

    deinit { memory.deallocate() }

    func add(_ entry: DirectoryEntry) -> Bool {
        let room = capacity - used
        let need: Int
        var counted: InodeID?
        if plus {
            var parameters = fuse_entry_param()
            if let full = entry.entry, full.attributes != nil, entry.name != ".", entry.name != ".." {
                parameters = full.parameters
                counted = parameters.ino
            } else {
                // Node id 0: the kernel takes name, type and number, and looks the name up when it needs more.
                parameters.attr.st_ino = UInt(entry.inode)
                parameters.attr.st_mode = entry.kind?.rawValue ?? 0
            }
            need = fuse_add_direntry_plus(
                request.raw, memory + used, room, entry.name, &parameters, entry.nextOffset)
        } else {
            var stat = stat()
            stat.st_ino = UInt(entry.inode)
            stat.st_mode = entry.kind?.rawValue ?? 0
            need = fuse_add_direntry(request.raw, memory + used, room, entry.name, &stat, entry.nextOffset)
        }
        guard need <= room else { return false }
        used += need
        if let counted { lookups.append(counted) }
        return true
    }

    /// Answers with what was added; on failure takes back what the kernel will not know of.
    func reply() -> Reply<Void> {
        request.reply { request, _ in
            fuse_reply_buf(request.raw, self.memory, self.used)
        } undo: { _, _ in
            self.takeBack()
        } failed: {
            self.takeBack()
        }
    }

    private func takeBack() {
        for inode in lookups { request.operations.untold(inode) }
        lookups = []
    }
}
