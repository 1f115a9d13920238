import CloudMountPlatform
import Synchronization

/// Who wants to hear that its caller was interrupted, by the kernel's number of the request.
///
/// The kernel says so once per request, at any signal, perhaps before the file system has asked to be told: such a one is
/// remembered. Programs do not expect EINTR from files because a timer went off or a child ended, so the action runs only
/// when `PendingSignals` says that the caller should give up; until then that is looked at again.
final class Interrupts: Sendable {
    private struct Watch: Sendable {
        let thread: Int32
        let action: @Sendable () -> Void
    }

    private struct State {
        var watches: [UInt64: Watch] = [:]
        // Most belong to requests that were answered without asking, so old ones are dropped.
        var early: [UInt64] = []
    }

    private static let earlyLimit = 256
    private static let pause = Duration.milliseconds(50)
    private let state = Mutex(State())
    private let pending: @Sendable (Int32) -> PendingSignals?

    /// - Parameter pending: the signals that a thread has not taken yet; nil when that cannot be told.
    init(pending: @escaping @Sendable (Int32) -> PendingSignals? = { PendingSignals(thread: $0) }) {
        self.pending = pending
    }

    /// Has `action` run once when the request is interrupted; at once when it was already.
    /// - Parameter thread: who waits for the answer.
    func watch(_ unique: UInt64, thread: Int32, _ action: @escaping @Sendable () -> Void) {
        let interrupted = state.withLock { state in
            state.watches[unique] = Watch(thread: thread, action: action)
            guard let index = state.early.firstIndex(of: unique) else { return false }
            state.early.remove(at: index)
            return true
        }
        if interrupted { decide(unique) }
    }

    /// The request is about to be answered.
    func unwatch(_ unique: UInt64) {
        state.withLock { _ = $0.watches.removeValue(forKey: unique) }
    }

    func interrupt(_ unique: UInt64) {
        let isWatched = state.withLock { state in
            if state.watches[unique] != nil { return true }
            if state.early.count == Self.earlyLimit { state.early.removeFirst(Self.earlyLimit / 2) }
            state.early.append(unique)
            return false
        }
        if isWatched { decide(unique) }
    }

    private func decide(_ unique: UInt64) {
        if runs(unique, waited: .zero) { return }
        Task {
            let start = ContinuousClock.now
            repeat { try? await Task.sleep(for: Self.pause) } while !runs(unique, waited: .now - start)
        }
    }

    /// Runs the action if it is time to.
    /// - Returns: false when that has to be asked again.
    private func runs(_ unique: UInt64, waited: Duration) -> Bool {
        guard let watch = state.withLock({ $0.watches[unique] }) else { return true }
        if let signals = pending(watch.thread), !signals.endWait(after: waited) { return false }
        state.withLock { $0.watches.removeValue(forKey: unique) }?.action()
        return true
    }
}
