public import CloudMountVFS
import Synchronization

/// What one verb has done since the start.
public struct VerbMeasurement: Sendable, Equatable {
    /// Finished calls, failed ones included; a retry is a call of its own.
    public var calls = 0
    /// Calls that ended in an error. Absence, cancellation and unmet preconditions are answers, not errors.
    public var errors = 0
    public var inFlight = 0
    public var bytesUp = 0
    public var bytesDown = 0
    /// From start to end of the finished calls.
    public var latencySum: Duration = .zero
    public var latencyMax: Duration = .zero
    /// Calls by duration: bucket `i` counts those shorter than `2^i` milliseconds and not shorter than the bucket before;
    /// the last one has no upper bound.
    public var histogram = [Int](repeating: 0, count: 16)

    public var latencyMean: Duration { calls == 0 ? .zero : latencySum / calls }
}

/// Counters of one mount.
public final class Measurements: Sendable {
    private let state = Mutex<[VerbMeasurement]>(
        [VerbMeasurement](repeating: VerbMeasurement(), count: Verb.allCases.count))

    public init() {}

    /// The verbs that were called, as they stand now.
    public func snapshot() -> [Verb: VerbMeasurement] {
        let all = state.withLock { $0 }
        var result: [Verb: VerbMeasurement] = [:]
        for verb in Verb.allCases where all[verb.index].calls + all[verb.index].inFlight > 0 {
            result[verb] = all[verb.index]
        }
        return result
    }

    func begin(_ verb: Verb) { state.withLock { $0[verb.index].inFlight += 1 } }

    func end(_ verb: Verb, after latency: Duration, bytesUp: Int = 0, bytesDown: Int = 0, failed: Bool) {
        let slot = Self.slot(latency)
        state.withLock { all in
            let index = verb.index
            all[index].inFlight -= 1
            all[index].calls += 1
            if failed { all[index].errors += 1 }
            all[index].bytesUp += bytesUp
            all[index].bytesDown += bytesDown
            all[index].latencySum += latency
            if latency > all[index].latencyMax { all[index].latencyMax = latency }
            all[index].histogram[slot] += 1
        }
    }

    static func slot(_ latency: Duration) -> Int {
        let (seconds, attoseconds) = latency.components
        let milliseconds = UInt64(clamping: seconds) * 1000 + UInt64(clamping: attoseconds / 1_000_000_000_000_000)
        return min(15, UInt64.bitWidth - milliseconds.leadingZeroBitCount)
    }
}

extension Verb {
    var index: Int {
        switch self {
        case .prepare: 0
        case .list: 1
        case .head: 2
        case .read: 3
        case .put: 4
        case .copy: 5
        case .delete: 6
        case .beginUpload: 7
        case .uploadPart: 8
        case .copyPart: 9
        case .completeUpload: 10
        case .abortUpload: 11
        case .listParts: 12
        case .versions: 13
        case .move: 14
        case .space: 15
        }
    }
}

/// Counts every call into `measurements`.
public struct MeasureLayer: ProviderLayer {
    public let inner: any ObjectProvider
    public let measurements: Measurements

    public init(_ inner: any ObjectProvider, into measurements: Measurements) {
        self.inner = inner
        self.measurements = measurements
    }

    public func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        try await measured(call, { _ in 0 }) { () throws(VFSError) in try await body(inner) }
    }

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        let delivered = { @Sendable (info: ObjectInfo) in
            let whole = Extent(0, info.size)
            return (request.extent.map(whole.intersection) ?? whole).count
        }
        return try await measured(ProviderCall(request), delivered) { () throws(VFSError) in
            try await inner.read(request, into: sink)
        }
    }

    private func measured<Value: Sendable>(
        _ call: ProviderCall, _ bytesDown: (Value) -> Int, _ body: () async throws(VFSError) -> Value
    ) async throws(VFSError) -> Value {
        let start = ContinuousClock.now
        measurements.begin(call.verb)
        do throws(VFSError) {
            let value = try await body()
            measurements.end(
                call.verb, after: ContinuousClock.now - start, bytesUp: call.bytesUp, bytesDown: bytesDown(value),
                failed: false)
            return value
        } catch {
            measurements.end(call.verb, after: ContinuousClock.now - start, failed: !error.isAnswer)
            throw error
        }
    }
}

extension VFSError {
    /// The store (or the caller) said this in the ordinary course of things; nothing is wrong with the way to it.
    var isAnswer: Bool {
        switch code {
        case .notFound, .alreadyExists, .preconditionFailed, .uploadNotFound, .stale, .cancelled, .notSupported: true
        default: false
        }
    }
}
