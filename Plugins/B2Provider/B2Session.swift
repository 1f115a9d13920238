import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// One key's login at one realm, shared by all mounts of the process that have it.
///
/// Logging in is a single flight, and never happens more than once in `interval`, whatever its outcome: in an outage of
/// the login, a swarm of clients that all log in again is what keeps it down. Who needs a token meanwhile gets the last
/// outcome, or waits until the next attempt may be made.
final class B2Session: Sendable {
    /// Nanoseconds between two attempts.
    static let interval: UInt64 = 30_000_000_000

    /// What makes two mounts' logins the same one.
    struct Identity: Hashable, Sendable {
        var realm: String
        var keyID: String
        var key: String
        var caFile: String?
        var testMode: String?
        /// The login may lead to other machines without TLS.
        var allowsHTTP = false
    }

    private struct State {
        var outcome: Result<B2Authorisation, VFSError>?
        var began: UInt64?
        var isRunning = false
    }

    private enum Step {
        case done(Result<B2Authorisation, VFSError>)
        case start
        case join
        case pause(nanoseconds: UInt64)
    }

    private let identity: Identity
    private let engine: HTTPEngine
    private let interval: UInt64
    private let now: @Sendable () -> UInt64
    private let state = Mutex(State())
    /// For the attempt under way.
    private let waiters = Waiters()

    init(
        _ identity: Identity, engine: HTTPEngine = .shared, interval: UInt64 = B2Session.interval,
        now: @escaping @Sendable () -> UInt64 = { SystemClock.monotonic() }
    ) {
        self.identity = identity
        self.engine = engine
        self.interval = interval
        self.now = now
    }

    // MARK: Sharing

    private struct Known: Sendable { weak var session: B2Session? }
    private static let known = Mutex<[Identity: Known]>([:])

    static func shared(_ identity: Identity) -> B2Session {
        known.withLock { known in
            if let session = known[identity]?.session { return session }
            known = known.filter { $0.value.session != nil }
            let session = B2Session(identity)
            known[identity] = Known(session: session)
            return session
        }
    }

    // MARK: Logging in

    /// A token that B2 is not known to refuse.
    /// - Parameters:
    ///   - rejected: the token that B2 has just said is dead.
    ///   - billing: where an attempt is counted if this call makes it.
    func authorisation(
        otherThan rejected: String? = nil, counting billing: B2Billing
    ) async throws(VFSError) -> B2Authorisation {
        while true {
            if Task.isCancelled { throw .cancelled }
            switch step(rejected) {
            case .done(let outcome): return try outcome.get()
            case .join: await waiters.wait { self.state.withLock { !$0.isRunning } }
            case .pause(let time): try? await Task.sleep(for: .nanoseconds(time))
            case .start:
                billing.count("b2_authorize_account")
                Task.detached { self.end(await self.attempt()) }
            }
        }
    }

    private func step(_ rejected: String?) -> Step {
        let now = now()
        return state.withLock { state in
            if case .success(let authorisation)? = state.outcome, authorisation.token != rejected {
                return .done(.success(authorisation))
            }
            if state.isRunning { return .join }
            if let began = state.began, now < began + interval {
                if case .failure(let error)? = state.outcome { return .done(.failure(error)) }
                return .pause(nanoseconds: began + interval - now)
            }
            state.began = now
            state.isRunning = true
            return .start
        }
    }

    private func end(_ outcome: Result<B2Authorisation, VFSError>) {
        state.withLock { state in
            state.outcome = outcome
            state.isRunning = false
        }
        waiters.resume()
    }

    private func attempt() async -> Result<B2Authorisation, VFSError> {
        var headers = HTTPHeaders()
        let pair = Array("\(identity.keyID):\(identity.key)".utf8)
        headers.append("Authorization", "Basic \(Base64.encode(pair))")
        headers.append("User-Agent", B2Client.userAgent)
        if let testMode = identity.testMode { headers.append("X-Bz-Test-Mode", testMode) }
        var options = HTTPOptions()
        options.caFile = identity.caFile
        options.maxBodyBytes = 1 << 20
        let url = "\(identity.realm)/b2api/v4/b2_authorize_account"
        let home = WebURL(answered: url)
        let wire = VFSError.Wire(operation: "b2_authorize_account", endpoint: home?.authority ?? identity.realm)
        let response: HTTPResponse
        do throws(VFSError) {
            let request = HTTPRequest(.get, url, headers: headers, options: options)
            response = try await engine.answer(request, wire: wire)
        } catch {
            return .failure(error)
        }
        guard 200..<300 ~= response.status else {
            var error = B2Errors.error(response, wire: wire)
            if response.status == 401, error.code != .credentialsInvalid {
                error = VFSError(.credentialsInvalid, "the store refuses the application key", wire: error.wire)
            }
            return .failure(error)
        }
        guard let authorisation = B2Authorisation(response.body) else {
            let text = "the login's answer is none that is known"
            return .failure(VFSError(.malformedResponse, text, retry: .backoff, wire: wire))
        }
        for url in [authorisation.apiURL, authorisation.downloadURL] {
            guard let home, let place = WebURL(answered: url),
                home.mayLead(to: place, allowingHTTP: identity.allowsHTTP)
            else {
                let text = "the login leads to '\(WebURL.shown(url))', where the token would go unencrypted or nowhere"
                return .failure(VFSError(.malformedResponse, text, wire: wire))
            }
        }
        return .success(authorisation)
    }
}
