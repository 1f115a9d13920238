import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// One `perform`: its request, where the answer goes, and the task that waits.
final class Transfer: TransferMeter.Expirable, @unchecked Sendable {
    // SAFETY: the task that makes it writes `continuation` and then pushes it to the queue, whose lock publishes it. From
    // there on until the continuation is resumed the transfer thread alone touches the properties, except `cancelled`,
    // which is atomic.
    typealias Outcome = Result<HTTPResponse, HTTPError>

    var request: HTTPRequest
    var target: HTTPBodyTarget
    var continuation: UnsafeContinuation<Outcome, Never>?
    var outcome: Outcome?
    /// The handle that carries it, from its start to its end.
    var easy: EasyHandle?
    /// Of the call that the transfer belongs to.
    let meter: TransferMeter?
    private let cancelled = Atomic(false)

    private let queue: TransferQueue

    init(_ request: HTTPRequest, _ target: HTTPBodyTarget, _ queue: TransferQueue, meter: TransferMeter? = nil) {
        self.request = request
        self.queue = queue
        self.target = target
        self.meter = meter
    }

    var isCancelled: Bool { cancelled.load(ordering: .acquiring) }

    /// Ends it, from any thread.
    func expire() {
        cancelled.store(true, ordering: .releasing)
        queue.push(.cancel(self))
    }

    /// Lets go of source and sink, for the waiting task may do with them what it likes.
    func end(_ outcome: Outcome) {
        easy = nil
        request.body = nil
        target = .memory
        self.outcome = outcome
    }

    /// Once, after `end`.
    func resume() {
        guard let outcome, let continuation else { return }
        self.continuation = nil
        self.outcome = nil
        continuation.resume(returning: outcome)
    }
}
