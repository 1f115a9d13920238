import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Questions to the store of which something is known already that may be shown instead (`offline: serve`): nobody waits longer than a second
/// for the answer. The question goes on behind, and the tree hears what it brings.
final class Silence: Sendable {
    /// Nanoseconds.
    private static let patience: UInt64 = 1_000_000_000

    private struct State {
        /// A question has been waited for in vain, and nothing was heard since.
        var isSilent = false
        /// Nobody was asked when somebody last wanted to.
        var wasCutOff = false
        /// Monotonic nanoseconds when somebody is next to ask, though nobody waits.
        var nextQuestion: UInt64 = 0
    }

    private let context: MountContext
    private let state = Mutex(State())

    init(context: MountContext) { self.context = context }

    /// What is known may be shown though the store is only slow: not where each look is to be of now.
    var showsEarly: Bool { context.policy().freshness == .ttl }

    /// Nobody is to wait for the store just now.
    var isSilent: Bool { context.isCutOff() || state.withLock { $0.isSilent } }

    /// - Throws: what `work` does; `unavailable` or `timedOut` when the answer is not waited for.
    func ask<Value: Sendable>(
        _ work: @escaping @Sendable () async throws(VFSError) -> Value
    ) async throws(VFSError) -> Value {
        try requireStore()
        guard showsEarly else { return try await work() }
        let now = context.clock.monotonic()
        let asks = state.withLock { state in
            guard state.isSilent else { return true }
            let asks = state.nextQuestion <= now
            if asks { state.nextQuestion = now + Self.patience }
            return asks
        }
        let question = asks ? begin(work) : nil
        // While it is silent one a second waits, so that its return is seen.
        guard let question else { throw VFSError(.unavailable, "the store does not answer") }
        await question.waiters.wait(unless: { question.isOver }, for: .nanoseconds(Self.patience))
        if let answer = question.answer { return try answer.get() }
        if Task.isCancelled { throw .cancelled }
        fall()
        // It may have come in this moment.
        if let answer = question.answer { hear(answer) }
        throw VFSError(.timedOut, "the store has not answered for a second")
    }

    private final class Question<Value: Sendable>: Sendable {
        let waiters = Waiters()
        private let state = Mutex<Result<Value, VFSError>?>(nil)
        var answer: Result<Value, VFSError>? { state.withLock { $0 } }
        var isOver: Bool { answer != nil }
        func end(_ result: Result<Value, VFSError>) {
            state.withLock { $0 = result }
            waiters.resume()
        }
    }

    private func begin<Value: Sendable>(
        _ work: @escaping @Sendable () async throws(VFSError) -> Value
    ) -> Question<Value> {
        let question = Question<Value>()
        context.begin {
            let result = await attempt(work)
            question.end(result)
            self.hear(result)
        }
        return question
    }

    /// - Throws: `unavailable` when nobody would be asked.
    func requireStore() throws(VFSError) {
        let isCutOff = context.isCutOff()
        state.withLock { state in
            // What was heard of it before it came back says nothing any more.
            if state.wasCutOff, !isCutOff { state.isSilent = false }
            state.wasCutOff = isCutOff
        }
        if isCutOff { throw VFSError(.unavailable, "the store cannot be reached") }
    }

    /// Returns when somebody who is shown what is known has waited long enough, or was cancelled.
    func patience() async {
        if context.isCutOff() { return }
        await context.clock.sleep(.nanoseconds(Self.patience))
    }

    /// A second has passed without an answer.
    func fall() {
        let now = context.clock.monotonic()
        state.withLock { ($0.isSilent, $0.nextQuestion) = (true, now + Self.patience) }
    }

    func hear<Value>(_ result: Result<Value, VFSError>) {
        if case .failure(let error) = result, error.code.isUnreachable || error.code == .cancelled { return }
        state.withLock { $0.isSilent = false }
    }
}
