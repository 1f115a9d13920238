public import CloudMountVFS
import Synchronization

/// Faults to be met by chosen calls, in a fixed order: what a test scripts happens, and nothing else.
public final class Faults: Sendable {
    public enum Effect: Sendable {
        /// Not carried out.
        case fail(VFSError)
        /// Carried out; the caller is told otherwise.
        case dropReply(VFSError)
        /// Carried out so much later.
        case delay(Duration)
        /// Only the first bytes of a read are delivered.
        case truncate(after: Int, VFSError)
        /// Never returns until the task is cancelled.
        case hang
    }

    private struct Rule {
        var verb: Verb
        var calls: ClosedRange<Int>
        var key: ObjectKey?
        var effect: Effect
        var seen = 0
    }

    private let rules = Mutex<[Rule]>([])
    private let counts = Mutex<[Verb: Int]>([:])

    public init() {}

    /// Adds a rule. Where several concern one call, the first added holds.
    /// - Parameters:
    ///   - calls: which calls of `verb` (and `key`), counted from 1 since the rule was added.
    ///   - key: only calls on this key; nil: all.
    public func add(_ verb: Verb, calls: ClosedRange<Int>, key: ObjectKey? = nil, _ effect: Effect) {
        rules.withLock { $0.append(Rule(verb: verb, calls: calls, key: key, effect: effect)) }
    }

    public func clear() { rules.withLock { $0.removeAll() } }

    /// Calls of `verb` so far, faulty or not.
    public func calls(_ verb: Verb) -> Int { counts.withLock { $0[verb] ?? 0 } }

    func next(_ call: ProviderCall) -> Effect? {
        counts.withLock { $0[call.verb, default: 0] += 1 }
        return rules.withLock { rules in
            var effect: Effect?
            for index in rules.indices where rules[index].verb == call.verb {
                if let key = rules[index].key, key != call.key { continue }
                rules[index].seen += 1
                if effect == nil, rules[index].calls.contains(rules[index].seen) { effect = rules[index].effect }
            }
            return effect
        }
    }
}

/// Lets `faults` happen. For tests.
public struct FaultLayer: ProviderLayer {
    public let inner: any ObjectProvider
    public let faults: Faults

    public init(_ inner: any ObjectProvider, _ faults: Faults) {
        self.inner = inner
        self.faults = faults
    }

    public func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        try await apply(faults.next(call)) { () throws(VFSError) in try await body(inner) }
    }

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        let effect = faults.next(ProviderCall(request))
        if case .truncate(let count, let error)? = effect {
            let start = request.extent?.lowerBound ?? 0
            let end = min(start + count, request.extent?.upperBound ?? .max)
            var request = request
            request.extent = Extent(start, end)
            if end > start { _ = try await inner.read(request, into: sink) }
            throw error
        }
        return try await apply(effect) { () throws(VFSError) in try await inner.read(request, into: sink) }
    }

    private func apply<Value>(
        _ effect: Faults.Effect?, _ body: () async throws(VFSError) -> Value
    ) async throws(VFSError) -> Value {
        switch effect {
        case nil: return try await body()
        case .fail(let error), .truncate(_, let error): throw error
        case .dropReply(let error):
            _ = try await body()
            throw error
        case .delay(let time):
            try? await Task.sleep(for: time)
            if Task.isCancelled { throw .cancelled }
            return try await body()
        case .hang:
            while !Task.isCancelled { try? await Task.sleep(for: .seconds(3600)) }
            throw .cancelled
        }
    }
}
