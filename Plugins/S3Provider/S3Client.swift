import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Sends requests to one bucket: signs them, and cures by itself what only it can know: another region, a clock that is
/// wrong, credentials that were replaced. Each cure is tried once; nothing has been stored or delivered by then.
final class S3Client: Sendable {
    let options: S3Options
    let credentials: S3CredentialStore
    private let engine: HTTPEngine
    private let transfer: HTTPOptions
    let now: @Sendable () -> Timestamp

    private struct State {
        var route: S3Route
        var profile: S3Profile
        var features: S3Features
        var signer: S3Signer?
        /// As the last request wrote it.
        var time: (seconds: Int, text: String) = (.min, "")
        /// The store has named a request that it answered well; false for good once it has not named one that it refused.
        var namesRequests: Bool?
        /// The bucket takes no upload without its MD5, as those with a default retention.
        var wantsMD5 = false

        /// Where the next request goes, and what signs it when: made anew only when something has changed.
        mutating func signing(
            with credentials: S3Credentials, at seconds: Int
        ) -> (S3Route, S3Signer, time: String) {
            let seconds = seconds + route.clockOffset
            if time.seconds != seconds { time = (seconds, WireDate.basic(seconds)) }
            if let signer, signer.credentials == credentials, signer.region == route.region,
                signer.day.utf8.elementsEqual(time.text.utf8.prefix(8))
            {
                return (route, signer, time.text)
            }
            let made = S3Signer(credentials, region: route.region, day: String(time.text.prefix(8)))
            signer = made
            return (route, made, time.text)
        }
    }
    private let state: Mutex<State>
    /// Where requests go before any answer has said otherwise.
    private let start: S3Route

    /// - Throws: `invalidArgument` when the endpoint is no URL.
    init(
        _ options: S3Options, credentials: S3CredentialStore, engine: HTTPEngine = .shared,
        now: @escaping @Sendable () -> Timestamp = { SystemClock.now() }
    ) throws(VFSError) {
        let region = options.knownRegion ?? "us-east-1"
        guard let endpoint = options.endpoint(region: region) else {
            throw VFSError(.invalidArgument, "endpoint '\(options.endpointURL ?? "")' is not a URL")
        }
        self.options = options
        self.credentials = credentials
        self.engine = engine
        self.now = now
        var transfer = HTTPOptions()
        transfer.caFile = options.caFile
        self.transfer = transfer
        start = S3Route(endpoint: endpoint, region: region)
        state = Mutex(
            State(route: start, profile: options.profile, features: S3Features(options.profile), signer: nil))
    }

    /// Forgets where answers have sent requests.
    func startAnew() { state.withLock { $0.route = start } }

    /// The store's time now, by its answer or else by our clock.
    func time(_ headers: HTTPHeaders) -> Timestamp {
        headers["date"].flatMap(WireDate.http) ?? Timestamp(seconds: now().seconds + route.clockOffset)
    }

    var route: S3Route { state.withLock { $0.route } }
    var profile: S3Profile { state.withLock { $0.profile } }
    /// What the endpoint does, by its profile or by proof.
    var features: S3Features {
        get { state.withLock { $0.features } }
        set { state.withLock { $0.features = newValue } }
    }

    /// Takes over what an answer's `Server:` header says, unless the configuration says what the store is.
    func recognise(server: String?) {
        guard let server, !options.profileIsGiven, let found = S3Profiles.forServer(server) else { return }
        state.withLock { state in
            guard state.profile.name == S3Profiles.generic.name else { return }
            let listVersion = state.profile.listVersion
            state.profile = found
            if listVersion != S3Profiles.generic.listVersion { state.profile.listVersion = listVersion }
        }
    }

    // MARK: Sending

    /// - Returns: an answer of status 200 to 299.
    /// - Throws: the error that any other answer means, or that there was none.
    func send(_ request: S3Request, into target: HTTPBodyTarget = .memory) async throws(VFSError) -> HTTPResponse {
        let hash = try await payloadHash(request.body)
        var request = request
        var cures = Cures()
        while true {
            if let body = request.body, !cures.isSummed, state.withLock({ $0.wantsMD5 }) {
                cures.isSummed = true
                if !request.fields.contains(where: { $0.name == "content-md5" }) {
                    request.field("content-md5", try await S3Payload.md5(body, lane: "hash \(route.authority)"))
                }
            }
            let answer = try await credentials.current()
            let (http, route) = sign(request, answer.credentials, hash)
            let response: HTTPResponse
            do throws(HTTPError) {
                response = try await engine.perform(http, body: target)
            } catch {
                leave(route, error)
                throw VFSError(error, wire: request.wire(route))
            }
            if 200..<300 ~= response.status {
                if response.head.isNamedByStore { state.withLock { $0.namesRequests = $0.namesRequests ?? true } }
                return response
            }
            let body = S3ErrorBody(response.body)
            let isCured = await cure(
                response, body, &cures, route: route, used: answer.credentials, hasBody: request.body != nil)
            if isCured { continue }
            let isOfStore = try await isOfStore(response, to: request)
            var error = S3Errors.error(
                status: response.status, headers: response.headers, body: body, isOfStore: isOfStore,
                wire: request.wire(route),
                throttlesWith403: profile.throttlesWith403)
            if error.code == .credentialsExpired, let problem = credentials.report?.problem {
                error.message += "; the credentials cannot be renewed: \(problem)"
            }
            throw error
        }
    }

    /// A 404 without a body cannot tell whose it is: a proxy says the same while its store is away. When a store that names its
    /// requests has not named this one, it is believed of none; after a HEAD, whose answers have no body, the store is asked for a
    /// byte of the object.
    private func isOfStore(_ response: HTTPResponse, to request: S3Request) async throws(VFSError) -> Bool {
        guard response.status == 404, response.body.isEmpty else { return false }
        if response.head.isNamedByStore || !(state.withLock { $0.namesRequests } ?? false) { return true }
        guard request.method == .head else { return false }
        var question = request
        question.method = .get
        question.field("range", "bytes=0-0")
        do throws(VFSError) {
            _ = try await send(question)
            return false
        } catch {
            if error.code == .cancelled { throw error }
            // Whatever it says of the object, it is the store that speaks, and names no refusals.
            guard error.wire?.code != nil else { return false }
            state.withLock { $0.namesRequests = false }
            return true
        }
    }

    /// The error of an answer that came with a good status and a bad body.
    ///
    /// Where the store itself has named the request, it is the store's own odd answer, which it would give again. Anything else may have
    /// been said, or cut off, on the way.
    func error(
        _ code: VFSError.Code, _ message: String, _ request: S3Request, _ head: HTTPResponseHead?
    ) -> VFSError {
        let isOwn = head?.isNamedByStore ?? false
        let mayPass =
            switch code {
            case .malformedResponse: !isOwn
            case .corrupted: !(isOwn && (head?.hasKnownEnd ?? false))
            default: false
            }
        return VFSError(
            code, message, retry: mayPass ? .backoff : .never, wire: wire(request.operation, request.key, head))
    }

    /// For the error of an answer, or of none.
    func wire(_ operation: String, _ key: ObjectKey?, _ head: HTTPResponseHead?) -> VFSError.Wire {
        VFSError.Wire(
            operation: operation, key: key?.string, endpoint: route.authority, status: head?.status ?? 0,
            requestID: head?.headers["x-amz-request-id"])
    }

    private func payloadHash(_ body: (any ByteSource)?) async throws(VFSError) -> String {
        guard let body, body.count > 0 else { return S3Payload.empty }
        let route = route
        guard options.signsPayload(to: route.endpoint) else { return S3Payload.unsigned }
        return try await S3Payload.sha256(body, lane: "hash \(route.authority)")
    }

    /// The signed request, and the route that it takes.
    func sign(_ request: S3Request, _ credentials: S3Credentials?, _ hash: String) -> (HTTPRequest, S3Route) {
        guard let credentials else {
            let route = route
            return (request.http(route: route, signer: nil, payloadHash: hash, time: "", options: transfer), route)
        }
        let seconds = now().seconds
        let (route, signer, time) = state.withLock { $0.signing(with: credentials, at: seconds) }
        return (request.http(route: route, signer: signer, payloadHash: hash, time: time, options: transfer), route)
    }

    // MARK: Cures

    private struct Cures {
        var region = false
        var clock = false
        var credentials = false
        /// The request has its MD5, where it is wanted.
        var isSummed = false
    }

    /// Whether something was changed that makes the same request worth sending again at once.
    private func cure(
        _ response: HTTPResponse, _ body: S3ErrorBody?, _ cures: inout Cures, route: S3Route, used: S3Credentials?,
        hasBody: Bool
    ) async -> Bool {
        if !cures.region, cureRegion(response, body, route) {
            cures.region = true
            return true
        }
        if response.status == 400, hasBody, !cures.isSummed, Self.asksForMD5(body) {
            state.withLock { $0.wantsMD5 = true }
            return true
        }
        guard response.status == 400 || response.status == 401 || response.status == 403, let used else { return false }
        if !cures.clock, cureClock(response, route) {
            cures.clock = true
            return true
        }
        guard !cures.credentials else { return false }
        cures.credentials = true
        switch body?.code.flatMap({ S3Errors.verdict(code: $0) })?.code {
        case .credentialsExpired?: return await credentials.replace(used, .expired)
        case .credentialsInvalid?, .permissionDenied?: return await credentials.replace(used, .refused)
        // The answer to HEAD has no body that could say which it is.
        case nil where response.body.isEmpty && used.sessionToken != nil:
            return await credentials.replace(used, response.status == 400 ? .perhapsExpired : .refused)
        default: return false
        }
    }

    private static func asksForMD5(_ body: S3ErrorBody?) -> Bool {
        switch body?.code {
        case "MissingContentMD5"?: true
        case "InvalidRequest"?: body?.message?.contains("Content-MD5") ?? false
        default: false
        }
    }

    private func cureRegion(_ response: HTTPResponse, _ body: S3ErrorBody?, _ route: S3Route) -> Bool {
        guard [301, 302, 307, 308, 400, 403].contains(response.status) else { return false }
        if let region = response.headers["x-amz-bucket-region"] ?? body?.region, S3Options.isRegion(region),
            !region.utf8.elementsEqual(route.region.utf8)
        {
            move(toRegion: region)
            return true
        }
        // A portal or a gateway's notice of maintenance is no store's word: the request and its token stay here.
        let isStore = body?.code != nil || response.head.isNamedByStore
        guard 300..<400 ~= response.status, isStore else { return false }
        if let location = response.headers["location"], let target = redirected(location, route) {
            return move(to: target, from: route)
        }
        if let host = body?.endpoint,
            let target = redirected("\(route.endpoint.https ? "https" : "http")://\(host)/", route)
        {
            return move(to: target, from: route)
        }
        return false
    }

    private func cureClock(_ response: HTTPResponse, _ route: S3Route) -> Bool {
        guard let date = response.headers["date"].flatMap(WireDate.http) else { return false }
        let offset = date.seconds - now().seconds
        guard abs(offset - route.clockOffset) > 240 else { return false }
        state.withLock { state in
            state.route = S3Route(
                endpoint: state.route.endpoint, region: state.route.region, clockOffset: offset)
        }
        return true
    }

    private func move(toRegion region: String) {
        guard let endpoint = options.endpoint(region: region) else { return }
        state.withLock { state in
            let current = state.route
            // AWS has a host for each region, also when the configuration names one of them.
            let endpoint =
                options.endpointURL == nil ? endpoint : current.endpoint.inRegion(region, from: current.region)
            state.route = S3Route(endpoint: endpoint, region: region, clockOffset: current.clockOffset)
        }
    }

    /// Ends a temporary redirect whose target cannot be reached.
    private func leave(_ route: S3Route, _ error: HTTPError) {
        guard error.kind == .resolve || error.kind == .connect, let home = options.endpoint(region: route.region),
            home != route.endpoint
        else { return }
        state.withLock { state in
            guard state.route.endpoint == route.endpoint else { return }
            state.route = S3Route(
                endpoint: home.inRegion(state.route.region, from: options.regionOfHost ?? state.route.region),
                region: state.route.region, clockOffset: state.route.clockOffset)
        }
    }

    /// The endpoint of a redirect, of the same scheme: with the bucket as the first label when the path does not have
    /// it.
    private func redirected(_ location: String, _ route: S3Route) -> S3Endpoint? {
        let base = location.prefix { $0 != "?" }
        guard var target = S3Endpoint(url: String(base), bucket: route.endpoint.bucket, pathStyle: true),
            target.https == route.endpoint.https
        else { return nil }
        target.basePath = route.endpoint.basePath
        let label = "\(target.bucket.lowercased())."
        if target.host.hasPrefix(label) {
            target.host.removeFirst(label.count)
            target.pathStyle = false
        }
        // Any other host would be given bodies and tokens.
        return target.isOfFamily(of: start.endpoint) ? target : nil
    }

    private func move(to endpoint: S3Endpoint, from route: S3Route) -> Bool {
        guard endpoint != route.endpoint else { return false }
        state.withLock { state in
            state.route = S3Route(
                endpoint: endpoint, region: state.route.region, clockOffset: state.route.clockOffset)
        }
        return true
    }
}

extension HTTPResponseHead {
    /// The store says so itself that it has answered; what stands before it uses other names, such as `cf-ray` or `x-request-id`.
    var isNamedByStore: Bool { headers["x-amz-request-id"] != nil || headers["x-amz-id-2"] != nil }

    /// A body that was cut short would have been noticed.
    fileprivate var hasKnownEnd: Bool {
        headers["content-length"] != nil || headers["transfer-encoding"]?.lowercased() == "chunked"
    }
}
