import CloudMountPlatform
import Synchronization

/// The way from any thread to the transfer thread, in order. A push costs a system call only when that thread sleeps.
final class TransferQueue: Sendable {
    enum Command: Sendable {
        case start(Transfer)
        case cancel(Transfer)
        /// The sink has room again.
        case resume(Transfer)
        /// Bytes of the body have been read, all or the ones that were waited for.
        case loaded(Transfer, ReadAhead)
        /// A step of a task that prefers the transfer thread.
        case run(UnownedJob)
    }

    private struct State {
        var commands: [Command] = []
        var asleep = false
    }

    private let state = Mutex(State())
    let wakeup = EventDescriptor()

    func push(_ command: Command) {
        let wake = state.withLock { state in
            state.commands.append(command)
            let asleep = state.asleep
            state.asleep = false
            return asleep
        }
        if wake { wakeup.signal() }
    }

    /// Swaps what is queued with `commands`, which is empty.
    func take(_ commands: inout [Command]) {
        state.withLock { state in
            state.asleep = false
            if !state.commands.isEmpty { swap(&state.commands, &commands) }
        }
    }

    /// False when there is something to take; otherwise the next push signals `wakeup`.
    func sleep() -> Bool {
        state.withLock { state in
            state.asleep = state.commands.isEmpty
            return state.asleep
        }
    }
}
