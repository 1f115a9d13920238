import CloudMountVFS
import Synchronization

/// Ends the wait for a call that has not been answered for far longer than anything takes, so that a test fails instead
/// of hanging.
final class Watchdog: Sendable {
    static let shared = Watchdog()
    static let limit = Duration.seconds(120)

    /// The continuation is resumed by whoever comes first: the reply, or the limit.
    func watch<Value: Sendable>(
        _ continuation: CheckedContinuation<Result<Value, VFSError>, Never>
    ) -> @Sendable (Result<Value, VFSError>) -> Void {
        let slot = Once(continuation)
        let timer = Task {
            try? await Task.sleep(for: Watchdog.limit)
            if Task.isCancelled { return }
            slot.take()?.resume(returning: .failure(Mount.hung))
        }
        return { result in
            timer.cancel()
            slot.take()?.resume(returning: result)
        }
    }
}

private final class Once<Value: Sendable>: Sendable {
    private let continuation: Mutex<CheckedContinuation<Result<Value, VFSError>, Never>?>

    init(_ continuation: CheckedContinuation<Result<Value, VFSError>, Never>) {
        self.continuation = Mutex(continuation)
    }

    func take() -> CheckedContinuation<Result<Value, VFSError>, Never>? {
        continuation.withLock { slot in
            defer { slot = nil }
            return slot
        }
    }
}

/// Lets one task after the other through, in the order of their coming.
package final class Turnstile: Sendable {
    private struct State {
        var isTaken = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    package init() {}

    package func enter() async {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                guard state.isTaken else {
                    state.isTaken = true
                    return true
                }
                state.waiting.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
    }

    package func leave() {
        let next: CheckedContinuation<Void, Never>? = state.withLock { state in
            guard !state.waiting.isEmpty else {
                state.isTaken = false
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }
}

/// Closed until it is opened, then open for ever.
package final class Gate: Sendable {
    private let state = Mutex<(isOpen: Bool, waiting: [CheckedContinuation<Void, Never>])>((false, []))

    package init() {}

    package func wait() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    package func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    package var isOpen: Bool { state.withLock { $0.isOpen } }
}
