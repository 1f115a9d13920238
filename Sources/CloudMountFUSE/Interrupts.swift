import Synchronization

/// Who wants to hear that its caller was interrupted, by the kernel's number of the request.
///
/// The kernel says so once per request, perhaps before the file system has asked to be told: such a one is remembered.
final class Interrupts: Sendable {
    private struct State {
        var actions: [UInt64: @Sendable () -> Void] = [:]
        // Most belong to requests that were answered without asking, so old ones are dropped.
        var early: [UInt64] = []
    }

    private static let earlyLimit = 256
    private let state = Mutex(State())

    /// Has `action` run once when the request is interrupted; at once when it was already.
    func watch(_ unique: UInt64, _ action: @escaping @Sendable () -> Void) {
        let interrupted = state.withLock { state in
            if let index = state.early.firstIndex(of: unique) {
                state.early.remove(at: index)
                return true
            }
            state.actions[unique] = action
            return false
        }
        if interrupted { action() }
    }

    /// The request is about to be answered.
    func unwatch(_ unique: UInt64) {
        state.withLock { _ = $0.actions.removeValue(forKey: unique) }
    }

    func interrupt(_ unique: UInt64) {
        let action: (@Sendable () -> Void)? = state.withLock { state in
            if let action = state.actions.removeValue(forKey: unique) { return action }
            if state.early.count == Self.earlyLimit { state.early.removeFirst(Self.earlyLimit / 2) }
            state.early.append(unique)
            return nil
        }
        action?()
    }
}
