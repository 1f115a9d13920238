import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// The transport of the process: one thread drives one libcurl multi handle for all providers and mounts.
///
/// Also an executor: a task that waits for answers and does little with them runs best on the thread that brings them.
public final class HTTPEngine: TaskExecutor {
    public static let shared = HTTPEngine()

    private let queue = TransferQueue()
    private let tally: TransferTally
    private let isRunning = Atomic(false)
    private let starting = Mutex(())

    init(answers: AnswerBudget = .shared) { tally = TransferTally(answers: answers) }

    /// Starts the transfer thread unless it runs, as it does from the first transfer on. Blocks for a moment.
    /// - Returns: false when the system refuses what it needs; the next transfer tries again.
    private func start() -> Bool {
        if isRunning.load(ordering: .acquiring) { return true }
        return starting.withLock { _ in
            if isRunning.load(ordering: .acquiring) { return true }
            let tried = CloudMountPlatform.Semaphore()
            let (executor, queue, tally) = (asUnownedTaskExecutor(), queue, tally)
            let starts = NamedThread.start("cm-transfer") {
                let loop = TransferLoop(executor, queue, tally)
                self.isRunning.store(loop != nil, ordering: .releasing)
                tried.signal()
                loop?.run()
            }
            if starts { tried.wait() }
            return isRunning.load(ordering: .acquiring)
        }
    }

    /// Runs a step of a task on the transfer thread.
    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if start() { return queue.push(.run(job)) }
        // The task goes on, and its requests fail.
        let executor = asUnownedTaskExecutor()
        BlockingPool.shared.submit { job.runSynchronously(on: executor) }
    }

    /// Sends `request` and waits for the whole answer, of any status.
    ///
    /// A kept-alive connection that turns out dead before the first byte of an answer is replaced and the request sent
    /// again, once, without the caller knowing. When the calling task is cancelled the transfer stops at once. Once this
    /// has returned or thrown, the target's sink is touched no more, nor is the request's source, unless a read of it is
    /// under way that hangs: its bytes go nowhere.
    ///
    /// The source is read on the transfer thread as far as its bytes are there at once (`readNow`), else on the blocking
    /// pool while the transfer waits. Such a wait is for whoever bounds the call (`TransferMeter`).
    public func perform(
        _ request: HTTPRequest, body target: HTTPBodyTarget = .memory
    ) async throws(HTTPError) -> HTTPResponse {
        guard start() else {
            throw HTTPError(.noRoom, "the system refuses the thread or the descriptors for transfers")
        }
        let transfer = Transfer(request, target, queue, meter: TransferMeter.current)
        transfer.meter?.enter(transfer)
        defer { transfer.meter?.leave(transfer) }
        let result = await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                transfer.continuation = continuation
                queue.push(.start(transfer))
            }
        } onCancel: {
            transfer.expire()
        }
        return try result.get()
    }

    /// What the transport has done since the process started.
    public var counters: HTTPCounters { tally.counters }
}
