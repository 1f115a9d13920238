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
        /// What wakes the transfer thread, while it sleeps.
        var sleeper: EventDescriptor?
    }

    private let state = Mutex(State())

    func push(_ command: Command) {
        let sleeper = state.withLock { state in
            state.commands.append(command)
            return state.sleeper.take()
        }
        sleeper?.signal()
    }

    /// Swaps what is queued with `commands`, which is empty.
    func take(_ commands: inout [Command]) {
        state.withLock { state in
            state.sleeper = nil
            if !state.commands.isEmpty { swap(&state.commands, &commands) }
        }
    }

    /// False when there is something to take; otherwise the next push signals `wakeup`.
    func sleep(until wakeup: EventDescriptor) -> Bool {
        state.withLock { state in
            state.sleeper = state.commands.isEmpty ? wakeup : nil
            return state.sleeper != nil
        }
    }
}
