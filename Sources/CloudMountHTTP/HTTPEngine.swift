import CloudMountPlatform

/// The transport of the process: one thread drives one libcurl multi handle for all providers and mounts.
public final class HTTPEngine: Sendable {
    public static let shared = HTTPEngine()

    private let queue: TransferQueue
    private let tally: TransferTally

    private init() {
        let queue = TransferQueue()
        let tally = TransferTally()
        self.queue = queue
        self.tally = tally
        NamedThread("cm-transfer") { TransferLoop(queue, tally).run() }.detach()
    }

    /// Sends `request` and waits for the whole answer, of any status.
    ///
    /// A kept-alive connection that turns out dead before the first byte of an answer is replaced and the request sent
    /// again, once, without the caller knowing. When the calling task is cancelled the transfer stops at once. Once this
    /// has returned or thrown, neither the request's source nor the target's sink is touched any more.
    public func perform(
        _ request: HTTPRequest, body target: HTTPBodyTarget = .memory
    ) async throws(HTTPError) -> HTTPResponse {
        let transfer = Transfer(request, target)
        let result = await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                transfer.continuation = continuation
                queue.push(.start(transfer))
            }
        } onCancel: {
            transfer.cancel()
            queue.push(.cancel(transfer))
        }
        return try result.get()
    }

    /// What the transport has done since the process started.
    public var counters: HTTPCounters { tally.counters }
}
