import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// The one thread that writes. It takes all that waits, carries it out in one transaction, and answers.
final class JournalWriter: Sendable {
    private struct Request: Sendable {
        let changes: [Journal.Change]
        let answer: @Sendable (VFSError?) -> Void
    }

    private struct State {
        var waiting: [Request] = []
        var isClosing = false
        var counts = Journal.Counts()
    }

    private let database: JournalDatabase
    private let state = Mutex(State())
    private let work = Semaphore()
    private let closed = Semaphore()

    init(_ database: JournalDatabase) { self.database = database }

    var counts: Journal.Counts { state.withLock { $0.counts } }

    /// - Parameter answer: called once, on the writer's thread or, after `close`, on this one.
    func submit(_ changes: [Journal.Change], answer: @escaping @Sendable (VFSError?) -> Void) {
        let isTaken = state.withLock { state in
            guard !state.isClosing else { return false }
            state.waiting.append(Request(changes: changes, answer: answer))
            state.counts.asked += 1
            return true
        }
        if isTaken { work.signal() } else { answer(JournalDatabase.isClosed) }
    }

    /// What waits is still carried out.
    func close() {
        state.withLock { $0.isClosing = true }
        work.signal()
    }

    func waitUntilClosed() {
        closed.wait()
        // The next one that waits.
        closed.signal()
    }

    /// The thread's body; it ends after `close`.
    @Sendable func run() {
        var isClosing = false
        while !isClosing {
            work.wait()
            let requests = state.withLock { state in
                defer { state.waiting = [] }
                isClosing = state.isClosing
                return state.waiting
            }
            if !requests.isEmpty { carryOut(requests) }
        }
        database.close()
        closed.signal()
    }

    private func carryOut(_ requests: [Request]) {
        let error = transact(requests.flatMap(\.changes))
        guard error != nil, requests.count > 1 else { return answer(requests, error) }
        // One that cannot be done must not fail the others.
        for request in requests { answer([request], transact(request.changes)) }
    }

    private func answer(_ requests: [Request], _ error: VFSError?) {
        if error == nil { state.withLock { $0.counts.commits += requests.count } }
        for request in requests { request.answer(error) }
    }

    private func transact(_ changes: [Journal.Change]) -> VFSError? {
        do throws(VFSError) {
            try database.apply(changes)
            state.withLock { $0.counts.transactions += 1 }
            return nil
        } catch {
            return error
        }
    }
}
