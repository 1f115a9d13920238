import CFUSE3
import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

/// Tells the kernel what to forget, from a thread of its own: the kernel may make it wait for a lock that is held by
/// someone who waits for an answer of ours. After the unmount it does nothing.
final class Notifier: KernelNotifier {
    private enum Message {
        case entry(parent: InodeID, name: FileName)
        case inode(InodeID, extent: Extent?)
        case expiry(parent: InodeID, name: FileName, isDirectory: Bool)
    }

    private struct State {
        var queue: [Message] = []
        var threads = 0
        var closed = false
    }

    private let session: Session
    private let state = Mutex(State())
    private let wakeups = Semaphore()

    init(_ session: Session) {
        self.session = session
    }

    func invalidateEntry(parent: InodeID, name: FileName) { send(.entry(parent: parent, name: name)) }

    func invalidateInode(_ inode: InodeID, extent: Extent?) { send(.inode(inode, extent: extent)) }

    func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool) {
        send(.expiry(parent: parent, name: name, isDirectory: isDirectory))
    }

    /// Attributes alone are dropped without any lock that an operation could hold.
    func expireAttributes(_ inode: InodeID) {
        if !state.withLock({ $0.closed }) { fuse_lowlevel_notify_inval_inode(session.raw, inode, -1, 0) }
    }

    /// Ends the thread.
    func close() {
        state.withLock { state in
            state.closed = true
            state.queue = []
        }
        wakeups.signal()
    }

    private func send(_ message: Message) {
        let start: Bool? = state.withLock { state in
            if state.closed { return nil }
            state.queue.append(message)
            defer { state.threads = 1 }
            return state.threads == 0
        }
        guard let start else { return }
        if start { NamedThread("cm-notify") { self.run() }.detach() }
        wakeups.signal()
    }

    private func run() {
        while true {
            wakeups.wait()
            let (messages, closed) = state.withLock { state in
                defer { state.queue = [] }
                return (state.queue, state.closed)
            }
            if closed { return }
            for message in messages { deliver(message) }
        }
    }

    private func deliver(_ message: Message) {
        switch message {
        case .entry(let parent, let name):
            fuse_lowlevel_notify_inval_entry(session.raw, parent, name.string, name.string.utf8.count)
        case .expiry(let parent, let name, let isDirectory):
            let count = name.string.utf8.count
            let done = fuse_lowlevel_notify_expire_entry(session.raw, parent, name.string, count, FUSE_LL_EXPIRE_ONLY)
            // Before Linux 6.2. A directory would lose its path for those who work in it, and keeps its time.
            if done == -ENOSYS, !isDirectory {
                fuse_lowlevel_notify_inval_entry(session.raw, parent, name.string, count)
            }
        case .inode(let inode, let extent):
            // A negative offset: attributes only; a count of 0: to the end.
            if let extent, !extent.isEmpty {
                let count = extent.upperBound == .max ? 0 : extent.count
                fuse_lowlevel_notify_inval_inode(session.raw, inode, extent.lowerBound, count)
            } else {
                fuse_lowlevel_notify_inval_inode(session.raw, inode, -1, 0)
            }
        }
    }
}
