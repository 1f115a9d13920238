import Synchronization

/// What the transport has done since the process started, and what it is doing.
public struct HTTPCounters: Sendable, Equatable {
    public var activeTransfers = 0
    /// Transfers that have ended, whatever their outcome.
    public var requests = 0
    /// Those that ended without a complete answer, cancelled ones included.
    public var failures = 0
    public var connectionsOpened = 0
    /// Transfers served by a connection that an earlier one had opened.
    public var connectionsReused = 0
    /// Requests sent again because a kept-alive connection was dead.
    public var resent = 0
    /// Bodies only.
    public var bytesReceived = 0
    /// Bodies only; counted when the transport takes them from their source.
    public var bytesSent = 0

    public init() {}
}

/// The counters as the transfer thread keeps them.
final class TransferTally: Sendable {
    let activeTransfers = Atomic(0)
    let requests = Atomic(0)
    let failures = Atomic(0)
    let connectionsOpened = Atomic(0)
    let connectionsReused = Atomic(0)
    let resent = Atomic(0)
    let bytesReceived = Atomic(0)
    let bytesSent = Atomic(0)
    /// What the answers that it collects take their room from.
    let answers: AnswerBudget

    init(answers: AnswerBudget) { self.answers = answers }

    var counters: HTTPCounters {
        var counters = HTTPCounters()
        counters.activeTransfers = activeTransfers.load(ordering: .relaxed)
        counters.requests = requests.load(ordering: .relaxed)
        counters.failures = failures.load(ordering: .relaxed)
        counters.connectionsOpened = connectionsOpened.load(ordering: .relaxed)
        counters.connectionsReused = connectionsReused.load(ordering: .relaxed)
        counters.resent = resent.load(ordering: .relaxed)
        counters.bytesReceived = bytesReceived.load(ordering: .relaxed)
        counters.bytesSent = bytesSent.load(ordering: .relaxed)
        return counters
    }
}

extension Atomic where Value == Int {
    /// Adds without a locked instruction: only the transfer thread writes.
    @inline(__always)
    func add(_ amount: Int) {
        store(load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }
}
