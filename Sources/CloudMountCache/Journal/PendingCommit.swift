import CloudMountPlatform
package import CloudMountVFS
import Synchronization

/// A commit of the journal that was asked for. One waits for it, once.
package final class PendingCommit: Sendable {
    private enum State {
        case pending
        case awaited(CheckedContinuation<VFSError?, Never>)
        case over(VFSError?)
    }

    private let state = Mutex(State.pending)
    private let isOver = Semaphore()

    @Sendable func end(_ error: VFSError?) {
        let waiting: CheckedContinuation<VFSError?, Never>? = state.withLock { state in
            defer { state = .over(error) }
            guard case .awaited(let continuation) = state else { return nil }
            return continuation
        }
        isOver.signal()
        waiting?.resume(returning: error)
    }

    /// As `Journal.commit`.
    package func done() async throws(VFSError) {
        let error: VFSError? = await withCheckedContinuation { continuation in
            let end: VFSError?? = state.withLock { state in
                if case .over(let error) = state { return .some(error) }
                state = .awaited(continuation)
                return nil
            }
            if let end { continuation.resume(returning: end) }
        }
        if let error { throw error }
    }

    /// As `Journal.commitNow`. Blocks.
    package func wait() throws(VFSError) {
        isOver.wait()
        if case .over(let error?) = state.withLock({ $0 }) { throw error }
    }
}
