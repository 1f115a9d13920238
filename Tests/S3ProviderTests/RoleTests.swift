import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization
import TestServers
import Testing

@testable import S3Provider

extension ScriptedAnswer {
    static func json(_ body: String, status: Int = 200) -> ScriptedAnswer {
        ScriptedAnswer(status: status, headers: [("Content-Type", "application/json")], body: Array(body.utf8))
    }
}

/// Shared files in a folder, and what surrounds them.
struct Surroundings {
    let folder: Folder
    var variables: [String: String]
    var clock = TestClock()

    init(config: String = "", credentials: String = "", _ variables: [String: String] = [:]) throws {
        folder = try Folder()
        self.variables = [
            "HOME": folder.path, "AWS_CONFIG_FILE": folder.write("config", config),
            "AWS_SHARED_CREDENTIALS_FILE": folder.write("credentials", credentials),
            "AWS_EC2_METADATA_DISABLED": "true",
        ].merging(variables) { $1 }
    }

    var environment: S3Environment { S3Environment(variable: { [variables] in variables[$0] }, now: clock.now) }

    func load(profile: String? = nil) async throws(VFSError) -> S3CredentialAnswer {
        var values = OptionValues()
        if let profile { values["profile"] = .string(profile) }
        return try await S3CredentialChain.source(values, environment: environment).load()
    }

    /// Why there are no credentials.
    func refusal(profile: String? = nil) async -> String {
        let error = await #expect(throws: VFSError.self) { try await load(profile: profile) }
        #expect(error?.code == .credentialsInvalid)
        return error?.message ?? ""
    }
}

/// A fake of the token service: knows which key may have which role, and remembers what it was asked.
final class TokenServer: Sendable {
    let server: ScriptedServer

    static func answer(_ action: String, key: String, end: String = "2026-11-23T11:00:00Z") -> ScriptedAnswer {
        .xml(
            """
            <\(action)Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><\(action)Result>
            <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/x/y</Arn></AssumedRoleUser>
            <Credentials><AccessKeyId>\(key)</AccessKeyId><SecretAccessKey>S-\(key)</SecretAccessKey>
            <SessionToken>T-\(key)</SessionToken><Expiration>\(end)</Expiration></Credentials>
            </\(action)Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></\(action)Response>
            """)
    }

    static func refusal(_ code: String, _ message: String) -> ScriptedAnswer {
        .xml(
            "<ErrorResponse><Error><Type>Sender</Type><Code>\(code)</Code><Message>\(message)</Message></Error>"
                + "<RequestId>r</RequestId></ErrorResponse>", status: 403)
    }

    /// - Parameter roles: the key that may have a role, by the role's name; the new key is named for it.
    init(_ roles: [String: String]) throws {
        server = try ScriptedServer { request, _ in
            let form = Self.form(request)
            let role = String(form["RoleArn"]?.split(separator: "/").last ?? "")
            guard let allowed = roles[role], Self.key(request) == allowed else {
                return Self.refusal("AccessDenied", "not authorized")
            }
            return Self.answer("AssumeRole", key: role.uppercased())
        }
    }

    var variables: [String: String] { ["AWS_ENDPOINT_URL_STS": "http://127.0.0.1:\(server.port)"] }

    static func form(_ request: SeenRequest) -> [String: String] {
        var form: [String: String] = [:]
        for field in request.text.split(separator: "&") {
            let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            form[String(parts[0])] =
                parts.count > 1 ? String(parts[1]).replacing("%3A", with: ":").replacing("%2F", with: "/") : ""
        }
        return form
    }

    /// The access key of a signature.
    static func key(_ request: SeenRequest) -> String? {
        request.headers["authorization"]?.split(separator: "Credential=").last?.split(separator: "/").first.map(
            String.init)
    }
}

@Suite("Roles")
struct RoleTests {
    private static let config = """
        [default]
        region = eu-west-1
        [profile base]
        aws_access_key_id = BASE
        aws_secret_access_key = S
        aws_session_token = TOKEN
        [profile first]
        role_arn = arn:aws:iam::1:role/first
        source_profile = base
        role_session_name = me@home
        external_id = Secret+Id
        duration_seconds = 1800
        region = us-west-2
        [profile second]
        role_arn = arn:aws:iam::1:role/path/second
        source_profile = first
        [profile self]
        role_arn = arn:aws:iam::1:role/self
        source_profile = self
        aws_access_key_id = OWN
        aws_secret_access_key = S
        [profile named]
        role_arn = arn:aws:iam::1:role/named
        credential_source = Environment
        [profile denied]
        role_arn = arn:aws:iam::1:role/denied
        source_profile = base
        [profile ring]
        role_arn = arn:aws:iam::1:role/ring
        source_profile = ring2
        [profile ring2]
        role_arn = arn:aws:iam::1:role/ring
        source_profile = ring
        [profile loop]
        role_arn = arn:aws:iam::1:role/ring
        source_profile = loop
        [profile mfa]
        role_arn = arn:aws:iam::1:role/mfa
        source_profile = base
        mfa_serial = arn:aws:iam::1:mfa/me
        """

    private static let roles = ["first": "BASE", "second": "FIRST", "self": "OWN", "named": "ENV"]

    private func surroundings(_ server: TokenServer) throws -> Surroundings {
        try Surroundings(
            config: Self.config,
            server.variables.merging(["AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "S"]) { $1 })
    }

    @Test("A profile with a role takes it on with the keys of its source_profile, signed and with all that it says")
    func role() async throws {
        let server = try TokenServer(Self.roles)
        let answer = try await surroundings(server).load(profile: "first")
        #expect(
            answer.credentials
                == S3Credentials(
                    accessKeyID: "FIRST", secretAccessKey: "S-FIRST", sessionToken: "T-FIRST",
                    expiration: Timestamp(seconds: 1_795_431_600)))
        #expect(answer.files.count == 2 && answer.isCostly)
        #expect(answer.source == "profile 'first': role arn:aws:iam::1:role/first by profile 'base'")
        let request = try #require(server.server.seen.first)
        #expect(request.method == "POST" && request.target == "/")
        #expect(
            TokenServer.form(request) == [
                "Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": "arn:aws:iam::1:role/first",
                "RoleSessionName": "me%40home", "DurationSeconds": "1800", "ExternalId": "Secret%2BId",
            ])
        #expect(request.headers["x-amz-security-token"] == "TOKEN")
        #expect(request.headers["authorization"]?.contains("/us-west-2/sts/aws4_request") ?? false)
    }

    @Test("Roles in a chain, of a profile's own keys, and of the environment's")
    func chains() async throws {
        let server = try TokenServer(Self.roles)
        let surroundings = try surroundings(server)
        let second = try await surroundings.load(profile: "second")
        #expect(second.credentials?.accessKeyID == "SECOND")
        #expect(server.server.seen.map(TokenServer.key) == ["BASE", "FIRST"])
        #expect(server.server.seen.last?.headers["x-amz-security-token"] == "T-FIRST")
        #expect(TokenServer.form(server.server.seen[1])["RoleSessionName"]?.hasPrefix("cloudmount-") ?? false)
        #expect(try await surroundings.load(profile: "self").credentials?.accessKeyID == "SELF")
        #expect(try await surroundings.load(profile: "named").credentials?.accessKeyID == "NAMED")
    }

    @Test("What a role needs and is not there is told, and nothing else is taken instead")
    func refusals() async throws {
        let server = try TokenServer(Self.roles)
        let surroundings = try surroundings(server)
        let denied = await surroundings.refusal(profile: "denied")
        #expect(denied.contains("role arn:aws:iam::1:role/denied by 127.0.0.1") && denied.contains("AccessDenied"))
        #expect(await surroundings.refusal(profile: "ring").hasSuffix("source_profile: ring, ring2, ring"))
        #expect(await surroundings.refusal(profile: "loop").contains("its own source_profile and has no keys"))
        let mfa = await surroundings.refusal(profile: "mfa")
        #expect(mfa.contains("code of the MFA device arn:aws:iam::1:mfa/me, which a daemon cannot ask"))
        #expect(server.server.seen.count == 1)

        var long = "[profile p0]\naws_access_key_id = BASE\naws_secret_access_key = S\n"
        for number in 1...11 {
            long += "[profile p\(number)]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = p\(number - 1)\n"
        }
        surroundings.folder.write("config", long)
        #expect(await surroundings.refusal(profile: "p11").contains("'p11' goes through more than 10 others"))
        #expect(server.server.seen.count == 1)
    }

    @Test(
        "Profiles that contradict themselves are refused where they do, without a request",
        arguments: [
            ("role_arn = arn:aws:iam::1:role/x", "neither source_profile nor credential_source"),
            ("role_arn = arn:aws:iam::1:role/x\nsource_profile = a\ncredential_source = Environment", "both"),
            ("role_arn = arn:aws:iam::1:user/x\nsource_profile = base", "role_arn is not the ARN of a role"),
            ("role_arn = role/x\nsource_profile = base", "role_arn is not the ARN of a role"),
            ("role_arn = arn:aws:iam::1:role/x\nsource_profile = gone", "'gone', the source_profile of 'x',"),
            ("role_arn = arn:aws:iam::1:role/x\nsource_profile = none", "profile 'none' has no credentials"),
            ("role_arn = arn:aws:iam::1:role/x\ncredential_source = Elsewhere", "is not one of Environment"),
            ("role_arn = arn:aws:iam::1:role/x\ncredential_source = Environment", "AWS_ACCESS_KEY_ID is not set"),
            (
                "role_arn = arn:aws:iam::1:role/x\ncredential_source = EcsContainer",
                "AWS_CONTAINER_CREDENTIALS_RELATIVE"
            ),
            ("role_arn = arn:aws:iam::1:role/x\ncredential_source = Ec2InstanceMetadata", "turned off"),
            ("role_arn = arn:aws:iam::1:role/x\nsource_profile = base\nduration_seconds = 899", "duration_seconds"),
            ("role_arn = arn:aws:iam::1:role/x\nsource_profile = base\nduration_seconds = 9e99", "duration_seconds"),
            ("role_arn = arn:aws:iam::1:role/x\nsource_profile = base\nrole_session_name = a b", "role_session_name"),
            ("role_arn = arn:aws:iam::1:role/x\nsource_profile = base\nexternal_id = a", "external_id"),
            ("source_profile = base", "a source_profile and no role_arn"),
            ("web_identity_token_file = /t", "no role_arn"),
        ])
    func contradictions(profile: String, expected: String) async throws {
        let server = try TokenServer(["x": "BASE"])
        let surroundings = try Surroundings(
            config: """
                [profile base]
                aws_access_key_id = BASE
                aws_secret_access_key = S
                [profile none]
                region = x
                [profile x]
                \(profile)
                """, server.variables)
        let message = await surroundings.refusal(profile: "x")
        #expect(message.contains(expected), "\(message)")
        #expect(server.server.seen.isEmpty)
    }

    @Test("A web identity's token is read for each renewal, and never told")
    func webIdentity() async throws {
        let server = try ScriptedServer { request, _ in
            let form = TokenServer.form(request)
            guard form["WebIdentityToken"] != "bad.token.which.is.long" else {
                return TokenServer.refusal("InvalidIdentityToken", "what is bad.token.which.is.long")
            }
            return TokenServer.answer("AssumeRoleWithWebIdentity", key: form["WebIdentityToken"] ?? "")
        }
        var surroundings = try Surroundings(
            config: "[profile pod]\nrole_arn = arn:aws:iam::1:role/pod\nregion = eu-west-1\n",
            [
                "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:\(server.port)", "AWS_ROLE_ARN": "arn:aws:iam::1:role/env",
                "AWS_ROLE_SESSION_NAME": "session",
            ])
        let file = surroundings.folder.write("token", "one.jwt\n")
        surroundings.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = file
        #expect(try await surroundings.load().credentials?.accessKeyID == "one.jwt")
        surroundings.folder.write("token", "two.jwt")
        let answer = try await surroundings.load()
        #expect(answer.credentials?.accessKeyID == "two.jwt")
        #expect(answer.source == "role arn:aws:iam::1:role/env by web identity")
        let form = TokenServer.form(server.seen[1])
        #expect(form["Action"] == "AssumeRoleWithWebIdentity" && form["RoleSessionName"] == "session")
        #expect(server.seen[1].headers["authorization"] == nil)
        // Keys in the environment come first, and a profile that is named by the mount before all of it.
        surroundings.variables["AWS_ACCESS_KEY_ID"] = "ENV"
        surroundings.variables["AWS_SECRET_ACCESS_KEY"] = "S"
        #expect(try await surroundings.load().source == "environment")
        surroundings.folder.write(
            "config", "[profile pod]\nrole_arn = arn:aws:iam::1:role/pod\nweb_identity_token_file = \(file)\n")
        #expect(try await surroundings.load(profile: "pod").credentials?.accessKeyID == "two.jwt")
        #expect(TokenServer.form(server.seen[2])["RoleArn"] == "arn:aws:iam::1:role/pod")

        surroundings.folder.write("token", "bad.token.which.is.long")
        let message = await surroundings.refusal(profile: "pod")
        #expect(message.contains("role arn:aws:iam::1:role/pod") && !message.contains("bad.token"))
        surroundings.variables["AWS_ACCESS_KEY_ID"] = nil
        surroundings.variables["AWS_SECRET_ACCESS_KEY"] = nil
        surroundings.variables["AWS_ROLE_ARN"] = nil
        #expect(await surroundings.refusal().contains("AWS_ROLE_ARN is not"))
        surroundings.folder.write("token", "\n")
        #expect(await surroundings.refusal(profile: "pod").contains("holds no token"))
        unlink(file)
        #expect(await surroundings.refusal(profile: "pod").contains("there is no web identity token file"))
    }

    @Test("A service that is down is asked twice; one whose answers are no credentials is not believed")
    func broken() async throws {
        let answers: [(ScriptedAnswer, String, Int)] = [
            (ScriptedAnswer(status: 503), "it answered 503", 2),
            (.xml("<AssumeRoleResponse>"), "is no credentials", 1),
            (TokenServer.answer("AssumeRole", key: "K", end: "soon"), "is no credentials", 1),
            (TokenServer.answer("AssumeRole", key: "", end: "2026-11-23T11:00:00Z"), "is no credentials", 1),
            (TokenServer.answer("AssumeRole", key: "a\nb"), "is no credentials", 1),
            (.xml("no", status: 400), "it answered 400", 1),
        ]
        for (answer, expected, count) in answers {
            let server = try ScriptedServer { _, _ in answer }
            let surroundings = try Surroundings(
                config: Self.config, ["AWS_ENDPOINT_URL_STS": "http://127.0.0.1:\(server.port)"])
            let message = await surroundings.refusal(profile: "first")
            #expect(message.contains(expected), "\(message)")
            #expect(server.seen.count == count)
        }
    }

    @Test("A clock that is off is put right by the service's")
    func clock() async throws {
        let server = try ScriptedServer { request, _ in
            guard request.headers["x-amz-date"] == "20261123T103000Z" else {
                var answer = TokenServer.refusal("SignatureDoesNotMatch", "Signature expired")
                answer.headers = [("Date", "Mon, 23 Nov 2026 10:30:00 GMT")]
                return answer
            }
            return TokenServer.answer("AssumeRole", key: "K")
        }
        let surroundings = try Surroundings(
            config: Self.config, ["AWS_ENDPOINT_URL_STS": "http://127.0.0.1:\(server.port)"])
        #expect(try await surroundings.load(profile: "first").credentials?.accessKeyID == "K")
        #expect(server.seen.count == 2)
    }

    @Test("The service is that of the region, or of the role's partition; http only to this machine")
    func addresses() throws {
        func host(_ variables: [String: String], _ arn: String = "arn:aws:iam::1:role/x") throws -> String {
            let settings = S3Settings(S3Environment(variable: { variables[$0] }))
            return try S3TokenService(settings, for: S3Role(arn: arn, of: "x")).host
        }
        #expect(try host([:]) == "https://sts.us-east-1.amazonaws.com")
        #expect(try host([:], "arn:aws-cn:iam::1:role/x") == "https://sts.cn-northwest-1.amazonaws.com.cn")
        #expect(try host([:], "arn:aws-us-gov:iam::1:role/x") == "https://sts.us-gov-west-1.amazonaws.com")
        #expect(try host(["AWS_REGION": "eu-west-1"]) == "https://sts.eu-west-1.amazonaws.com")
        #expect(try host(["AWS_REGION": "eusc-de-east-1"]) == "https://sts.eusc-de-east-1.amazonaws.eu")
        #expect(try host(["AWS_REGION": "aws-global"]) == "https://sts.amazonaws.com")
        let fips = ["AWS_REGION": "us-east-2", "AWS_USE_FIPS_ENDPOINT": "true"]
        #expect(try host(fips) == "https://sts-fips.us-east-2.amazonaws.com")
        let dual = ["AWS_REGION": "us-east-2", "AWS_USE_DUALSTACK_ENDPOINT": "true"]
        #expect(try host(dual) == "https://sts.us-east-2.api.aws")
        #expect(try host(["AWS_ENDPOINT_URL": "https://all:9"]) == "https://all:9")
        #expect(
            try host(["AWS_ENDPOINT_URL": "https://all", "AWS_ENDPOINT_URL_STS": "http://[::1]:7"]) == "http://[::1]:7")
        for url in ["http://sts.example.com", "http://169.254.169.254", "ftp://x", "sts"] {
            #expect(throws: VFSError.self) { try host(["AWS_ENDPOINT_URL_STS": url]) }
        }
        #expect(throws: VFSError.self) { try host(["AWS_REGION": "evil.example.com/"]) }
    }

    @Test("A role of moto's service, by keys and by another role")
    func moto() async throws {
        let moto = try await Moto.shared()
        let surroundings = try Surroundings(
            config: Self.config.replacing("::1:", with: "::123456789012:"),
            ["AWS_ENDPOINT_URL_STS": "http://127.0.0.1:\(moto.port)"])
        let before = SystemClock.now().seconds
        let answer = try await surroundings.load(profile: "second")
        let credentials = try #require(answer.credentials)
        #expect(credentials.accessKeyID.hasPrefix("ASIA") && credentials.sessionToken != nil)
        // An hour, where nobody says otherwise.
        #expect((credentials.expiration?.seconds ?? 0) > before + 3000)
    }
}
