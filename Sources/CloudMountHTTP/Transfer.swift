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
    /// A small body that is being read before the start; nil once it need not be waited for.
    var loading: ReadAhead?
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
        loading = nil
        request.body = nil
        target = .memory
        self.outcome = outcome
    }

    /// Has a stretch of the body read where that may block; the queue brings it back. Uploads to one endpoint may hold up
    /// each other there, and no others.
    func read(_ stretch: ReadAhead, from source: any ByteSource) {
        let scheme = request.url.utf8.firstRange(of: "://".utf8)?.upperBound ?? request.url.startIndex
        let authority = request.url[scheme...].prefix { $0 != "/" }
        BlockingPool.shared.submit("send \(authority)") { [self, queue] in
            stretch.fill(from: source)
            queue.push(.loaded(self, stretch))
        }
    }

    /// Once, after `end`.
    func resume() {
        guard let outcome, let continuation else { return }
        self.continuation = nil
        self.outcome = nil
        continuation.resume(returning: outcome)
    }
}
