import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import Glibc
import Synchronization
import TestServers
import Testing

@testable import S3Provider

/// Of instances and of containers.
@Suite("Credentials of machines")
struct MetadataServiceTests {
    private static let credentials =
        #"{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "IA", "SecretAccessKey": "IS", "Token": "IT", "#
        + #""Expiration": "2026-11-23T11:00:00Z", "LastUpdated": "2026-11-23T05:00:00Z"}"#
    private static let path = "/latest/meta-data/iam/security-credentials/"

    /// A metadata service of version 2, or of version 1 only.
    private static func instance(
        version: Int = 2, role: String = "app", document: String = credentials
    ) throws -> ScriptedServer {
        try ScriptedServer { request, _ in
            if request.target == "/latest/api/token" {
                guard version == 2, request.method == "PUT",
                    request.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"
                else { return ScriptedAnswer(status: version == 2 ? 400 : 404) }
                return ScriptedAnswer(body: Array("TOKEN==".utf8))
            }
            guard request.headers["x-aws-ec2-metadata-token"] == (version == 2 ? "TOKEN==" : nil) else {
                return ScriptedAnswer(status: 401)
            }
            switch request.target {
            case path: return role.isEmpty ? ScriptedAnswer(status: 404) : ScriptedAnswer(body: Array(role.utf8))
            case path + "app": return .json(document)
            default: return ScriptedAnswer(status: 404)
            }
        }
    }

    private func surroundings(_ server: ScriptedServer?, _ more: [String: String] = [:]) throws -> Surroundings {
        var variables = more
        if let server { variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:\(server.port)/" }
        var surroundings = try Surroundings(variables)
        if server != nil, more["AWS_EC2_METADATA_DISABLED"] == nil {
            surroundings.variables["AWS_EC2_METADATA_DISABLED"] = nil
        }
        return surroundings
    }

    @Test("The role of an instance, by version 2 of its service")
    func instance() async throws {
        let server = try Self.instance()
        let answer = try await surroundings(server).load()
        #expect(
            answer.credentials
                == S3Credentials(
                    accessKeyID: "IA", secretAccessKey: "IS", sessionToken: "IT",
                    expiration: Timestamp(seconds: 1_795_431_600)))
        #expect(answer.source == "instance role app" && answer.mayBeOld)
        #expect(server.seen.map(\.method) == ["PUT", "GET", "GET"])
    }

    @Test("A service of version 1 only is asked without a token, unless that is forbidden")
    func versionOne() async throws {
        let server = try Self.instance(version: 1)
        #expect(try await surroundings(server).load().credentials?.accessKeyID == "IA")
        let strict = try surroundings(server, ["AWS_EC2_METADATA_V1_DISABLED": "true"])
        #expect(await strict.refusal().contains("AWS_EC2_METADATA_V1_DISABLED"))
        #expect(server.seen.count == 4)
    }

    @Test("An instance without a role, with odd answers, or turned off says so")
    func oddInstances() async throws {
        let none = try Self.instance(role: "")
        #expect(try await surroundings(none).refusal().contains("the instance has no role"))
        let failing = try Self.instance(
            document: #"{"Code": "AssumeRoleUnauthorizedAccess", "Message": "EC2 cannot assume the role"}"#)
        let message = try await surroundings(failing).refusal()
        #expect(message.contains("no S3 credentials") && message.contains("EC2 cannot assume the role"))
        for document in ["", "{}", "[]", #"{"Code": "Success", "AccessKeyId": "IA"}"#, "<html>", "{\"Code\": \"Suc"] {
            let server = try Self.instance(document: document)
            #expect(try await surroundings(server).refusal().contains("is no credentials"))
        }
        for role in ["../../x", "a b", "x?y", String(repeating: "r", count: 200)] {
            let server = try Self.instance(role: role)
            #expect(try await surroundings(server).refusal().contains("is no credentials"))
            #expect(server.seen.count == 2)
        }
        let server = try Self.instance()
        let off = try surroundings(server, ["AWS_EC2_METADATA_DISABLED": "True"])
        #expect(await off.refusal().contains("turned off by AWS_EC2_METADATA_DISABLED"))
        #expect(server.seen.isEmpty)
    }

    @Test("A machine that is no instance is not waited for: so many tries, each for so long")
    func noInstance() async throws {
        // It takes connections and says nothing.
        let silent = try ScriptedServer { _, _ in
            sleep(3)
            return ScriptedAnswer(status: 200)
        }
        let variables = [
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:\(silent.port)", "AWS_METADATA_SERVICE_TIMEOUT": "1",
            "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "3",
        ]
        var surroundings = try Surroundings(variables)
        surroundings.variables["AWS_EC2_METADATA_DISABLED"] = nil
        #expect(await surroundings.refusal().contains("instance metadata at 127.0.0.1"))
        #expect(silent.seen.count == 3)
        surroundings.variables["AWS_METADATA_SERVICE_NUM_ATTEMPTS"] = nil
        _ = await surroundings.refusal()
        #expect(silent.seen.count == 5)
        for (name, value) in [("AWS_METADATA_SERVICE_TIMEOUT", "1e9"), ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "0")] {
            var wrong = surroundings
            wrong.variables[name] = value
            #expect(await wrong.refusal().contains("\(name) is not a number"))
        }
    }

    @Test("Where the service is: IPv4, IPv6, or as somebody says, http on the link only")
    func instanceAddresses() throws {
        func address(_ variables: [String: String]) throws -> String {
            try InstanceCredentials(settings: S3Settings(S3Environment(variable: { variables[$0] }))).address().text
        }
        let (endpoint, mode) = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
        #expect(try address([:]) == "http://169.254.169.254")
        #expect(try address([mode: "IPv6"]) == "http://[fd00:ec2::254]")
        #expect(try address([mode: "ipv6", endpoint: "http://169.254.1.1:80/"]) == "http://169.254.1.1")
        #expect(try address([endpoint: "http://[fd00:ec2::1]:8"]) == "http://[fd00:ec2::1]:8")
        #expect(try address([endpoint: "https://metadata.example.com/x"]) == "https://metadata.example.com/x")
        for url in [
            "http://metadata.example.com", "http://169.254.169.254.example.com", "http://10.0.0.1", "x",
            "http://a@127.0.0.1",
        ] {
            #expect(throws: VFSError.self) { try address([endpoint: url]) }
        }
        #expect(throws: VFSError.self) { try address([mode: "both"]) }
    }

    @Test("Credentials that the service cannot renew are given on, past their end")
    func staticStability() async throws {
        let server = try Self.instance()
        var surroundings = try surroundings(server)
        surroundings.clock = TestClock(1_795_431_600 + 5000)
        let store = S3CredentialStore(
            DefaultCredentials(environment: surroundings.environment), now: surroundings.clock.now)
        #expect(try await store.current().credentials?.accessKeyID == "IA")
        #expect(try await store.current().credentials?.accessKeyID == "IA")
    }

    // MARK: Containers

    private static let container =
        #"{"AccessKeyId": "CA", "SecretAccessKey": "CS", "Token": "CT", "Expiration": "2026-11-23T11:00:00Z", "#
        + #""RoleArn": "arn:aws:iam::1:role/task"}"#

    @Test("The role of a container, with the token that its host wants to see, read each time")
    func containers() async throws {
        let server = try ScriptedServer { request, _ in
            guard request.headers["authorization"]?.hasPrefix("token-") ?? false, request.target == "/v1?id=7" else {
                return .json(#"{"code": "AccessDenied", "message": "no to token-9999"}"#, status: 403)
            }
            return .json(Self.container)
        }
        let full = "http://localhost:\(server.port)/v1?id=7"
        var surroundings = try Surroundings(["AWS_CONTAINER_CREDENTIALS_FULL_URI": full])
        let file = surroundings.folder.write("token", "token-1\n")
        surroundings.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "not-this"
        surroundings.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = file
        let answer = try await surroundings.load()
        #expect(
            answer.credentials
                == S3Credentials(
                    accessKeyID: "CA", secretAccessKey: "CS", sessionToken: "CT",
                    expiration: Timestamp(seconds: 1_795_431_600)))
        surroundings.folder.write("token", "token-2")
        _ = try await surroundings.load()
        #expect(server.seen.map { $0.headers["authorization"] } == ["token-1", "token-2"])
        surroundings.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = nil
        #expect(await surroundings.refusal().contains("AccessDenied: no to token-9999"))
        // What it says back of the token is not told.
        surroundings.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "token-9999"
        surroundings.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = full + "8"
        let message = await surroundings.refusal()
        #expect(message.contains("it answered 403") && !message.contains("9999"))
        surroundings.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "a\r\nx: y"
        #expect(await surroundings.refusal().contains("holds what no header can"))
        #expect(server.seen.count == 4)
    }

    @Test("A container's role as the source of another one")
    func containerSource() async throws {
        let container = try ScriptedServer { _, _ in .json(Self.container) }
        let tokens = try TokenServer(["x": "CA"])
        let surroundings = try Surroundings(
            config: "[profile x]\nrole_arn = arn:aws:iam::1:role/x\ncredential_source = EcsContainer\n",
            tokens.variables.merging([
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:\(container.port)/"
            ]) { $1 })
        #expect(try await surroundings.load(profile: "x").credentials?.accessKeyID == "X")
    }

    @Test("Which hosts may give a container its credentials without encryption")
    func containerAddresses() throws {
        func address(_ variables: [String: String]) throws -> String {
            try ContainerCredentials(settings: S3Settings(S3Environment(variable: { variables[$0] }))).address().url
        }
        let (relative, full) = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
        #expect(
            try address([relative: "/v2/credentials/1?x=y", full: "http://a"])
                == "http://169.254.170.2/v2/credentials/1?x=y")
        for url in [
            "http://169.254.170.2/x", "http://169.254.170.23/v1/credentials", "http://[fd00:ec2::23]/v1",
            "http://127.1.2.3:80/x", "http://[::1]/", "https://example.com/x",
        ] { #expect(try address([full: url]) == url) }
        for url in [
            "http://example.com/x", "http://169.254.169.254/x", "http://127.0.0.1.example.com/",
            "http://127.0.0.1@example.com/", "http://[fd00:ec2::24]/", "file:///x", "http://localhost/#x",
            "http://a b/",
        ] { #expect(throws: VFSError.self) { try address([full: url]) } }
        for path in ["x", "@example.com/x", "//x y", ".example.com/"] {
            #expect(throws: VFSError.self) { try address([relative: path]) }
        }
    }

    @Test("An agent that does not answer, or only nonsense, is asked three times, and nothing else is taken instead")
    func brokenContainers() async throws {
        let instance = try Self.instance()
        for (answer, expected, count) in [
            (ScriptedAnswer(status: 500), "it answered 500", 3), (.json("{}"), "is no credentials", 1),
            (.json(#"{"AccessKeyId": "A", "SecretAccessKey": "S", "Expiration": "never"}"#), "is no credentials", 1),
        ] {
            let server = try ScriptedServer { _, _ in answer }
            let surroundings = try surroundings(
                instance, ["AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:\(server.port)/"])
            #expect(await surroundings.refusal().contains(expected))
            #expect(server.seen.count == count)
        }
        #expect(instance.seen.isEmpty)
    }

    @Test("Never by a proxy")
    func direct() throws {
        #expect(S3CredentialService(onLink: "x", timeout: .seconds(1), tries: 1).options.isDirect)
        #expect(!S3CredentialService("x", caFile: nil).options.isDirect)
    }
}
