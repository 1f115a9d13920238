import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Holds the credentials of one mount and renews them ahead of time, one reading at once, while requests go on with the
/// ones at hand.
///
/// A source may be a command that asks somebody, is billed, or locks an account: however many requests are refused, and whatever
/// becomes of it, it is asked once in `interval`, and its last outcome told meanwhile.
final class S3CredentialStore: Sendable {
    /// Renewal begins so long before the end of life.
    static let margin = 300
    /// Watched files are looked at so often, and the source is asked again so soon, in seconds.
    static let interval = 10
    /// Seconds between two questions because of refusals that may mean something else.
    static let doubtInterval = 60

    /// What the store has said of credentials.
    enum Refusal {
        /// They serve for nothing, or not for this.
        case refused
        /// They have expired.
        case expired
        /// The answer to HEAD, which has no words: so are the objects of other writers refused that are encrypted by keys of theirs.
        case perhapsExpired
    }

    private struct State {
        var answer: S3CredentialAnswer?
        /// When files or expiry are looked at next.
        var due = Timestamp(seconds: .min)
        var loading: Task<Result<S3CredentialAnswer, VFSError>, Never>?
        /// When the source was last asked, and why it had none.
        var asked: Timestamp?
        var failure: VFSError?
        /// When it was last asked because of a refusal, and because of one that may mean something else.
        var forced: Timestamp?
        var doubted: Timestamp?
    }

    private let source: any S3CredentialSource
    private let now: @Sendable () -> Timestamp
    private let pool = BlockingPool(name: "cm-credentials", width: 1)
    private let state = Mutex(State())

    init(_ source: any S3CredentialSource, now: @escaping @Sendable () -> Timestamp = { SystemClock.now() }) {
        self.source = source
        self.now = now
    }

    /// What to sign with now; no credentials in it: send unsigned. At once unless none are at hand or they have
    /// expired.
    func current() async throws(VFSError) -> S3CredentialAnswer {
        let now = now()
        let ready = state.withLock { state -> S3CredentialAnswer? in
            guard let answer = state.answer else { return nil }
            if let end = answer.credentials?.expiration, end <= now { return nil }
            if state.due <= now, state.loading == nil {
                state.due = Timestamp(seconds: now.seconds + Self.interval)
                if isOld(answer, now) || !answer.files.isEmpty {
                    state.loading = reading(unlessUnchanged: isOld(answer, now) ? nil : answer)
                }
            }
            return answer
        }
        if let ready { return ready }
        return try await load()
    }

    /// Called when the store has said that `rejected` no longer serves.
    /// - Returns: whether there are others now.
    func replace(_ rejected: S3Credentials?, _ refusal: Refusal) async -> Bool {
        guard let known = state.withLock({ $0.answer }) else { return false }
        if known.credentials != rejected { return true }
        guard refusal != .refused || !known.files.isEmpty else { return false }
        let now = now()
        let task = state.withLock { state -> Task<Result<S3CredentialAnswer, VFSError>, Never>? in
            if let loading = state.loading { return loading }
            // Files that hold the keys themselves are read whenever they have changed.
            let isCheap = refusal == .refused && !known.isOfCommand
            guard isCheap || !Self.isWithin(Self.interval, of: state.forced, now) else { return nil }
            if refusal == .perhapsExpired {
                guard !Self.isWithin(Self.doubtInterval, of: state.doubted, now) else { return nil }
                state.doubted = now
            }
            let task = reading(unlessUnchanged: refusal == .refused ? known : nil, isForced: true)
            state.loading = task
            return task
        }
        guard case .success(let answer)? = await task?.value else { return false }
        return answer.credentials != rejected
    }

    /// A clock that was set back holds nothing up.
    private static func isWithin(_ interval: Int, of time: Timestamp?, _ now: Timestamp) -> Bool {
        guard let time else { return false }
        return time <= now && now.seconds - time.seconds < interval
    }

    private func isOld(_ answer: S3CredentialAnswer, _ now: Timestamp) -> Bool {
        answer.credentials?.expiration.map { $0.seconds - Self.margin <= now.seconds } ?? false
    }

    private func load() async throws(VFSError) -> S3CredentialAnswer {
        let now = now()
        let task = try state.withLock { state throws(VFSError) in
            if let loading = state.loading { return loading }
            if Self.isWithin(Self.interval, of: state.asked, now) {
                throw state.failure
                    ?? VFSError(.credentialsExpired, "the S3 credentials at hand have just expired", retry: .backoff)
            }
            let task = reading(unlessUnchanged: nil)
            state.loading = task
            return task
        }
        return try await task.value.get()
    }

    /// - Parameter known: comes back as it is when its files have not changed.
    private func reading(unlessUnchanged known: S3CredentialAnswer?, isForced: Bool = false) -> Task<
        Result<S3CredentialAnswer, VFSError>, Never
    > {
        Task.detached { [source, pool, self] in
            let known = await pool.run { known.flatMap { $0.files.contains(where: \.isChanged) ? nil : $0 } }
            let result: Result<S3CredentialAnswer, VFSError>
            if let known { result = .success(known) } else { result = await pool.run { self.asked(source) } }
            let time = self.now()
            self.state.withLock { state in
                if known == nil {
                    state.asked = time
                    if isForced { state.forced = time }
                    if case .failure(let error) = result { state.failure = error } else { state.failure = nil }
                }
                if case .success(let answer) = result { state.answer = answer }
                state.due = Timestamp(seconds: time.seconds + Self.interval)
                state.loading = nil
            }
            return result
        }
    }

    private func asked(_ source: any S3CredentialSource) -> Result<S3CredentialAnswer, VFSError> {
        do throws(VFSError) {
            let answer = try source.load()
            if let end = answer.credentials?.expiration, end <= now() {
                return .failure(VFSError(.credentialsExpired, "the S3 credentials at hand have expired"))
            }
            return .success(answer)
        } catch {
            return .failure(error)
        }
    }
}
