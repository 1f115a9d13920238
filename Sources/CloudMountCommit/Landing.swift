import CloudMountVFS
import Synchronization

/// A call that makes a write visible. Its effect may be on its way when nobody wants it any more: so it is brought to its end
/// all the same, but not waited for.
final class Landing: Sendable {
    private struct State {
        var result: Result<ObjectInfo, VFSError>?
        var isGivenUp = false
        /// Who waits has been told, or will be when he comes.
        var isTold = false
        var waiter: CheckedContinuation<Result<ObjectInfo, VFSError>, Never>?
    }

    private let state = Mutex(State())

    /// The call has ended.
    func end(_ result: Result<ObjectInfo, VFSError>) {
        let waiter = state.withLock { state in
            state.result = result
            return state.waiter.take()
        }
        waiter?.resume(returning: result)
    }

    /// Returns when the call has ended, or been given up.
    func outcome() async -> Result<ObjectInfo, VFSError> {
        await withCheckedContinuation { continuation in
            let now: Result<ObjectInfo, VFSError>? = state.withLock { state in
                if let result = state.result { return result }
                if state.isTold { return .failure(.cancelled) }
                state.waiter = continuation
                return nil
            }
            if let now { continuation.resume(returning: now) }
        }
    }

    /// Nobody waits for the call any more.
    /// - Parameter announce: called before who waits goes on, unless the call has ended.
    func giveUp(_ announce: () -> Void = {}) {
        let isUnderWay = state.withLock { state in
            guard state.result == nil, !state.isGivenUp else { return false }
            state.isGivenUp = true
            return true
        }
        guard isUnderWay else { return }
        announce()
        let waiter = state.withLock { state in
            state.isTold = true
            return state.waiter.take()
        }
        waiter?.resume(returning: .failure(.cancelled))
    }
}
