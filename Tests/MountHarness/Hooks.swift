package import CloudMountLayers
package import CloudMountVFS
import Synchronization

/// What happens elsewhere at a chosen moment of a call of the mount: just before it takes effect, or just after.
package final class Hooks: Sendable {
    package enum Moment: Sendable { case before, after }
    package typealias Action = @Sendable () async -> Void

    private struct Rule: Sendable {
        var id: Int
        var verb: Verb
        var key: ObjectKey?
        var moment: Moment
        var isLasting: Bool
        var action: Action
    }

    private let rules = Mutex<(next: Int, list: [Rule])>((0, []))

    package init() {}

    /// - Parameters:
    ///   - key: the object that the call is made on (the first key of a delete, the destination of a copy); nil: any.
    ///   - always: at every such call, else at the next only.
    package func at(
        _ moment: Moment, _ verb: Verb, _ key: ObjectKey? = nil, always: Bool = false, _ action: @escaping Action
    ) {
        rules.withLock { rules in
            rules.next += 1
            rules.list.append(
                Rule(id: rules.next, verb: verb, key: key, moment: moment, isLasting: always, action: action))
        }
    }

    package func clear() { rules.withLock { $0.list = [] } }

    func run(_ moment: Moment, _ call: ProviderCall) async {
        let due = rules.withLock { rules in
            let due = rules.list.filter {
                $0.verb == call.verb && $0.moment == moment && ($0.key == nil || $0.key == call.key)
            }
            rules.list.removeAll { rule in !rule.isLasting && due.contains { $0.id == rule.id } }
            return due
        }
        for rule in due { await rule.action() }
    }
}

struct HookLayer: ProviderLayer {
    let inner: any ObjectProvider
    let hooks: Hooks

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        let (inner, hooks) = (inner, hooks)
        return try await carriedOut(call) { () async throws(VFSError) in
            await hooks.run(.before, call)
            // Who has been cancelled sends no more bytes; what carries none may take effect all the same.
            if Task.isCancelled { throw .cancelled }
            let result = await outcome { () async throws(VFSError) in try await body(inner) }
            await hooks.run(.after, call)
            return try result.get()
        }.get()
    }
}

/// As most stores do it: the answer to a change says which version it has made, and nothing of its metadata.
struct BareLayer: ProviderLayer {
    let inner: any ObjectProvider

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        let value = try await body(inner)
        guard call.verb.changes, var info = value as? ObjectInfo else { return value }
        info.metadata = nil
        return info as? Value ?? value
    }
}

/// As a store does it: who cancels a call hears at once that it is cancelled, and its effect may come all the same.
private func carriedOut<Value: Sendable>(
    _ call: ProviderCall, _ work: @escaping @Sendable () async throws(VFSError) -> Value
) async -> Result<Value, VFSError> {
    guard call.verb.changes, call.verb != .put else { return await outcome(work) }
    let answer = Answer<Value>()
    return await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
            answer.set(continuation)
            Task { answer.give(await outcome(work)) }
        }
    } onCancel: {
        answer.give(.failure(.cancelled))
    }
}

/// The first answer counts, whether or not somebody waits for it already.
private final class Answer<Value: Sendable>: Sendable {
    private struct State {
        var result: Result<Value, VFSError>?
        var continuation: CheckedContinuation<Result<Value, VFSError>, Never>?
    }
    private let state = Mutex(State())

    func set(_ continuation: CheckedContinuation<Result<Value, VFSError>, Never>) {
        let result = state.withLock { state in
            if state.result == nil { state.continuation = continuation }
            return state.result
        }
        if let result { continuation.resume(returning: result) }
    }

    func give(_ result: Result<Value, VFSError>) {
        let waiting: CheckedContinuation<Result<Value, VFSError>, Never>? = state.withLock { state in
            if state.result != nil { return nil }
            state.result = result
            defer { state.continuation = nil }
            return state.continuation
        }
        waiting?.resume(returning: result)
    }
}

/// Whether a mount would not ask its store.
package final class CutOff: Sendable {
    private let state = Atomic(false)
    package init() {}
    package var isOn: Bool {
        get { state.load(ordering: .acquiring) }
        set { state.store(newValue, ordering: .releasing) }
    }
}

/// What travelled to the store.
package final class Traffic: Sendable {
    private struct Counts: Sendable {
        var calls: [Verb: Int] = [:]
        var bytesUp = 0
        /// Of ranged reads.
        var bytesWanted = 0
        /// Reads that nobody waits for.
        var ahead = 0
        var keys: [Verb: [String]] = [:]
    }
    private let counts = Mutex(Counts())

    package init() {}

    package func reset() { counts.withLock { $0 = Counts() } }
    package subscript(verb: Verb) -> Int { counts.withLock { $0.calls[verb] ?? 0 } }

    package var bytesUp: Int { counts.withLock { $0.bytesUp } }
    package var bytesWanted: Int { counts.withLock { $0.bytesWanted } }
    package var ahead: Int { counts.withLock { $0.ahead } }
    package var total: Int { counts.withLock { $0.calls.values.reduce(0, +) } }
    package func keys(_ verb: Verb) -> [String] { counts.withLock { $0.keys[verb] ?? [] } }

    func count(_ call: ProviderCall) {
        counts.withLock { counts in
            counts.calls[call.verb, default: 0] += 1
            counts.bytesUp += call.bytesUp
            if let key = call.key { counts.keys[call.verb, default: []].append(key.string) }
        }
    }

    func count(_ request: ReadRequest) {
        counts.withLock { counts in
            counts.bytesWanted += request.extent?.count ?? 0
            if request.isAhead { counts.ahead += 1 }
        }
    }
}

package struct TrafficLayer: ProviderLayer {
    package let inner: any ObjectProvider
    private let traffic: Traffic

    package init(inner: any ObjectProvider, traffic: Traffic) {
        self.inner = inner
        self.traffic = traffic
    }

    package func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        traffic.count(call)
        return try await body(inner)
    }

    package func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        traffic.count(request)
        return try await perform(ProviderCall(request)) { inner throws(VFSError) in
            try await inner.read(request, into: sink)
        }
    }
}
