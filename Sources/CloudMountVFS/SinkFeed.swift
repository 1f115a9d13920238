import Synchronization

/// Lets a provider whose bytes do not come from `CloudMountHTTP` honour a sink's pauses.
///
/// Make one per read, before the first byte; after a verdict of `pause`, await `resumed()` and offer the same bytes again.
public final class SinkFeed: Sendable {
    private struct State {
        var open = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    /// Attaches itself to `sink`.
    public init(_ sink: any ByteSink) {
        sink.attach { [weak self] in self?.wake() }
    }

    /// Returns after `resume`, at once when that was called since the last return.
    /// - Throws: `cancelled` when the task is.
    public func resumed() async throws(VFSError) {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let ready = state.withLock { state in
                    if state.open || Task.isCancelled { return true }
                    state.waiter = continuation
                    return false
                }
                if ready { continuation.resume() }
            }
        } onCancel: {
            wake()
        }
        state.withLock { $0.open = false }
        if Task.isCancelled { throw .cancelled }
    }

    private func wake() {
        let waiter = state.withLock { state in
            state.open = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }
}
