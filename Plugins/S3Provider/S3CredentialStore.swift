import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Holds the credentials of one identity and renews them ahead of time, one reading at once for all mounts that share it, while
/// requests go on with the ones at hand.
///
/// A source may be a command that asks somebody, is billed, or locks an account: however many requests are refused, and whatever
/// becomes of it, it is asked once in `interval`, and its last outcome told meanwhile. Credentials that cannot be renewed serve past
/// their end until the store refuses them: its word counts, not our clock, nor that of a service which is down.
final class S3CredentialStore: Sendable {
    /// Renewal begins so long before the end of life, in seconds, and up to twice as long by chance; earlier than at half of it never.
    static let margin = 300
    /// Watched files are looked at so often, and the source is asked again so soon, in seconds.
    static let interval = 10
    /// What does not come is asked for at longer and longer intervals, up to this, while the old ones serve.
    static let longestInterval = 120
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

    /// One reading that many may wait for.
    fileprivate final class Reading: Sendable {
        let result = Mutex<Result<S3CredentialAnswer, VFSError>?>(nil)
    }

    fileprivate struct State {
        var answer: S3CredentialAnswer?
        /// The store has refused it, and nothing else could be had.
        var isRefused = false
        /// When renewal begins; nil: what is at hand lasts.
        var renewal: Timestamp?
        /// When files or renewal are looked at next, and how long after that again.
        var due = Timestamp(seconds: .min)
        var pause = S3CredentialStore.interval
        var reading: Reading?
        /// When the source was last asked, and why it had none.
        var asked: Timestamp?
        var failure: VFSError?
        /// Since when there are only those of the machine, where there were others.
        var fallen: Timestamp?
        /// When it was last asked because of a refusal, and because of one that may mean something else.
        var forced: Timestamp?
        var doubted: Timestamp?

        /// A clock that was set back holds nothing up.
        func isDue(_ now: Timestamp) -> Bool {
            due <= now || due.seconds - now.seconds > S3CredentialStore.longestInterval
        }
        func isOld(_ now: Timestamp) -> Bool { renewal.map { $0 <= now } ?? false }
        func isOver(_ now: Timestamp) -> Bool { answer?.credentials?.expiration.map { $0 <= now } ?? false }
    }

    private let source: any S3CredentialSource
    private let now: @Sendable () -> Timestamp
    /// From 0 to 1.
    private let chance: @Sendable () -> Double
    private let state = Mutex(State())
    private let waiters = Waiters()

    init(
        _ source: any S3CredentialSource, now: @escaping @Sendable () -> Timestamp = { SystemClock.now() },
        chance: @escaping @Sendable () -> Double = { Double.random(in: 0..<1) }
    ) {
        self.source = source
        self.now = now
        self.chance = chance
    }

    /// What to sign with now; no credentials in it: send unsigned. At once, unless none are at hand, they have been refused, or their
    /// end has come without an attempt to renew them.
    func current() async throws(VFSError) -> S3CredentialAnswer {
        let now = now()
        let (ready, reading) = state.withLock { state -> (S3CredentialAnswer?, Reading?) in
            guard let answer = state.answer, !state.isRefused else { return (nil, nil) }
            let isOld = state.isOld(now)
            if state.isDue(now), state.reading == nil, isOld || !answer.files.isEmpty {
                state.due = Timestamp(seconds: now.seconds + state.pause)
                state.reading = read(unlessUnchanged: isOld ? nil : answer)
            }
            guard state.isOver(now), let end = answer.credentials?.expiration,
                state.asked.map({ $0 < end }) ?? true
            else { return (answer, nil) }
            return (answer, state.reading)
        }
        guard let ready else { return try await load() }
        guard let reading else { return ready }
        // They have been idle: the old ones are for when there are no others.
        if case .success(let renewed) = try await result(of: reading) { return renewed }
        return ready
    }

    /// For `status`; nil before there are any, and for what stands in the configuration.
    var report: CredentialReport? {
        state.withLock { state in
            guard let answer = state.answer, !answer.source.isEmpty else { return nil }
            return CredentialReport(
                source: answer.source, end: answer.credentials?.expiration, problem: state.failure?.message,
                isRefused: state.isRefused)
        }
    }

    /// Called when the store has said that `rejected` no longer serves.
    /// - Returns: whether there are others now.
    func replace(_ rejected: S3Credentials?, _ refusal: Refusal) async -> Bool {
        guard let known = state.withLock({ $0.answer }) else { return false }
        if known.credentials != rejected { return true }
        guard refusal != .refused || !known.files.isEmpty else { return false }
        let now = now()
        let reading = state.withLock { state -> Reading? in
            if let reading = state.reading { return reading }
            // Files that hold the keys themselves are read whenever they have changed.
            let isCheap = refusal == .refused && !known.isCostly
            guard isCheap || !Self.isWithin(Self.interval, of: state.forced, now) else { return nil }
            if refusal == .perhapsExpired {
                guard !Self.isWithin(Self.doubtInterval, of: state.doubted, now) else { return nil }
                state.doubted = now
            }
            let reading = read(unlessUnchanged: refusal == .refused ? known : nil, isForced: true)
            state.reading = reading
            return reading
        }
        if let reading, case .success(let answer)? = try? await result(of: reading), answer.credentials != rejected {
            return true
        }
        state.withLock { state in
            guard state.answer?.credentials == rejected, state.failure != nil else { return }
            if refusal == .expired || refusal == .perhapsExpired && state.isOver(now) { state.isRefused = true }
        }
        return false
    }

    /// A clock that was set back holds nothing up.
    private static func isWithin(_ interval: Int, of time: Timestamp?, _ now: Timestamp) -> Bool {
        guard let time else { return false }
        return time <= now && now.seconds - time.seconds < interval
    }

    private func load() async throws(VFSError) -> S3CredentialAnswer {
        let now = now()
        let reading = try state.withLock { state throws(VFSError) in
            if let reading = state.reading { return reading }
            if Self.isWithin(Self.interval, of: state.asked, now) { throw Self.failure(state) }
            let reading = read(unlessUnchanged: nil)
            state.reading = reading
            return reading
        }
        let result = try await result(of: reading)
        if case .success(let answer) = result { return answer }
        throw state.withLock { Self.failure($0) }
    }

    /// Why there are none.
    private static func failure(_ state: State) -> VFSError {
        guard let failure = state.failure else {
            return .credentials("there are no S3 credentials at hand", retry: .backoff)
        }
        guard let old = state.answer else { return failure }
        return VFSError(
            .credentialsExpired,
            "the S3 credentials (\(old.source)) have expired and cannot be renewed: \(failure.message)",
            retry: failure.retry)
    }

    /// - Throws: `cancelled` when the task is: the reading goes on, for others.
    private func result(of reading: Reading) async throws(VFSError) -> Result<S3CredentialAnswer, VFSError> {
        await waiters.wait(unless: { reading.result.withLock { $0 != nil } })
        guard let result = reading.result.withLock({ $0 }) else { throw .cancelled }
        return result
    }

    /// - Parameter known: comes back as it is when its files have not changed.
    private func read(unlessUnchanged known: S3CredentialAnswer?, isForced: Bool = false) -> Reading {
        let reading = Reading()
        Task.detached { [source, self] in
            let isUnchanged = await BlockingPool.credentialFiles.run {
                known.map { !$0.files.contains(where: \.isChanged) } ?? false
            }
            var result: Result<S3CredentialAnswer, VFSError>
            if let known, isUnchanged {
                result = .success(known)
            } else {
                do throws(VFSError) { result = .success(try await source.load()) } catch { result = .failure(error) }
            }
            let time = self.now()
            if case .success(let answer) = result, !answer.mayBeOld, let end = answer.credentials?.expiration,
                end <= time
            {
                result = .failure(.credentials("\(answer.source) gave out credentials that have expired"))
            }
            result = self.state.withLock { state in
                let judged = isUnchanged ? result : state.judged(result, time)
                state.take(judged, time, isNew: !isUnchanged, isForced: isForced, self.chance())
                return judged
            }
            reading.result.withLock { $0 = result }
            self.waiters.resume()
        }
        return reading
    }
}

extension S3CredentialStore.State {
    /// Where credentials were set up, those of the machine are another identity. A file that somebody is just writing is empty for a
    /// moment: they are taken when they are all there is for as long as from one look to the next.
    fileprivate mutating func judged(
        _ result: Result<S3CredentialAnswer, VFSError>, _ now: Timestamp
    ) -> Result<S3CredentialAnswer, VFSError> {
        guard case .success(let new) = result, new.isOfMachine, let answer, !answer.isOfMachine else {
            if case .success = result { fallen = nil }
            return result
        }
        let since = fallen ?? now
        fallen = min(since, now)
        if now.seconds - since.seconds >= S3CredentialStore.interval { return result }
        return .failure(
            .credentials(
                "the credentials of \(answer.source) have gone; those of \(new.source) are taken if that stays so",
                retry: .backoff))
    }

    /// What a reading has brought.
    /// - Parameter isNew: the source was asked.
    fileprivate mutating func take(
        _ result: Result<S3CredentialAnswer, VFSError>, _ now: Timestamp, isNew: Bool, isForced: Bool, _ chance: Double
    ) {
        reading = nil
        if isNew {
            asked = now
            if isForced { forced = now }
            if case .failure(let error) = result { failure = error } else { failure = nil }
        }
        var hasHelped = !isNew
        if case .success(let new) = result {
            hasHelped = hasHelped || answer?.credentials != new.credentials
            // If they are the same, the store is asked again whether it takes them.
            isRefused = false
            answer = new
            if isNew { renewal = Self.renewal(new.credentials?.expiration, now, chance) }
        }
        pause = hasHelped ? S3CredentialStore.interval : min(pause * 2, S3CredentialStore.longestInterval)
        due = Timestamp(seconds: now.seconds + pause)
    }

    /// Many machines do not renew at the same moment.
    private static func renewal(_ end: Timestamp?, _ now: Timestamp, _ chance: Double) -> Timestamp? {
        guard let end else { return nil }
        let left = max(0, end.seconds - now.seconds)
        let margin = min(S3CredentialStore.margin, left / 4)
        return Timestamp(seconds: end.seconds - margin - Int(Double(margin) * max(0, min(chance, 1))))
    }
}

/// The stores of credentials of the process: mounts of one identity share one.
final class S3CredentialStores: Sendable {
    static let shared = S3CredentialStores()

    private struct Entry {
        weak var store: S3CredentialStore?
    }
    private let entries = Mutex<[String: Entry]>([:])

    /// Keys that are written down, and no credentials at all, are their own.
    func store(_ values: OptionValues, environment: S3Environment = .process) -> S3CredentialStore {
        let source = S3CredentialChain.source(values, environment: environment)
        let identity: String
        switch source {
        case let source as ProfileCredentials: identity = "profile \(source.profile)"
        case let source as ProcessCredentials: identity = "process \(source.command)"
        case is DefaultCredentials: identity = "default"
        default: return S3CredentialStore(source)
        }
        return entries.withLock { entries in
            entries = entries.filter { $0.value.store != nil }
            if let store = entries[identity]?.store { return store }
            let store = S3CredentialStore(source)
            entries[identity] = Entry(store: store)
            return store
        }
    }
}
