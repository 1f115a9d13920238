import CloudMountVFS
import Synchronization

/// One open file description.
final class OpenFile: Sendable {
    let id: HandleID
    let inode: InodeID
    let content: FileContent
    let canWrite: Bool
    private let prefetcher: Mutex<Prefetcher>

    init(id: HandleID, inode: InodeID, content: FileContent, canWrite: Bool, prefetch: Int) {
        self.id = id
        self.inode = inode
        self.content = content
        self.canWrite = canWrite
        prefetcher = Mutex(Prefetcher(maximum: prefetch))
    }

    func plan(_ extent: Extent, size: Int) -> Prefetcher.Plan { prefetcher.withLock { $0.plan(extent, size: size) } }

    func limitPrefetch(to most: Int) { prefetcher.withLock { $0.maximum = most } }

    func retreat(to offset: Int) { prefetcher.withLock { $0.retreat(to: offset) } }
}

/// One open directory: the names it had when it was first read, in a fixed order.
final class OpenDirectory: Sendable {
    let inode: InodeID
    /// Nil until the first read, and again after a rewind.
    let listing = Mutex<Listing?>(nil)

    init(inode: InodeID) { self.inode = inode }
}
