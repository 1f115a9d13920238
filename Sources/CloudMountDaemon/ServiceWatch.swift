import CloudMountFUSE
import CloudMountPlatform
import Logging

/// Tells the service manager how the mounts are, as long as the daemon runs: ready when each was tried once, and alive as long as
/// the threads that serve them move.
struct ServiceWatch: Sendable {
    private let notices: ServiceNotices
    private let supervisor: Supervisor
    private let logger: Logger

    init(_ notices: ServiceNotices, _ supervisor: Supervisor, logger: Logger) {
        self.notices = notices
        self.supervisor = supervisor
        self.logger = logger
    }

    /// Until the task is cancelled. Returns at once where nobody listens.
    func run() async {
        guard notices.isHeard else { return }
        var health = ThreadHealth(patience: (notices.watchdog ?? .seconds(60)) / 2)
        let period = min(.seconds(5), (notices.watchdog ?? .seconds(20)) / 4)
        var waits = DiskWaits()
        var isReady = false
        var extended = ContinuousClock.now
        while !Task.isCancelled {
            let look = await supervisor.serviceLook
            if !isReady, look.areTried {
                notices.ready()
                isReady = true
            }
            if look.isStopping { notices.stopping() }
            if !isReady || look.isStopping, .now - extended > ServiceNotices.patience / 4 {
                notices.extend()
                extended = .now
            }
            notices.status(look.text)
            if notices.watchdog != nil { await showLife(look, &health, &waits) }
            try? await Task.sleep(for: isReady ? period : min(period, .milliseconds(50)))
        }
    }

    /// Not those that may all wait for a disk.
    private static let pool = BlockingPool(name: "cm-look", width: 1)

    /// That this task runs says that Swift's threads and the supervisor do.
    private func showLife(_ look: ServiceLook, _ health: inout ThreadHealth, _ waits: inout DiskWaits) async {
        let pulses = look.running.map { ($0.name, $0.running.servingPulse) }
        let stuck = health.look(at: .now, pulses)
        let threads = pulses.contains(where: \.1.isBusy) ? await Self.pool.run { DiskWaits.current() } : []
        let diskWait = waits.look(at: .now, threads)
        // They look at a disk at other moments than at requests.
        let isDisk = diskWait >= health.patience / 2
        guard stuck.isEmpty || isDisk else {
            let names = stuck.joined(separator: ", ")
            logger.error("the threads that serve \(names) do not move; the watchdog is told nothing")
            return
        }
        if !stuck.isEmpty {
            logger.error(
                "the threads that serve \(stuck.joined(separator: ", ")) wait for a local disk, which nothing but the disk ends"
            )
        }
        let executors = look.running.compactMap(\.running.executor)
        let answers = await within(health.patience) {
            for executor in executors { await Task(executorPreference: executor) {}.value }
            return true
        }
        guard answers != nil else {
            logger.error("the thread of all transfers does not move; the watchdog is told nothing")
            return
        }
        notices.alive()
    }
}

/// The mounts, as the service manager is told of them.
struct ServiceLook: Sendable {
    /// Each came up or failed once.
    var areTried = true
    var isStopping = false
    /// Of each mount that is not up, the reason.
    var failures: [String] = []
    var running: [(name: String, running: any RunningMount)] = []
    var starting = 0

    /// One line.
    var text: String {
        if isStopping { return "stopping: \(running.count) to be stored and unmounted" }
        var parts = ["\(running.count) \(running.count == 1 ? "mount serves" : "mounts serve")"]
        if starting > 0 { parts.append("\(starting) starting") }
        return (parts + failures).joined(separator: "; ")
    }
}

/// Which mounts' serving threads have not moved for too long: a value, without a clock of its own.
struct ThreadHealth {
    let patience: Duration
    private var last: [String: (pulse: ServingPulse, since: ContinuousClock.Instant)] = [:]

    /// - Parameter patience: for one request, which a thread answers or hands on.
    init(patience: Duration) { self.patience = patience }

    /// - Returns: the names of those that are stuck.
    mutating func look(at now: ContinuousClock.Instant, _ pulses: [(name: String, pulse: ServingPulse)]) -> [String] {
        let before = last
        last = [:]
        var stuck: [String] = []
        for (name, pulse) in pulses where pulse.isBusy {
            let since = before[name].flatMap { $0.pulse == pulse ? $0.since : nil } ?? now
            last[name] = (pulse, since)
            if now - since >= patience { stuck.append(name) }
        }
        return stuck
    }
}
