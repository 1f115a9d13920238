import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

/// What the daemon tells the service manager that started it, as sd_notify(3) has it. Nothing where there is none.
public final class ServiceNotices: Sendable {
    private struct State {
        var isReady = false
        var isStopping = false
        var status = ""
    }

    private let socket: NotifySocket?
    /// `WATCHDOG=1` is due that often; nil: never.
    let watchdog: Duration?
    private let state = Mutex(State())

    /// Drain and start go on for that long after each word of theirs.
    static let patience = Duration.seconds(60)

    /// - Parameter environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` count.
    public init(environment: [String: String] = [:]) {
        socket = environment["NOTIFY_SOCKET"].flatMap { NotifySocket(address: $0) }
        let isMeant = environment["WATCHDOG_PID"].map { $0 == String(getpid()) } ?? true
        let microseconds = environment["WATCHDOG_USEC"].flatMap { Int($0) } ?? 0
        watchdog = socket != nil && isMeant && microseconds > 0 ? .microseconds(microseconds) : nil
    }

    /// Somebody listens.
    var isHeard: Bool { socket != nil }

    /// All mounts were tried once.
    func ready() {
        state.withLock { $0.isReady = true }
        socket?.send("READY=1")
    }

    func beginReload() {
        guard state.withLock({ $0.isReady && !$0.isStopping }) else { return }
        socket?.send("RELOADING=1\nMONOTONIC_USEC=\(SystemClock.monotonic() / 1000)")
    }

    func endReload() {
        guard state.withLock({ $0.isReady && !$0.isStopping }) else { return }
        socket?.send("READY=1")
    }

    /// Once.
    func stopping() {
        let isNews = state.withLock { state in
            defer { state.isStopping = true }
            return !state.isStopping
        }
        if isNews { socket?.send("STOPPING=1\n\(Self.more)") }
    }

    /// What takes its time is not given up yet.
    func extend() { socket?.send(Self.more) }

    func alive() { socket?.send("WATCHDOG=1") }

    /// systemd passes over what is longer than 4,096 bytes, and goes on with what it was told before.
    private static let mostStatus = 1000

    /// One line for a person, told when it is another than before.
    func status(_ text: String) {
        let text = text.cut(to: Self.mostStatus)
        let isNews = state.withLock { state in
            defer { state.status = text }
            return state.status != text
        }
        if isNews { socket?.send("STATUS=\(text.split(separator: "\n").joined(separator: " "))") }
    }

    /// What was told goes out before the process ends.
    func flush() async {
        guard let socket else { return }
        _ = await within(.seconds(5)) { await socket.flush() }
    }

    private static var more: String { "EXTEND_TIMEOUT_USEC=\(patience.components.seconds * 1_000_000)" }
}
