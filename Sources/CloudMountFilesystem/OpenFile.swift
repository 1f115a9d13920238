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

    func retreat(to offset: Int) { prefetcher.withLock { $0.retreat(to: offset) } }
}

/// One open directory: the names it had when it was first read, in a fixed order.
final class OpenDirectory: Sendable {
    struct State {
        /// Nil until the first read, and again after a rewind.
        var names: [FileName]?
        /// Names are taken from the listing under way as they come, beginning after so many of them.
        var taken = 0
        var following: UInt32?
    }

    let inode: InodeID
    let state = Mutex(State())

    init(inode: InodeID) { self.inode = inode }
}
