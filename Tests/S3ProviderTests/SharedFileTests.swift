import CloudMountPlatform
import CloudMountVFS
import Glibc
import TestServers
import Testing

@testable import S3Provider

/// What is refused of files that others share with the daemon.
@Suite("Shared files of the AWS tools")
struct SharedFileTests {
    private func context(_ options: [String: OptionValue] = [:], profile: String? = nil) -> ProviderContext {
        ProviderContext(
            mountName: "m", bucket: "my-bucket", options: OptionValues(options),
            credentials: OptionValues(profile.map { ["profile": .string($0)] } ?? [:]))
    }

    /// Why a mount is not made.
    private func refusal(_ surroundings: Surroundings, _ options: [String: OptionValue] = [:]) -> String {
        let error = #expect(throws: VFSError.self) {
            try S3Options.checked(context(options), environment: surroundings.environment)
        }
        return error?.message ?? ""
    }

    @Test("What has become wrong since the configuration was checked makes no mount")
    func changedLater() throws {
        let surroundings = try Surroundings(config: "[default]\nregion = eu-west-1\n")
        let options = try S3Options.checked(context(), environment: surroundings.environment)
        #expect(options.knownRegion == "eu-west-1")
        surroundings.folder.write("config", "[default]\nendpoint_url = http://nas:9000\n")
        #expect(refusal(surroundings).hasPrefix("endpoint (endpoint_url of the profile) would send everything"))
        surroundings.folder.write("config", "[default]\nregion = x.evil.net/\n")
        #expect(refusal(surroundings).hasPrefix("region of the environment or the profile"))
        // As the daemon calls it, in its own environment.
        let wrong = context(["region": .string("x.evil.net/")])
        #expect(throws: VFSError.self) { try S3Provider.descriptor.make(wrong) }
        #expect(throws: VFSError.self) { try S3Provider.descriptor.endpoint(wrong) }
    }

    @Test("A file that cannot be read is an error, and never AWS")
    func unreadable() throws {
        let surroundings = try Surroundings(config: "[default]\nendpoint_url = https://minio.lab\n")
        #expect(
            try S3Options.checked(context(), environment: surroundings.environment).sharedEndpoint
                == "https://minio.lab")
        let config = "\(surroundings.folder.path)/config"
        surroundings.folder.write("config", String(repeating: "#", count: 1 << 20) + "#")
        #expect(refusal(surroundings).contains("\(config) is longer"))
        unlink(config)
        symlink("config", config)
        #expect(refusal(surroundings).contains("\(config) cannot be read: Too many levels"))
        #expect(
            S3Options.problems(context(), environment: surroundings.environment).map(\.option) == ["credentials"])
    }

    @Test("A pipe in the place of a file is an error at once; /dev/null is an empty file")
    func pipe() async throws {
        var surroundings = try Surroundings()
        let config = "\(surroundings.folder.path)/config"
        unlink(config)
        #expect(mkfifo(config, 0o600) == 0)
        #expect(refusal(surroundings).contains("\(config) is not a regular file"))
        #expect(await surroundings.refusal(profile: "x").contains("\(config) is not a regular file"))
        #expect(throws: VFSError.self) { try WatchedFile.token(config, "token file") }
        await #expect(throws: VFSError.self) { try await CachedTokens.shared.read(config) }
        surroundings.variables["AWS_CONFIG_FILE"] = "/dev/null"
        #expect(
            try S3Options.checked(context(), environment: surroundings.environment).sharedEndpoint
                == "https://s3.us-east-1.amazonaws.com")
        #expect(refusal(surroundings, ["ca_file": .string(config)]) == "ca_file is not a regular file")
    }

    @Test("Of a file that others may write, no key is used that redirects or names an identity")
    func writable() async throws {
        let surroundings = try Surroundings(
            config: """
                [default]
                endpoint_url = https://evil.example.com
                [profile ca]
                ca_bundle = /etc/ssl/certs/ca-certificates.crt
                [profile services]
                services = s
                [services s]
                s3 =
                  endpoint_url = https://evil.example.com
                [profile role]
                role_arn = arn:aws:iam::1:role/r
                web_identity_token_file = /etc/hostname
                [profile login]
                login_session = x
                [profile sso]
                sso_start_url = https://evil.example.com
                [profile source]
                source_profile = role
                [profile keys]
                aws_access_key_id = A
                aws_secret_access_key = S
                """)
        let config = "\(surroundings.folder.path)/config"
        _ = try S3Options.checked(context(), environment: surroundings.environment)
        for mode: mode_t in [0o620, 0o602] {
            chmod(config, mode)
            let end = "may write \(config) (mode 0\(String(mode, radix: 8))); chmod go-w it"
            #expect(refusal(surroundings).hasSuffix(end))
            for name in ["ca", "services"] {
                let problems = S3Options.problems(context(profile: name), environment: surroundings.environment)
                #expect(problems.count == 1 && problems[0].message.hasSuffix(end))
            }
            for (name, key) in [
                ("role", "role_arn"), ("login", "login_session"), ("sso", "sso_start_url"),
                ("source", "source_profile"), ("services", "services"), ("ca", "ca_bundle"),
            ] {
                let message = await surroundings.refusal(profile: name)
                #expect(message.hasPrefix("\(key) of profile '\(name)' is not used: ") && message.hasSuffix(end))
            }
            #expect(await surroundings.refusal().hasPrefix("endpoint_url of profile 'default' is not used"))
            #expect(try await surroundings.load(profile: "keys").credentials?.accessKeyID == "A")
            // What the mount says itself needs no word of the file.
            let own: [String: OptionValue] = ["endpoint": .string("https://nas")]
            _ = try S3Options.checked(context(own), environment: surroundings.environment)
        }
        let token = surroundings.folder.write("token", "abc")
        #expect(try WatchedFile.token(token, "token file") == "abc")
        chmod(token, 0o622)
        #expect(throws: VFSError.self) { try WatchedFile.token(token, "token file") }
        await #expect(throws: VFSError.self) { try await CachedTokens.shared.read(token) }
        #expect(WatchedFile.fault("f", mode: 0o100600, owner: 7, user: 8)?.contains("belongs to user 7") == true)
        #expect(WatchedFile.fault("f", mode: 0o100644, owner: 0, user: 8) == nil)
    }

    @Test("A byte order mark is taken off, blanks and colons count as they do for the AWS CLI")
    func forms() throws {
        let surroundings = try Surroundings(
            config: "\u{FEFF}[default]\nregion: eu-north-1\n",
            credentials: "  [work]\n  aws_access_key_id = W\n  [prod]\n")
        let files = try S3SharedFiles.read(surroundings.environment)
        #expect(files.profiles["default"]?.values == ["region": "eu-north-1"])
        #expect(files.profiles["work"]?.values == ["aws_access_key_id": "W"])
        #expect(files.profiles["prod"]?.values == [:])
    }

    @Test(
        "A line that is nothing of its kind is named",
        arguments: [
            ("[work]\naws_access_key_id = W\n  [prod]\n", 3), ("[work]\n\n# c\nnonsense\n", 4), ("a = b\n[x]\n", 1),
            ("[work\n", 1), ("[]\n", 1), ("[x]\r\n= y\r\n", 2), ("[x]\ns3 =\n  what\n", 3),
            ("[\(String(repeating: "x", count: 4096))]\n", 1),
        ])
    func lines(text: String, line: Int) throws {
        let surroundings = try Surroundings(credentials: text)
        #expect(refusal(surroundings).contains("\(surroundings.folder.path)/credentials, line \(line): "))
    }

    @Test("A file that a variable names and that is not there: the instance's role is not taken instead")
    func missing() async throws {
        let server = try ScriptedServer { _, _ in
            .json(#"{"AccessKeyId": "IA", "SecretAccessKey": "IS", "Token": "IT"}"#)
        }
        var surroundings = try Surroundings(["AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:\(server.port)/"])
        let answer = try await surroundings.load()
        #expect(answer.credentials?.accessKeyID == "IA")
        // A file that is finished later is taken up.
        #expect(answer.files.map(\.isChanged) == [false, false])
        surroundings.folder.write("credentials", "[default]\naws_access_key_id = F\naws_secret_access_key = S\n")
        #expect(answer.files.map(\.isChanged) == [true, false])
        #expect(try await surroundings.load().credentials?.accessKeyID == "F")
        for (variable, name) in [("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")] {
            surroundings = try Surroundings(surroundings.variables.filter { $0.key.hasPrefix("AWS_CONTAINER") })
            let path = "\(surroundings.folder.path)/\(name)"
            unlink(path)
            #expect(await surroundings.refusal() == "\(variable) names \(path), which is not there")
            surroundings.variables[variable] = nil
            #expect(try await surroundings.load().credentials?.accessKeyID == "IA")
        }
    }

    @Test("The home directory is the account's where HOME is not set")
    func home() {
        let bare = S3Environment(variable: { _ in nil })
        #expect(S3Environment.home(of: 0) == "/root")
        #expect(S3Environment.home(of: 4_000_000_000) == nil)
        #expect(bare.home == S3Environment.home(of: getuid()))
        #expect(S3Environment(variable: { _ in "/h" }).home == "/h")
    }

    @Test("An error says back no part of a secret")
    func secrets() {
        let token = "Bearer abcdefgh-ijklmnop-qrstuvwx"
        func said(_ text: String, _ secret: String = token) -> String {
            S3CredentialService("x", caFile: nil).refusal(403, code: nil, text: text, hiding: [nil, secret]).message
        }
        #expect(said("no to you") == "x: no to you")
        #expect(said("the Bearer is unknown") == "x: the Bearer is unknown")
        for text in [token, "bad abcdefgh-ijklmnop-qrstuvwx", "bad defgh-ijklmnop-q", "bad ijklmnop-qrstuvwx!"] {
            #expect(said(text) == "x: it answered 403")
        }
        // Where the text is cut.
        let long = String(repeating: "-", count: 280)
        #expect(said(long + token) == "x: it answered 403")
        #expect(said("bad payload1", "head.payload1.s") == "x: it answered 403")
        #expect(said("bad abc", "abc") == "x: it answered 403")
    }

    @Test("Nor does an answer of 200 that is no credentials")
    func secretsInAnswers() async throws {
        let server = try ScriptedServer { request, _ in
            .json(#"{"message": "bad token \#(request.headers["authorization"] ?? "")"}"#)
        }
        let message = try await Surroundings([
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:\(server.port)/",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "token-1234",
        ]).refusal()
        #expect(message.hasSuffix("it answered 200"))
    }
}
