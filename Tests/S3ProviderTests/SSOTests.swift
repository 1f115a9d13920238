import CloudMountVFS
import Glibc
import Synchronization
import TestServers
import Testing

@testable import S3Provider

@Suite("IAM Identity Center")
struct SSOTests {
    private static let config = """
        [sso-session work]
        sso_region = eu-west-1
        sso_start_url = https://work.awsapps.com/start
        [profile new]
        sso_session = work
        sso_account_id = 123456789012
        sso_role_name = Read Only
        region = us-west-2
        [profile old]
        sso_region = eu-west-1
        sso_start_url = https://work.awsapps.com/start
        sso_account_id = 123456789012
        sso_role_name = Read Only
        [profile over]
        role_arn = arn:aws:iam::1:role/over
        source_profile = new
        [profile bare]
        sso_session = work
        [profile gone]
        sso_session = nowhere
        sso_account_id = 1
        sso_role_name = r
        [profile differs]
        sso_session = work
        sso_account_id = 1
        sso_role_name = r
        sso_region = us-east-1
        [profile half]
        sso_start_url = https://work.awsapps.com/start
        sso_account_id = 1
        sso_role_name = r
        """

    /// What is valid for good credentials, and which refresh token serves next.
    private final class Portal: Sendable {
        let state = Mutex((token: "ACCESS-0", refresh: "REFRESH-0", refreshes: 0, isDown: false))

        func handle(_ request: SeenRequest) -> ScriptedAnswer {
            state.withLock { state in
                if state.isDown { return ScriptedAnswer(status: 503) }
                if request.path == "/token" {
                    guard request.text.contains(#""refreshToken":"\#(state.refresh)""#),
                        request.text.contains(#""grantType":"refresh_token""#),
                        request.text.contains(#""clientId":"CLIENT""#), request.text.contains(#""clientSecret":"CS""#)
                    else { return .json(#"{"error": "invalid_grant"}"#, status: 400) }
                    state.refreshes += 1
                    state.token = "ACCESS-\(state.refreshes)"
                    state.refresh = "REFRESH-\(state.refreshes)"
                    return .json(
                        #"{"accessToken": "\#(state.token)", "expiresIn": 28800, "refreshToken": "\#(state.refresh)", "#
                            + #""tokenType": "Bearer"}"#)
                }
                guard request.headers["x-amz-sso_bearer_token"] == state.token else {
                    return .json(#"{"message": "Session token not found or invalid"}"#, status: 401)
                }
                guard request.query == "role_name=Read%20Only&account_id=123456789012" else {
                    return .json(#"{"message": "No access"}"#, status: 403)
                }
                return .json(
                    #"{"roleCredentials": {"accessKeyId": "SA", "secretAccessKey": "SS", "sessionToken": "ST", "#
                        + #""expiration": 1795431600000}}"#)
            }
        }
    }

    /// The files' names are those of the tools: of "work" and of the start URL.
    private static let sessionFile = ".aws/sso/cache/\(CachedToken.sha1("work")).json"
    private static let urlFile = ".aws/sso/cache/\(CachedToken.sha1("https://work.awsapps.com/start")).json"

    private static func cached(
        _ token: String, until: String, refresh: String? = nil, registered: String = "2027-01-01T00:00:00Z"
    ) -> String {
        var text =
            #"{"startUrl": "https://work.awsapps.com/start", "region": "eu-west-1", "accessToken": "\#(token)", "#
        text += #""expiresAt": "\#(until)""#
        if let refresh {
            text += #", "clientId": "CLIENT", "clientSecret": "CS", "refreshToken": "\#(refresh)", "#
            text += #""registrationExpiresAt": "\#(registered)", "extra": "kept", "scopes": ["x"]"#
        }
        return text + "}"
    }

    /// 2026-11-23T09:30:00Z
    private func surroundings(_ server: ScriptedServer) throws -> Surroundings {
        let address = "http://127.0.0.1:\(server.port)"
        let surroundings = try Surroundings(
            config: Self.config, ["AWS_ENDPOINT_URL_SSO": address, "AWS_ENDPOINT_URL_SSO_OIDC": address])
        for folder in ["/.aws", "/.aws/sso", "/.aws/sso/cache"] { mkdir(surroundings.folder.path + folder, 0o700) }
        return surroundings
    }

    private func start() throws -> (Portal, ScriptedServer, Surroundings) {
        let portal = Portal()
        let server = try ScriptedServer { request, _ in portal.handle(request) }
        return (portal, server, try surroundings(server))
    }

    private func remove(_ surroundings: Surroundings) {
        for file in [Self.sessionFile, Self.urlFile] { unlink("\(surroundings.folder.path)/\(file)") }
        for folder in ["/.aws/sso/cache", "/.aws/sso", "/.aws"] { rmdir(surroundings.folder.path + folder) }
    }

    @Test("The names of the token files are those of the tools")
    func names() {
        // printf work | sha1sum
        #expect(CachedToken.sha1("work") == "e274eeff768c6396088ec6eb091f4bf4d47ab1e0")
        #expect(CachedToken.time(1_795_431_600) == "2026-11-23T11:00:00Z")
    }

    @Test("A session's token, and one of the old kind, give the credentials of the role")
    func valid() async throws {
        let (_, server, surroundings) = try start()
        defer { remove(surroundings) }
        surroundings.folder.write(Self.sessionFile, Self.cached("ACCESS-0", until: "2026-11-23T15:00:00Z"))
        let answer = try await surroundings.load(profile: "new")
        #expect(
            answer.credentials
                == S3Credentials(
                    accessKeyID: "SA", secretAccessKey: "SS", sessionToken: "ST",
                    expiration: Timestamp(seconds: 1_795_431_600)))
        #expect(answer.source == "profile 'new': role Read Only of account 123456789012 by IAM Identity Center")
        #expect(answer.files.count == 3)
        surroundings.folder.write(Self.urlFile, Self.cached("ACCESS-0", until: "2026-11-23T15:00:00UTC"))
        #expect(try await surroundings.load(profile: "old").credentials?.accessKeyID == "SA")
        #expect(server.seen.map(\.path) == ["/federation/credentials", "/federation/credentials"])
    }

    @Test("A token that ends is refreshed, once for all that wait, and written down for the other tools")
    func refreshed() async throws {
        let (portal, server, surroundings) = try start()
        defer { remove(surroundings) }
        let file = surroundings.folder.write(
            Self.sessionFile, Self.cached("ACCESS-0", until: "2026-11-23T09:31:00Z", refresh: "REFRESH-0"))
        try await withThrowingTaskGroup(of: String?.self) { group in
            for _ in 0..<16 { group.addTask { try await surroundings.load(profile: "new").credentials?.accessKeyID } }
            for try await id in group { #expect(id == "SA") }
        }
        #expect(portal.state.withLock { $0.refreshes } == 1)
        #expect(server.seen.count == 17)
        let written = try #require(try await SSOToken.read(file))
        #expect(written.access == "ACCESS-1" && written.values["refreshToken"] == "REFRESH-1")
        #expect(written.values["extra"] == "kept" && written.values["clientSecret"] == "CS")
        #expect(written.values["expiresAt"] == "2026-11-23T17:30:00Z")
        var status = stat()
        #expect(stat(file, &status) == 0 && status.st_mode & 0o777 == 0o600)
    }

    @Test("A refreshed token that cannot be written down serves all the same: what refreshes it has been used")
    func unwritable() async throws {
        let (portal, server, original) = try start()
        defer { remove(original) }
        var surroundings = original
        // The token's path is as long as paths may be, and the one of a file beside it longer.
        var home = surroundings.folder.path
        var made: [String] = []
        while home.utf8.count < 4029 {
            home += "/" + String(repeating: "d", count: min(200, max(1, 4028 - home.utf8.count)))
            made.append(home)
        }
        surroundings.variables["HOME"] = home
        made += ["/.aws", "/.aws/sso", "/.aws/sso/cache"].map { home + $0 }
        let file = "\(home)/\(Self.sessionFile)"
        defer {
            unlink(file)
            for folder in made.reversed() { rmdir(folder) }
        }
        for folder in made { mkdir(folder, 0o700) }
        let descriptor = open(file, O_WRONLY | O_CREAT, 0o600)
        let text = Array(Self.cached("ACCESS-0", until: "2026-11-23T09:31:00Z", refresh: "REFRESH-0").utf8)
        #expect(write(descriptor, text, text.count) == text.count)
        close(descriptor)
        for _ in 0..<3 { #expect(try await surroundings.load(profile: "new").credentials?.accessKeyID == "SA") }
        #expect(try WatchedFile(file).read()?.bytes == text)
        #expect(portal.state.withLock { $0.refreshes } == 1)
        #expect(server.seen.count == 4)
    }

    @Test("A session that is over, or was never begun, names the command that begins it")
    func over() async throws {
        let (portal, server, surroundings) = try start()
        defer { remove(surroundings) }
        let (session, profile) = ("run 'aws sso login --sso-session work'", "run 'aws sso login --profile old'")
        #expect(await surroundings.refusal(profile: "new").hasSuffix(session))
        #expect(await surroundings.refusal(profile: "old").hasSuffix(profile))
        for token in ["", "{}", "{\"accessToken\": \"x\"}", Self.cached("a b", until: "2027-01-01T00:00:00Z")] {
            surroundings.folder.write(Self.sessionFile, token)
            #expect(await surroundings.refusal(profile: "new").hasSuffix(session))
        }
        let past = "2026-11-23T09:00:00Z"
        surroundings.folder.write(Self.urlFile, Self.cached("ACCESS-0", until: past, refresh: "REFRESH-0"))
        #expect(await surroundings.refusal(profile: "old").hasSuffix(profile))
        surroundings.folder.write(
            Self.sessionFile, Self.cached("ACCESS-0", until: past, refresh: "REFRESH-0", registered: past))
        #expect(await surroundings.refusal(profile: "new").hasSuffix("has expired: \(session)"))
        #expect(server.seen.isEmpty)
        surroundings.folder.write(Self.sessionFile, Self.cached("ACCESS-0", until: past, refresh: "USED"))
        #expect(await surroundings.refusal(profile: "new").hasSuffix("has expired: \(session)"))
        surroundings.folder.write(Self.sessionFile, Self.cached("REVOKED", until: "2027-01-01T00:00:00Z"))
        #expect(await surroundings.refusal(profile: "new").hasSuffix("has expired: \(session)"))
        // A refresh that fails while the token still serves is no matter.
        portal.state.withLock { $0.token = "ACCESS-9" }
        surroundings.folder.write(
            Self.sessionFile, Self.cached("ACCESS-9", until: "2026-11-23T09:31:00Z", refresh: "USED"))
        #expect(try await surroundings.load(profile: "new").credentials?.accessKeyID == "SA")
        portal.state.withLock { $0.isDown = true }
        #expect(await surroundings.refusal(profile: "new").contains("it answered 503"))
    }

    @Test("A role that is reached by a session of IAM Identity Center")
    func chained() async throws {
        let (_, server, surroundings) = try start()
        defer { remove(surroundings) }
        let tokens = try TokenServer(["over": "SA"])
        var all = surroundings
        all.variables.merge(tokens.variables) { $1 }
        all.folder.write(Self.sessionFile, Self.cached("ACCESS-0", until: "2026-11-23T15:00:00Z"))
        let answer = try await all.load(profile: "over")
        #expect(answer.credentials?.accessKeyID == "OVER")
        #expect(answer.files.count == 3 && server.seen.count == 1)
    }

    @Test(
        "Profiles that lack something say what",
        arguments: [
            ("bare", "neither sso_account_id nor sso_role_name"), ("gone", "sso_session 'nowhere'"),
            ("differs", "do not agree on sso_region"), ("half", "has no sso_region"),
        ])
    func incomplete(profile: String, expected: String) async throws {
        let (_, _, surroundings) = try start()
        defer { remove(surroundings) }
        #expect(await surroundings.refusal(profile: profile).contains(expected))
    }

    @Test("Answers that are no credentials are not believed")
    func broken() async throws {
        for body in [
            "", "{}", #"{"roleCredentials": {"accessKeyId": "A"}}"#,
            #"{"roleCredentials": {"accessKeyId": "A", "secretAccessKey": "S", "sessionToken": "T", "expiration": 1e99}}"#,
            #"{"roleCredentials": {"accessKeyId": "A", "secretAccessKey": "S", "sessionToken": "T", "expiration": -1}}"#,
        ] {
            let server = try ScriptedServer { _, _ in .json(body) }
            let surroundings = try surroundings(server)
            defer { remove(surroundings) }
            surroundings.folder.write(Self.sessionFile, Self.cached("ACCESS-0", until: "2026-11-23T15:00:00Z"))
            #expect(await surroundings.refusal(profile: "new").contains("is no credentials"))
        }
    }
}
