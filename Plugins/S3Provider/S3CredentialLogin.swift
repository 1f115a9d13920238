import CloudMountCrypto
import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS

/// The console session of whoever has logged in by `aws login`.
///
/// Source: "Login credentials provider", AWS SDKs and Tools Reference Guide; the API of AWS Sign-In (CreateOAuth2Token); RFC 9449 (DPoP)
/// for the proof that the request is of who has logged in.
struct LoginCredentials: S3CredentialSource {
    var session: String
    /// For messages.
    var profile: String
    var settings: S3Settings

    /// Renewal begins so long before the end, in seconds: they last for a quarter of an hour.
    private static let margin = 300

    func load() async throws(VFSError) -> S3CredentialAnswer {
        let path = try path
        return try await CachedTokens.shared.alone(with: path) { () async throws(VFSError) in
            guard var token = try await LoginToken.read(path) else { throw loggedOut(false) }
            let now = settings.environment.now()
            let left = token.end.seconds - now.seconds
            if left < Self.margin {
                do throws(VFSError) {
                    try await token.refresh(self, now)
                    await CachedTokens.shared.write(token.json, to: path)
                } catch {
                    if left <= 0 { throw error }
                }
            }
            guard let credentials = token.credentials else { throw loggedOut(true) }
            return S3CredentialAnswer(
                credentials: credentials, files: [WatchedFile(path)], isCostly: true, source: "login session \(session)"
            )
        }
    }

    private var path: String {
        get throws(VFSError) {
            let name = Hex.string(SHA256.digest(Array(session.utf8))) + ".json"
            if let folder = settings.environment.variable("AWS_LOGIN_CACHE_DIRECTORY") { return "\(folder)/\(name)" }
            guard let home = settings.environment.home else {
                throw .credentials("there is no home directory for ~/.aws/login/cache")
            }
            return "\(home)/.aws/login/cache/\(name)"
        }
    }

    /// What a person has to do.
    func loggedOut(_ wasIn: Bool) -> VFSError {
        .credentials(
            "the login of profile '\(profile)' \(wasIn ? "has expired" : "has not begun"): run "
                + "'aws login --profile \(profile)'", retry: .backoff)
    }
}

/// What `aws login` has left in a file.
struct LoginToken: Sendable {
    /// `accessKeyId`, `secretAccessKey`, `sessionToken`, `accountId`, `expiresAt`.
    private var access: [String: String] = [:]
    /// All else that is text.
    private var values: [String: String] = [:]

    var end: Timestamp { access["expiresAt"].flatMap { WireDate.iso8601($0) } ?? Timestamp(seconds: 0) }

    var credentials: S3Credentials? {
        guard let token = access["sessionToken"] else { return nil }
        return S3Credentials(
            id: access["accessKeyId"], secret: access["secretAccessKey"], token: token, expiration: end)
    }

    /// Nil when there is none, or none that can be used.
    static func read(_ path: String) async throws(VFSError) -> LoginToken? {
        guard let bytes = try await CachedTokens.shared.read(path), let token = parse(bytes), token.credentials != nil
        else { return nil }
        return token
    }

    static func parse(_ bytes: [UInt8]) -> LoginToken? {
        let values = JSONReader.read(bytes) { reader throws(JSONError) in try reader.strings() }
        var access: [String: String] = [:]
        let read = JSONReader.read(bytes) { reader throws(JSONError) in
            try reader.object { reader, name throws(JSONError) in
                guard case "accessToken" = name else { return try reader.skip() }
                access = try reader.strings()
            }
            return true
        }
        guard let values, read == true else { return nil }
        return LoginToken(access: access, values: values)
    }

    var json: [UInt8] {
        func object(_ values: [String: String]) -> JSONObject {
            var object = JSONObject()
            for (name, value) in values.sorted(by: { $0.key < $1.key }) { object.add(name, value) }
            return object
        }
        var whole = object(values)
        whole.add("accessToken", object(access))
        return whole.bytes
    }

    /// CreateOAuth2Token.
    fileprivate mutating func refresh(_ source: LoginCredentials, _ now: Timestamp) async throws(VFSError) {
        let settings = source.settings
        let region = settings.region ?? "us-east-1"
        guard S3Options.isRegion(region) else { throw .credentials("'\(region)' is not the name of a region") }
        let own = S3Partition.of(region: region).signIn.map { "\(region).\($0)" }
        let url = try settings.address(of: "signin", host: own ?? S3Partition.host("signin", region: region))
        let service = S3CredentialService("AWS Sign-In at \(url.authority)", caFile: settings.caFile)
        guard let client = values["clientId"], let refresh = values["refreshToken"],
            let key = values["dpopKey"].flatMap(Self.key)
        else { throw source.loggedOut(true) }
        var body = JSONObject()
        body.add("clientId", client)
        body.add("grantType", "refresh_token")
        body.add("refreshToken", refresh)
        var request = HTTPRequest.post("\(url.text)/v1/token", "application/json", body.bytes)
        guard let proof = Self.proof(key, for: request.url, at: now.seconds) else { throw source.loggedOut(true) }
        request.headers.append("dpop", proof)
        let response = try await service.answer(request)
        if [400, 401, 403].contains(response.status) {
            let code = JSONReader.read(response.body) { reader throws(JSONError) in try reader.strings() }?["error"]
            guard code == "INSUFFICIENT_PERMISSIONS" else { throw source.loggedOut(true) }
            throw .credentials("\(service.name): who has logged in may not have credentials for programs")
        }
        guard response.status == 200 else { throw service.refusal(response.status, code: nil, text: nil) }
        var given: [String: String] = [:]
        var next: String?
        var seconds: Int?
        let read = JSONReader.read(response.body) { reader throws(JSONError) in
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "accessToken": given = try reader.strings()
                case "refreshToken": next = try reader.optionalString()
                case "expiresIn": seconds = try reader.optionalInteger()
                default: try reader.skip()
                }
            }
            return true
        }
        guard read == true, let next, let seconds, 1...86_400 ~= seconds else { throw service.broken() }
        var renewed = self
        for name in ["accessKeyId", "secretAccessKey", "sessionToken"] { renewed.access[name] = given[name] }
        renewed.access["expiresAt"] = CachedToken.time(now.seconds + seconds)
        renewed.values["refreshToken"] = next
        guard renewed.credentials != nil else { throw service.broken() }
        self = renewed
    }

    /// Of a PEM file.
    private static func key(_ pem: String) -> ECKey? {
        let lines = pem.split(whereSeparator: \.isNewline).filter { !$0.hasPrefix("-----") }
        return Base64.decode(lines.joined()).flatMap { ECKey(der: $0) }
    }

    /// A token of RFC 9449.
    static func proof(_ key: ECKey, for url: String, at seconds: Int) -> String? {
        func encoded(_ bytes: [UInt8]) -> String {
            String(Base64.encode(bytes).prefix { $0 != "=" }).replacing("+", with: "-").replacing("/", with: "_")
        }
        var point = JSONObject()
        point.add("kty", "EC")
        point.add("x", encoded(key.publicX))
        point.add("y", encoded(key.publicY))
        point.add("crv", "P-256")
        var header = JSONObject()
        header.add("typ", "dpop+jwt")
        header.add("alg", "ES256")
        header.add("jwk", point)
        var payload = JSONObject()
        payload.add("htm", "POST")
        payload.add("htu", url)
        payload.add("iat", seconds)
        payload.add("jti", (0..<2).map { _ in String(UInt64.random(in: 0 ... .max), radix: 16) }.joined(separator: "-"))
        let signed = "\(encoded(header.bytes)).\(encoded(payload.bytes))"
        return key.signature(of: Array(signed.utf8)).map { "\(signed).\(encoded($0))" }
    }
}
