import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// A role of IAM Identity Center, for whoever has logged in by `aws sso login`.
///
/// Source: "IAM Identity Center credential provider", AWS SDKs and Tools Reference Guide; the APIs of IAM Identity Center Portal
/// (GetRoleCredentials) and of its OIDC service (CreateToken).
struct SSOCredentials: S3CredentialSource {
    var account: String
    var role: String
    var region: String
    /// Of the `[sso-session]` section; nil: the profile has all of it by itself, and its token is not refreshed.
    var session: String?
    var startURL: String
    /// Of the profile, for messages.
    var profile: String
    var settings: S3Settings

    /// Nil when the profile has no more than a session, which by itself gives no credentials.
    init?(profile name: String, _ files: S3SharedFiles, _ settings: S3Settings) throws(VFSError) {
        guard let own = files.profiles[name]?.values,
            ["sso_account_id", "sso_role_name", "sso_start_url"].contains(where: { own[$0] != nil })
        else { return nil }
        let place = "profile '\(name)'"
        var values = own
        if let session = own["sso_session"] {
            guard let section = files.sessions[session] else {
                throw .credentials("\(place) names the sso_session '\(session)', which \(files.places.config) has not")
            }
            if let fault = files.configFault {
                throw .credentials("the sso_session '\(session)' of \(place) is not used: \(fault)")
            }
            for (key, value) in section {
                guard values[key] == nil || values[key] == value else {
                    throw .credentials("\(place) and its sso_session '\(session)' do not agree on \(key)")
                }
                values[key] = value
            }
        }
        func value(_ key: String) throws(VFSError) -> String {
            guard let value = values[key] else { throw .credentials("\(place) has no \(key)") }
            return value
        }
        account = try value("sso_account_id")
        role = try value("sso_role_name")
        region = try value("sso_region")
        startURL = try value("sso_start_url")
        session = own["sso_session"]
        profile = name
        self.settings = settings
        guard S3Options.isRegion(region) else { throw .credentials("\(place): sso_region is not the name of a region") }
    }

    func load() async throws(VFSError) -> S3CredentialAnswer {
        let cached = try SSOToken.path(session ?? startURL, settings.environment)
        let token: String
        if session == nil {
            let found = try await SSOToken.read(cached)
            guard let found, let end = found.end, end > settings.environment.now() else {
                throw loggedOut(found != nil)
            }
            token = found.access
        } else {
            token = try await CachedTokens.shared.alone(with: cached) { () async throws(VFSError) in
                try await freshToken(cached)
            }
        }
        let url = try settings.address(
            of: "sso",
            host: S3Partition.host(
                "portal.sso", region: region, dualStack: settings.usesDualStack, fips: settings.usesFIPS))
        let service = S3CredentialService("IAM Identity Center at \(url.authority)", caFile: settings.caFile)
        var headers = HTTPHeaders()
        headers.append("x-amz-sso_bearer_token", token)
        let query =
            "role_name=\(PercentEncoding.encode(role, keepSlash: false))"
            + "&account_id=\(PercentEncoding.encode(account, keepSlash: false))"
        let response = try await service.answer(
            HTTPRequest(.get, "\(url.text)/federation/credentials?\(query)", headers: headers))
        if response.status == 401 { throw loggedOut(true) }
        guard response.status == 200 else {
            let (code, message) = GivenCredentials.complaint(response.body)
            throw service.refusal(
                response.status, code: code, text: message, hiding: [token],
                advice: " (role \(role) of account \(account))")
        }
        guard let credentials = Self.parse(response.body) else { throw service.broken() }
        return S3CredentialAnswer(
            credentials: credentials, files: [WatchedFile(cached)], isCostly: true,
            source: "role \(role) of account \(account) by IAM Identity Center")
    }

    /// Renewal of a session's token begins so long before its end, in seconds.
    private static let margin = 300

    /// The token of the session, refreshed when it ends soon.
    private func freshToken(_ path: String) async throws(VFSError) -> String {
        let now = settings.environment.now()
        guard var token = try await SSOToken.read(path) else { throw loggedOut(false) }
        let left = token.end.map { $0.seconds - now.seconds } ?? 0
        guard left < Self.margin else { return token.access }
        guard let renewal = token.renewal(now) else {
            if left > 0 { return token.access }
            throw loggedOut(true)
        }
        do throws(VFSError) {
            try await token.refresh(renewal, self, now)
        } catch {
            if left > 0 { return token.access }
            throw error
        }
        await CachedTokens.shared.write(token.json, to: path)
        return token.access
    }

    /// What a person has to do.
    func loggedOut(_ wasIn: Bool) -> VFSError {
        let what = session.map { "SSO session '\($0)'" } ?? "SSO login of profile '\(profile)'"
        let command = session.map { "aws sso login --sso-session \($0)" } ?? "aws sso login --profile \(profile)"
        return .credentials("the \(what) \(wasIn ? "has expired" : "has not begun"): run '\(command)'", retry: .backoff)
    }

    static func parse(_ bytes: [UInt8]) -> S3Credentials? {
        var id: String?
        var secret: String?
        var token: String?
        var milliseconds: Int?
        let read = JSONReader.read(bytes) { reader throws(JSONError) in
            try reader.object { reader, name throws(JSONError) in
                guard case "roleCredentials" = name else { return try reader.skip() }
                try reader.object { reader, name throws(JSONError) in
                    switch name {
                    case "accessKeyId": id = try reader.optionalString()
                    case "secretAccessKey": secret = try reader.optionalString()
                    case "sessionToken": token = try reader.optionalString()
                    case "expiration": milliseconds = try reader.optionalInteger()
                    default: try reader.skip()
                    }
                }
            }
            return true
        }
        // The year 2200 and so.
        guard read == true, token != nil, let milliseconds, 0...8_000_000_000_000 ~= milliseconds else { return nil }
        return S3Credentials(
            id: id, secret: secret, token: token, expiration: Timestamp(seconds: milliseconds / 1000))
    }
}

/// What `aws sso login` has left in a file, of which all that is text is kept.
struct SSOToken: Sendable {
    var values: [String: String]

    var access: String { values["accessToken"] ?? "" }
    var end: Timestamp? { values["expiresAt"].flatMap(Self.time) }

    /// What renews it without a person; nil: it cannot be, or not any more.
    func renewal(_ now: Timestamp) -> (client: String, secret: String, token: String)? {
        guard let client = values["clientId"], let secret = values["clientSecret"], let token = values["refreshToken"],
            let end = values["registrationExpiresAt"].flatMap(Self.time), end > now
        else { return nil }
        return (client, secret, token)
    }

    /// Old tools wrote `UTC` where others write `Z`.
    private static func time(_ text: String) -> Timestamp? {
        WireDate.iso8601(text.hasSuffix("UTC") ? text.dropLast(3) + "Z" : text)
    }

    static func path(_ name: String, _ environment: S3Environment) throws(VFSError) -> String {
        guard let home = environment.home else { throw .credentials("there is no home directory for ~/.aws/sso/cache") }
        return "\(home)/.aws/sso/cache/\(CachedToken.sha1(name)).json"
    }

    /// Nil when there is none, or none that can be used.
    static func read(_ path: String) async throws(VFSError) -> SSOToken? {
        guard let bytes = try await CachedTokens.shared.read(path) else { return nil }
        let values = JSONReader.read(bytes) { reader throws(JSONError) in try reader.strings() }
        guard let values, let access = values["accessToken"], 1...16_384 ~= access.utf8.count,
            access.utf8.allSatisfy({ 0x21...0x7E ~= $0 }), values["expiresAt"].flatMap(time) != nil
        else { return nil }
        return SSOToken(values: values)
    }
}

extension SSOToken {
    /// CreateToken.
    fileprivate mutating func refresh(
        _ renewal: (client: String, secret: String, token: String), _ source: SSOCredentials, _ now: Timestamp
    ) async throws(VFSError) {
        let settings = source.settings
        let url = try settings.address(
            of: "sso_oidc",
            host: S3Partition.host(
                "oidc", region: source.region, dualStack: settings.usesDualStack, fips: settings.usesFIPS))
        let service = S3CredentialService("IAM Identity Center at \(url.authority)", caFile: settings.caFile)
        var body = JSONObject()
        body.add("clientId", renewal.client)
        body.add("clientSecret", renewal.secret)
        body.add("grantType", "refresh_token")
        body.add("refreshToken", renewal.token)
        let response = try await service.answer(.post("\(url.text)/token", "application/json", body.bytes))
        // What it says no with is of no use to a person but this: the session is over.
        if 400..<500 ~= response.status, response.status != 429 { throw source.loggedOut(true) }
        guard response.status == 200 else { throw service.refusal(response.status, code: nil, text: nil) }
        var access: String?
        var refresh: String?
        var seconds: Int?
        let read = JSONReader.read(response.body) { reader throws(JSONError) in
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "accessToken": access = try reader.optionalString()
                case "refreshToken": refresh = try reader.optionalString()
                case "expiresIn": seconds = try reader.optionalInteger()
                default: try reader.skip()
                }
            }
            return true
        }
        guard read == true, let access, 1...16_384 ~= access.utf8.count,
            access.utf8.allSatisfy({ 0x21...0x7E ~= $0 }), let seconds, 1...31_536_000 ~= seconds
        else { throw service.broken() }
        values["accessToken"] = access
        values["expiresAt"] = CachedToken.time(now.seconds + seconds)
        if let refresh { values["refreshToken"] = refresh }
    }

    fileprivate var json: [UInt8] {
        var object = JSONObject()
        for (name, value) in values.sorted(by: { $0.key < $1.key }) { object.add(name, value) }
        return object.bytes
    }
}
