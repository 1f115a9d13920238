import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Holds the credentials of one mount and renews them ahead of time, one reading at once, while requests go on with the
/// ones at hand.
final class S3CredentialStore: Sendable {
    /// Renewal begins so long before the end of life.
    static let margin = 300
    /// Watched files are looked at so often, and a failed renewal is tried again so soon, in seconds.
    static let interval = 10

    private struct State {
        var answer: S3CredentialAnswer?
        /// When files or expiry are looked at next.
        var due = Timestamp(seconds: .min)
        var loading: Task<Result<S3CredentialAnswer, VFSError>, Never>?
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
    /// - Parameter force: asks the source even when its files are as they were.
    /// - Returns: whether there are others now.
    func replace(_ rejected: S3Credentials?, force: Bool) async -> Bool {
        guard let known = state.withLock({ $0.answer }) else { return false }
        if known.credentials != rejected { return true }
        guard force || !known.files.isEmpty else { return false }
        let task = state.withLock { state in
            if let loading = state.loading { return loading }
            let task = reading(unlessUnchanged: force ? nil : known)
            state.loading = task
            return task
        }
        guard case .success(let answer) = await task.value else { return false }
        return answer.credentials != rejected
    }

    private func isOld(_ answer: S3CredentialAnswer, _ now: Timestamp) -> Bool {
        answer.credentials?.expiration.map { $0.seconds - Self.margin <= now.seconds } ?? false
    }

    private func load() async throws(VFSError) -> S3CredentialAnswer {
        let task = state.withLock { state in
            if let loading = state.loading { return loading }
            let task = reading(unlessUnchanged: nil)
            state.loading = task
            return task
        }
        return try await task.value.get()
    }

    /// - Parameter known: comes back as it is when its files have not changed.
    private func reading(unlessUnchanged known: S3CredentialAnswer?) -> Task<
        Result<S3CredentialAnswer, VFSError>, Never
    > {
        Task.detached { [source, pool, self] in
            let result: Result<S3CredentialAnswer, VFSError> = await pool.run {
                if let known, !known.files.contains(where: \.isChanged) { return .success(known) }
                do throws(VFSError) {
                    let answer = try source.load()
                    if let end = answer.credentials?.expiration, end <= self.now() {
                        return .failure(VFSError(.credentialsExpired, "the S3 credentials at hand have expired"))
                    }
                    return .success(answer)
                } catch {
                    return .failure(error)
                }
            }
            let time = self.now()
            self.state.withLock { state in
                if case .success(let answer) = result { state.answer = answer }
                state.due = Timestamp(seconds: time.seconds + Self.interval)
                state.loading = nil
            }
            return result
        }
    }
}
