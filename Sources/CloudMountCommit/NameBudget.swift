import CloudMountPlatform
package import CloudMountVFS
import Glibc
import Synchronization

/// What the names of directories that are being listed or are open, and the objects that moves gather, may take in memory together:
/// a store may list for ever, and any number of programs ask it to.
package final class NameBudget: Sendable {
    /// Of the process: a quarter of the machine's memory, and a GiB at least.
    package static let shared = NameBudget(limit: max(1 << 30, memory() / 4))

    private struct State {
        var taken = 0
        /// Rooms that have some of it, and those among them that wait for more.
        var holders = 0
        var waitingHolders = 0
        var waiting = 0
    }

    fileprivate enum Verdict {
        case granted
        /// Others may give something back.
        case later
        case refused
    }

    private let limit: Int
    /// Bytes of each room that do not count: nearly all directories are smaller.
    fileprivate let free: Int
    fileprivate let patience: Duration
    private let state = Mutex(State())
    private let waiters = Waiters()

    /// - Parameter patience: how long others are waited for.
    package init(limit: Int, free: Int = 2 << 20, patience: Duration = .seconds(15)) {
        (self.limit, self.free, self.patience) = (limit, free, patience)
    }

    package var used: Int { state.withLock { $0.taken } }
    package var waiting: Int { state.withLock { $0.waiting } }

    package func room() -> NameRoom { NameRoom(self) }

    private static func memory() -> Int {
        let (pages, size) = (sysconf(Int32(_SC_PHYS_PAGES)), sysconf(Int32(_SC_PAGESIZE)))
        return pages > 0 && size > 0 ? pages * size : 0
    }

    fileprivate func take(_ more: Int, held: Int, isWaiting: Bool = false, takes: Bool = true) -> Verdict {
        state.withLock { state in
            let isOthersTurn = state.waiting > (isWaiting ? 1 : 0)
            if state.taken + more <= limit, !isOthersTurn || held + more <= limit / 2 {
                guard takes else { return .granted }
                state.taken += more
                if held == 0 { state.holders += 1 }
                return .granted
            }
            // Whoever waits gives nothing back, and the last one that could does not wait for the others.
            let own = held > 0 ? 1 : 0
            let active = state.holders - own - (state.waitingHolders - (isWaiting ? own : 0))
            return active > 0 && !(isOthersTurn && !isWaiting && held > limit / 2) ? .later : .refused
        }
    }

    fileprivate func takeInTurn(_ more: Int, held: Int) async -> Bool {
        switch take(more, held: held) {
        case .granted: return true
        case .refused: return false
        case .later: break
        }
        count(held, 1)
        defer { count(held, -1) }
        let deadline = ContinuousClock.now + patience
        while ContinuousClock.now < deadline, !Task.isCancelled {
            await waiters.wait(
                unless: { take(more, held: held, isWaiting: true, takes: false) != .later },
                for: deadline - ContinuousClock.now)
            switch take(more, held: held, isWaiting: true) {
            case .granted: return true
            case .refused: return false
            case .later: break
            }
        }
        return false
    }

    private func count(_ held: Int, _ change: Int) {
        state.withLock { state in
            state.waiting += change
            if held > 0 { state.waitingHolders += change }
        }
        waiters.resume()
    }

    fileprivate func give(_ held: Int) {
        if held == 0 { return }
        state.withLock { state in
            state.taken -= held
            state.holders -= 1
        }
        waiters.resume()
    }
}

/// The part of the budget that one listing or one move has, until nobody has it any more.
package final class NameRoom: Sendable {
    private let budget: NameBudget
    private let held = Atomic(0)

    fileprivate init(_ budget: NameBudget) { self.budget = budget }

    deinit { budget.give(held.load(ordering: .relaxed)) }

    /// Has room for so many bytes altogether. For one at a time.
    /// - Throws: `tooLarge` when there is none, nor will be soon.
    package func cover(_ bytes: Int) async throws(VFSError) {
        let held = held.load(ordering: .relaxed)
        let more = bytes - budget.free - held
        if more <= 0 { return }
        guard await budget.takeInTurn(more, held: held) else {
            if Task.isCancelled { throw .cancelled }
            throw VFSError(
                .tooLarge, "there is no memory for more names: others are being listed or moved, or too many")
        }
        self.held.wrappingAdd(more, ordering: .relaxed)
    }
}
