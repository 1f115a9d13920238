import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization
import TestServers
import Testing

@testable import S3Provider

@Suite("Console logins")
struct LoginTests {
    private static let session = "arn:aws:iam::123456789012:user/me"
    private static let config = """
        [profile console]
        login_session = \(session)
        region = eu-west-1
        """
    /// `printf arn:aws:iam::123456789012:user/me | sha256sum`
    private static let file = ".aws/login/cache/286187707741fc2ccb93cf9e56dbd0ee0a16208feed5fbc8ae1baa86d44c283f.json"
    /// Of P-256, made for this test.
    private static let key =
        #"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA6jg8K7PwGkZxhPN7G0JgkE14soR4lk4mauP0JRmq8JoAoGCCqGSM49\nAwEHoUQDQgAEnrKT+RTMUCRhWoQEgGctt0Wz8pvUT91ksHTJC6Ni+UbMuIp8/TLm\nohy6fAjzoshJq8B8jLINmB2Hr1FOV3Cgag==\n-----END EC PRIVATE KEY-----"#
    private static let point =
        "9eb293f914cc5024615a840480672db745b3f29bd44fdd64b074c90ba362f946ccb88a7cfd32e6a21cba7c08f3a2c849abc07c8cb20d981d87af514e5770a06a"

    private static func cached(until end: String, refresh: String = "REFRESH-0", key: String = key) -> String {
        #"{"accessToken": {"accessKeyId": "LA-0", "secretAccessKey": "LS-0", "sessionToken": "LT-0", "#
            + #""accountId": "123456789012", "expiresAt": "\#(end)"}, "tokenType": "aws_sigv4", "#
            + #""refreshToken": "\#(refresh)", "idToken": "ID", "clientId": "CLIENT", "dpopKey": "\#(key)"}"#
    }

    private static func signIn(_ request: SeenRequest) -> ScriptedAnswer {
        guard request.method == "POST", request.target == "/v1/token",
            request.headers["content-type"] == "application/json", request.headers["dpop"] != nil,
            request.text == #"{"clientId":"CLIENT","grantType":"refresh_token","refreshToken":"REFRESH-0"}"#
        else { return .json(#"{"error": "TOKEN_EXPIRED", "message": "no"}"#, status: 401) }
        return .json(
            #"{"accessToken": {"accessKeyId": "LA-1", "secretAccessKey": "LS-1", "sessionToken": "LT-1"}, "#
                + #""tokenType": "aws_sigv4", "expiresIn": 900, "refreshToken": "REFRESH-1"}"#)
    }

    private func surroundings(_ server: ScriptedServer) throws -> Surroundings {
        let surroundings = try Surroundings(
            config: Self.config, ["AWS_ENDPOINT_URL_SIGNIN": "http://127.0.0.1:\(server.port)"])
        for folder in ["/.aws", "/.aws/login", "/.aws/login/cache"] { mkdir(surroundings.folder.path + folder, 0o700) }
        return surroundings
    }

    private func remove(_ surroundings: Surroundings) {
        unlink("\(surroundings.folder.path)/\(Self.file)")
        for folder in ["/.aws/login/cache", "/.aws/login", "/.aws"] { rmdir(surroundings.folder.path + folder) }
    }

    @Test("What a login has left serves as it is, and is refreshed by a signed request before it ends")
    func login() async throws {
        let server = try ScriptedServer { request, _ in Self.signIn(request) }
        let surroundings = try surroundings(server)
        defer { remove(surroundings) }
        surroundings.folder.write(Self.file, Self.cached(until: "2026-11-23T09:40:00Z"))
        let answer = try await surroundings.load(profile: "console")
        #expect(answer.credentials?.accessKeyID == "LA-0" && answer.credentials?.sessionToken == "LT-0")
        #expect(answer.source == "profile 'console': login session \(Self.session)")
        #expect(server.seen.isEmpty)

        let file = surroundings.folder.write(Self.file, Self.cached(until: "2026-11-23T09:31:00Z"))
        let renewed = try await surroundings.load(profile: "console")
        #expect(
            renewed.credentials
                == S3Credentials(
                    accessKeyID: "LA-1", secretAccessKey: "LS-1", sessionToken: "LT-1",
                    expiration: Timestamp(seconds: 1_795_427_100)))
        // Written down for the other tools, with all that they need.
        let kept = String(decoding: try #require(try WatchedFile(file).read()).bytes, as: UTF8.self)
        for part in ["LA-1", "REFRESH-1", "dpopKey", "CLIENT", "123456789012", "aws_sigv4", "2026-11-23T09:45:00Z"] {
            #expect(kept.contains(part))
        }
        #expect(!kept.contains("LT-0"))
        #expect(try await surroundings.load(profile: "console").credentials?.accessKeyID == "LA-1")
        #expect(server.seen.count == 1)
        let proof = try #require(server.seen.first?.headers["dpop"])
        #expect(try await Self.check(proof, port: server.port) == "good")
    }

    /// The library of moto's venv checks the signature, and what is signed.
    private static func check(_ proof: String, port: UInt16) async throws -> String {
        let script = """
            import base64, json, sys
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.asymmetric import ec, utils
            decode = lambda text: base64.urlsafe_b64decode(text + '=' * (-len(text) % 4))
            head, body, sign = sys.argv[1].split('.')
            header, payload, pair = json.loads(decode(head)), json.loads(decode(body)), decode(sign)
            jwk = header['jwk']
            assert header['typ'] == 'dpop+jwt' and header['alg'] == 'ES256' and jwk['kty'] == 'EC' and jwk['crv'] == 'P-256'
            x, y = decode(jwk['x']), decode(jwk['y'])
            assert (x + y).hex() == sys.argv[2], (x + y).hex()
            assert payload['htm'] == 'POST' and payload['htu'] == sys.argv[3] and payload['iat'] == 1795426200, payload
            assert len(payload['jti']) >= 10
            number = lambda part: int.from_bytes(part, 'big')
            key = ec.EllipticCurvePublicNumbers(number(x), number(y), ec.SECP256R1()).public_key()
            key.verify(utils.encode_dss_signature(number(pair[:32]), number(pair[32:])), (head + '.' + body).encode(),
                       ec.ECDSA(hashes.SHA256()))
            print('good')
            """
        let result = try await ChildProcess.run([
            "python3", "-c", script, proof, point, "http://127.0.0.1:\(port)/v1/token",
        ])
        return result.succeeded ? result.output.filter { !$0.isWhitespace } : result.errors
    }

    @Test("A login that is over, or was never begun, names the command that begins it")
    func over() async throws {
        let server = try ScriptedServer { request, _ in Self.signIn(request) }
        let surroundings = try surroundings(server)
        defer { remove(surroundings) }
        let command = "run 'aws login --profile console'"
        #expect(await surroundings.refusal(profile: "console").hasSuffix("has not begun: \(command)"))
        surroundings.folder.write(Self.file, "{}")
        #expect(await surroundings.refusal(profile: "console").hasSuffix(command))
        let past = "2026-11-23T09:00:00Z"
        surroundings.folder.write(Self.file, Self.cached(until: past, refresh: "USED"))
        #expect(await surroundings.refusal(profile: "console").hasSuffix("has expired: \(command)"))
        surroundings.folder.write(Self.file, Self.cached(until: past, key: "bm8="))
        #expect(await surroundings.refusal(profile: "console").hasSuffix("has expired: \(command)"))
        #expect(server.seen.count == 1)
        // What still serves does so while it cannot be refreshed.
        surroundings.folder.write(Self.file, Self.cached(until: "2026-11-23T09:31:00Z", refresh: "USED"))
        #expect(try await surroundings.load(profile: "console").credentials?.accessKeyID == "LA-0")
    }
}
