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
        /// Nil once it is closed: a session keeps its operations, which keep this.
        var session: Session?
    }

    private let state: Mutex<State>
    private let wakeups = Semaphore()

    init(_ session: Session) { state = Mutex(State(session: session)) }

    func invalidateEntry(parent: InodeID, name: FileName) { send(.entry(parent: parent, name: name)) }

    func invalidateInode(_ inode: InodeID, extent: Extent?) { send(.inode(inode, extent: extent)) }

    func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool) {
        send(.expiry(parent: parent, name: name, isDirectory: isDirectory))
    }

    /// Attributes alone are dropped without any lock that an operation could hold.
    func expireAttributes(_ inode: InodeID) {
        if let session = state.withLock({ $0.session }) { fuse_lowlevel_notify_inval_inode(session.raw, inode, -1, 0) }
    }

    /// Ends the thread, and lets go of the session.
    func close() {
        let session = state.withLock { state in
            defer { (state.session, state.queue) = (nil, []) }
            return state.session
        }
        wakeups.signal()
        // Its end may be here, and outside the lock.
        withExtendedLifetime(session) {}
    }

    private func send(_ message: Message) {
        let start: Bool? = state.withLock { state in
            if state.session == nil { return nil }
            state.queue.append(message)
            defer { state.threads = 1 }
            return state.threads == 0
        }
        guard let start else { return }
        // Without a thread the messages wait; the next one tries again.
        if start, !NamedThread.start("cm-notify", { self.run() }) { state.withLock { $0.threads = 0 } }
        wakeups.signal()
    }

    private func run() {
        while true {
            wakeups.wait()
            let (messages, session) = state.withLock { state in
                defer { state.queue = [] }
                return (state.queue, state.session)
            }
            guard let session else { return }
            for message in messages { deliver(message, to: session) }
        }
    }

    private func deliver(_ message: Message, to session: Session) {
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
