import CCurl
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// The transfer thread: owner of the multi handle, of all easy handles and of their sockets.
final class TransferLoop {
    /// Easy handles kept for the next transfers.
    private static let idleLimit = 128
    /// How often transfers are looked at for standing still.
    private static let sweepPeriod: UInt64 = 250_000_000

    /// Commands of commands that are obeyed before the sockets are looked at again.
    private static let rounds = 4

    private let executor: UnownedTaskExecutor
    private let queue: TransferQueue
    private let tally: TransferTally
    private let multi: UnsafeMutableRawPointer
    /// TLS sessions, for all connections to take up again. (Names are shared by the multi handle itself.)
    private let share: UnsafeMutableRawPointer?
    private let poller: Poller
    private let wakeup: EventDescriptor
    private let sockets: SocketTable

    private var active: [EasyHandle] = []
    private var idle: [EasyHandle] = []
    private var ended: [Transfer] = []
    private var commands: [TransferQueue.Command] = []
    private var now = SystemClock.monotonic()
    /// When libcurl wants to be called though no socket is ready.
    private var timer: UInt64?
    private var nextSweep: UInt64 = 0

    /// Nil when the process has no descriptors or no memory left for it.
    init?(_ executor: UnownedTaskExecutor, _ queue: TransferQueue, _ tally: TransferTally) {
        curl_global_init(Int(CURL_GLOBAL_DEFAULT))
        guard let poller = Poller(), let wakeup = EventDescriptor(),
            poller.set(wakeup.raw, [.read, .edge], isNew: true), let multi = curl_multi_init()
        else { return nil }
        self.poller = poller
        self.wakeup = wakeup
        self.executor = executor
        self.queue = queue
        self.tally = tally
        self.multi = multi
        share = curl_share_init()
        if let share { cm_share_sessions(share) }
        sockets = SocketTable(poller, tally)
        cm_multi_set_long(multi, CURLMOPT_PIPELINING, Int(CURLPIPE_NOTHING))
        // More than all endpoints together may have in use, so that a busy one does not cost another its idle connections.
        cm_multi_set_long(multi, CURLMOPT_MAXCONNECTS, 2048)
        cm_multi_on_socket(
            multi,
            { _, fd, what, user, _ in
                SocketTable.at(user).want(fd, what)
                return 0
            }, Unmanaged.passUnretained(sockets).toOpaque())
        // SAFETY: the thread's body holds the loop and never returns.
        cm_multi_on_timer(
            multi,
            { _, milliseconds, user in
                Unmanaged<TransferLoop>.fromOpaque(user.unsafelyUnwrapped).takeUnretainedValue().setTimer(milliseconds)
                return 0
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    /// Never returns.
    func run() {
        // Signals are for the threads that expect them; a write to a broken TLS connection would raise SIGPIPE here.
        var all = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, nil)
        while true {
            obey()
            if let due = timer, due <= now { call(CURL_SOCKET_TIMEOUT, 0) }
            if now >= nextSweep, !active.isEmpty { sweep() }
            finish()
            sockets.applyWishes()
            let count = poller.wait(milliseconds: queue.sleep(until: wakeup) ? patience : 0)
            now = SystemClock.monotonic()
            for index in 0..<count {
                let (fd, ready) = poller[index]
                if fd == wakeup.raw { continue }
                let selected = sockets.selected(fd, ready)
                if selected != 0 { call(fd, selected) }
            }
            if count > 0 { finish() }
        }
    }

    /// Milliseconds that may be slept.
    private var patience: Int32 {
        var until = active.isEmpty ? UInt64.max : nextSweep
        if let timer { until = min(until, timer) }
        guard until != .max else { return -1 }
        return until <= now ? 0 : Int32(clamping: (until - now + 999_999) / 1_000_000)
    }

    private func setTimer(_ milliseconds: Int) {
        timer = milliseconds < 0 ? nil : now + UInt64(milliseconds) * 1_000_000
    }

    private func call(_ fd: curl_socket_t, _ selected: Int32) {
        if fd == CURL_SOCKET_TIMEOUT { timer = nil }
        var running: Int32 = 0
        curl_multi_socket_action(multi, fd, selected, &running)
    }

    // MARK: Commands

    private func obey() {
        // Steps of tasks bring new commands; sockets and timers have their turn before long all the same.
        for _ in 0..<Self.rounds where obeyOnce() == 0 { return }
    }

    private func obeyOnce() -> Int {
        queue.take(&commands)
        let count = commands.count
        for command in commands {
            switch command {
            case .start(let transfer): start(transfer)
            case .cancel(let transfer):
                if let easy = transfer.easy {
                    end(easy, .failure(HTTPError(.cancelled, "the transfer was cancelled")))
                } else if transfer.loading != nil {
                    refuse(transfer, HTTPError(.cancelled, "the transfer was cancelled"))
                }
            case .resume(let transfer):
                if let easy = transfer.easy { resume(easy) }
            case .loaded(let transfer, let stretch): loaded(transfer, stretch)
            case .run(let job): job.runSynchronously(on: executor)
            }
        }
        commands.removeAll(keepingCapacity: true)
        return count
    }

    private func start(_ transfer: Transfer) {
        guard !transfer.isCancelled else {
            return refuse(transfer, HTTPError(.cancelled, "the transfer was cancelled"))
        }
        guard let easy = idle.popLast() ?? EasyHandle(queue: queue, tally: tally, share: share, sockets: sockets)
        else { return refuse(transfer, HTTPError(.malformed, "libcurl has no memory for another transfer")) }
        do throws(HTTPError) {
            guard try easy.prepare(transfer) else {
                shelve(easy)
                return load(transfer)
            }
        } catch {
            shelve(easy)
            return refuse(transfer, error)
        }
        if active.isEmpty { nextSweep = now + Self.sweepPeriod }
        transfer.easy = easy
        easy.position = active.count
        active.append(easy)
        tally.activeTransfers.add(1)
        let code = curl_multi_add_handle(multi, easy.raw)
        if code != CURLM_OK {
            end(easy, .failure(HTTPError(.malformed, String(cString: curl_multi_strerror(code)))))
        }
    }

    private func resume(_ easy: EasyHandle) {
        guard easy.isPaused else { return }
        easy.isPaused = false
        goOn(easy)
    }

    private func goOn(_ easy: EasyHandle) {
        easy.pulse.hold()
        let holds = (easy.isPaused ? CURLPAUSE_RECV : 0) | (easy.isHungry ? CURLPAUSE_SEND : 0)
        let code = curl_easy_pause(easy.raw, holds)
        // The sink may have refused the bytes that libcurl held back for it.
        if code != CURLE_OK { end(easy, easy.outcome(code)) }
    }

    // MARK: Bodies that are not there at once

    /// Has a small body read before the transfer starts.
    private func load(_ transfer: Transfer) {
        guard let source = transfer.request.body else { return }
        let stretch = ReadAhead(offset: 0, count: source.count)
        transfer.loading = stretch
        transfer.read(stretch, from: source)
    }

    private func loaded(_ transfer: Transfer, _ stretch: ReadAhead) {
        stretch.isReading = false
        if transfer.loading === stretch {
            transfer.loading = nil
            if case .failure(let error) = stretch.outcome { return refuse(transfer, error) }
            transfer.request.body = stretch
            return start(transfer)
        }
        // Nobody may want it any more.
        guard let easy = transfer.easy, easy.ahead === stretch else { return }
        if case .failure(let error) = stretch.outcome { return end(easy, .failure(error)) }
        guard easy.isHungry else { return }
        easy.isHungry = false
        goOn(easy)
    }

    // MARK: Ends

    /// Takes libcurl's verdicts and wakes the tasks that wait for them.
    private func finish() {
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi, &left) {
            guard message.pointee.msg == CURLMSG_DONE, let raw = message.pointee.easy_handle else { continue }
            let code = message.pointee.data.result
            let easy = EasyHandle.at(cm_easy_user(raw))
            if easy.isSafe, easy.diedUnheard(code), repeatOnFreshConnection(easy) { continue }
            end(easy, easy.outcome(code))
        }
        guard !ended.isEmpty else { return }
        for transfer in ended { transfer.resume() }
        ended.removeAll(keepingCapacity: true)
    }

    private func repeatOnFreshConnection(_ easy: EasyHandle) -> Bool {
        curl_multi_remove_handle(multi, easy.raw)
        easy.rewind()
        easy.onFreshConnection = true
        cm_easy_set_long(easy.raw, CURLOPT_FRESH_CONNECT, 1)
        return curl_multi_add_handle(multi, easy.raw) == CURLM_OK
    }

    private func end(_ easy: EasyHandle, _ outcome: Transfer.Outcome) {
        tally.requests.add(1)
        if case .failure = outcome { tally.failures.add(1) }
        if easy.attempts > 1 { tally.resent.add(easy.attempts - 1) }
        if easy.reusedConnection { tally.connectionsReused.add(1) }
        curl_multi_remove_handle(multi, easy.raw)
        active[easy.position] = active[active.count - 1]
        active[easy.position].position = easy.position
        active.removeLast()
        tally.activeTransfers.add(-1)
        tell(easy)
        let transfer = easy.transfer
        shelve(easy)
        if let transfer {
            transfer.end(outcome)
            ended.append(transfer)
        }
    }

    private func refuse(_ transfer: Transfer, _ error: HTTPError) {
        tally.requests.add(1)
        tally.failures.add(1)
        transfer.end(.failure(error))
        ended.append(transfer)
    }

    private func shelve(_ easy: EasyHandle) {
        easy.clear()
        if !easy.isSpent, idle.count < Self.idleLimit { idle.append(easy) }
    }

    // MARK: Standing still

    private func sweep() {
        nextSweep = now + Self.sweepPeriod
        var stalled: [EasyHandle] = []
        var overdue: [EasyHandle] = []
        var late: [EasyHandle] = []
        for easy in active {
            if easy.pulse.isOver(at: now) {
                late.append(easy)
                continue
            }
            // While it connects, libcurl's connect timeout rules.
            if easy.isPaused || easy.isHungry || easy.attempts == 0 {
                easy.pulse.hold()
                if easy.isPaused { easy.transfer?.meter?.hold() }
            } else if easy.pulse.isStalled(
                at: now, unsent: { unsentBytes(onSocket: cm_easy_socket(easy.raw)) })
            {
                stalled.append(easy)
            } else if easy.isCollecting, easy.pulse.isOverdue(at: now) {
                overdue.append(easy)
            }
            tell(easy)
        }
        for easy in stalled {
            let patience = easy.transfer?.request.options.stallTimeout ?? .zero
            end(easy, .failure(HTTPError(.stalled, "next to nothing moved for \(patience)")))
        }
        for easy in late {
            let patience = easy.transfer?.request.options.wholeTimeout ?? .zero
            end(easy, .failure(HTTPError(.stalled, "it was not over within \(patience)")))
        }
        for easy in overdue {
            let patience = easy.transfer?.request.options.answerTimeout ?? .zero
            end(easy, .failure(HTTPError(.stalled, "the answer had no end within \(patience)")))
        }
    }

    /// Tells the call that waits for the transfer what has moved.
    private func tell(_ easy: EasyHandle) {
        guard let transfer = easy.transfer, let meter = transfer.meter else { return }
        let news = easy.pulse.news()
        meter.add(news)
        if news > 0, easy.hasHead, transfer.request.options.stallBytesPerSecond == 0 { meter.hold() }
    }
}
