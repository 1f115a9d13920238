import CloudMountVFS
import Synchronization

/// What a file is opened to do.
struct FileUse: Sendable {
    let canWrite: Bool
    let truncates: Bool
    /// Writes go where the kernel says that the file ends, of which it asks nobody.
    let appends: Bool
    /// The caller is told the file's size with the answer.
    let isTold: Bool
    /// Past the kernel's pages.
    let isDirect: Bool

    #if arch(arm64)
        private static let direct: Int32 = 0o200000  // O_DIRECT
    #else
        private static let direct: Int32 = 0o40000
    #endif

    /// - Parameter flags: those of open(2).
    init(flags: Int32, isTold: Bool) {
        canWrite = flags & 3 != 0  // O_ACCMODE
        truncates = canWrite && flags & 0o1000 != 0  // O_TRUNC
        appends = canWrite && !truncates && flags & 0o2000 != 0  // O_APPEND
        isDirect = flags & Self.direct != 0
        self.isTold = isTold
    }
}

/// What opening a file finds.
struct OpenedContent: Sendable {
    let content: FileContent
    /// The kernel's pages are those of the version.
    let isCached: Bool
    /// The kernel may have some.
    let hasPages: Bool
    /// The kernel was told another size.
    let kernelIsBehind: Bool
}

/// One open file description.
final class OpenFile: Sendable {
    let id: HandleID
    let inode: InodeID
    let content: FileContent
    let canWrite: Bool
    /// Past the kernel's pages.
    let isDirect: Bool
    private let prefetcher: Mutex<Prefetcher>
    private let hasRead = Atomic(false)

    init(id: HandleID, inode: InodeID, content: FileContent, canWrite: Bool, isDirect: Bool, prefetch: Int) {
        self.id = id
        self.inode = inode
        self.content = content
        self.canWrite = canWrite
        self.isDirect = isDirect
        prefetcher = Mutex(Prefetcher(maximum: prefetch))
    }

    func plan(_ extent: Extent, size: Int) -> Prefetcher.Plan { prefetcher.withLock { $0.plan(extent, size: size) } }

    func limitPrefetch(to most: Int) { prefetcher.withLock { $0.maximum = most } }

    func retreat(to offset: Int) { prefetcher.withLock { $0.retreat(to: offset) } }

    /// True the first time.
    func firstRead() -> Bool { !hasRead.exchange(true, ordering: .relaxed) }
}

/// One open directory: the names it had when it was first read, in a fixed order.
final class OpenDirectory: Sendable {
    let inode: InodeID
    /// Nil until the first read, and again after a rewind.
    private let names = Mutex<Listing?>(nil)

    init(inode: InodeID) { self.inode = inode }

    func listing() -> Listing? { names.withLock { $0 } }
    func read(_ listing: Listing?) { names.withLock { $0 = listing } }
}

/// What the kernel has open.
final class Handles: Sendable {
    private struct Table {
        var files: [HandleID: OpenFile] = [:]
        var directories: [HandleID: OpenDirectory] = [:]
        var next: HandleID = 1
    }

    private let table = Mutex(Table())

    func file(_ id: HandleID) -> OpenFile? { table.withLock { $0.files[id] } }
    func directory(_ id: HandleID) -> OpenDirectory? { table.withLock { $0.directories[id] } }
    func files() -> [OpenFile] { table.withLock { Array($0.files.values) } }

    func open(
        _ inode: InodeID, _ content: FileContent, canWrite: Bool, isDirect: Bool = false, prefetch: Int
    ) -> HandleID {
        table.withLock { table in
            defer { table.next += 1 }
            table.files[table.next] = OpenFile(
                id: table.next, inode: inode, content: content, canWrite: canWrite, isDirect: isDirect,
                prefetch: prefetch)
            return table.next
        }
    }

    func close(_ id: HandleID) -> OpenFile? { table.withLock { $0.files.removeValue(forKey: id) } }

    func openDirectory(_ inode: InodeID) -> HandleID {
        table.withLock { table in
            defer { table.next += 1 }
            table.directories[table.next] = OpenDirectory(inode: inode)
            return table.next
        }
    }

    func closeDirectory(_ id: HandleID) -> OpenDirectory? {
        table.withLock { $0.directories.removeValue(forKey: id) }
    }
}
