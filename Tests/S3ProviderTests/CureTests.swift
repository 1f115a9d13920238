import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import S3Provider

/// What the client puts right by itself: once each, and no more.
@Suite("Cures")
struct CureTests {
    private static let there = ScriptedAnswer(headers: [("ETag", "\"e1\"")])

    private func ask(_ provider: S3Provider) async throws {
        let info = try await provider.put(PutRequest(key: "k"), from: BytesSource("x"))
        #expect(info.etag == ETag("e1"))
    }

    /// The region that a request was signed for.
    private static func region(_ request: SeenRequest) -> String {
        let parts = (request.headers["authorization"] ?? "").split(separator: "/")
        return parts.count > 2 ? String(parts[2]) : ""
    }

    @Test(
        "A bucket in another region is asked again with a signature for that region",
        arguments: [
            ScriptedAnswer(status: 301, headers: [("x-amz-bucket-region", "eu-west-1")]),
            ScriptedAnswer(status: 400, headers: [("x-amz-bucket-region", "eu-west-1")]),
            ScriptedAnswer(status: 403, headers: [("x-amz-bucket-region", "eu-west-1")]),
            .error(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
            .error(307, "TemporaryRedirect", "", headers: [("x-amz-bucket-region", "eu-west-1")]),
        ])
    func region(answer: ScriptedAnswer) async throws {
        let server = try ScriptedServer { request, _ in
            Self.region(request) == "eu-west-1" ? Self.there : answer
        }
        let provider = try provider(server, known)
        try await ask(provider)
        #expect(server.seen.map(Self.region) == ["us-east-1", "eu-west-1"])
        try await ask(provider)
        #expect(server.seen.map(Self.region) == ["us-east-1", "eu-west-1", "eu-west-1"])
    }

    @Test("Two servers that send each to the other end in an error")
    func pingPong() async throws {
        let server = try ScriptedServer { request, _ in
            let other = Self.region(request) == "us-east-1" ? "eu-west-1" : "us-east-1"
            return ScriptedAnswer(status: 301, headers: [("x-amz-bucket-region", other)])
        }
        let error = await #expect(throws: VFSError.self) { try await ask(provider(server, known)) }
        #expect(error?.code == .invalidArgument)
        #expect(server.seen.count == 2)
    }

    @Test("Regions that no region is called are not believed")
    func oddRegion() async throws {
        let server = try ScriptedServer { _, _ in
            ScriptedAnswer(status: 301, headers: [("x-amz-bucket-region", "evil.example.com/x")])
        }
        await #expect(throws: VFSError.self) { try await ask(provider(server, known)) }
        #expect(server.seen.count == 1)
    }

    @Test("A temporary redirect is followed and signed anew for its host")
    func redirect() async throws {
        let target = try ScriptedServer { _, _ in Self.there }
        let server = try ScriptedServer { _, _ in
            .error(
                307, "TemporaryRedirect", "",
                headers: [("Location", "http://127.0.0.1:\(target.port)/bucket/k?x=1"), ("x-amz-request-id", "r")])
        }
        try await ask(provider(server, known))
        #expect(target.seen.map(\.target) == ["/bucket/k"])
        #expect(target.seen.first?.headers["host"] == "127.0.0.1:\(target.port)")
        #expect(target.seen.first?.headers["authorization"] != server.seen.first?.headers["authorization"])
    }

    @Test(
        "A redirect to any other host gets neither the request nor its token, and is told; what was followed is forgotten by prepare"
    )
    func otherHost() async throws {
        let other = try ScriptedServer { _, _ in Self.there }
        let server = try ScriptedServer { request, _ in
            let host = request.path.hasSuffix("/away") ? "localhost" : "127.0.0.1"
            return .error(
                307, "TemporaryRedirect", "",
                headers: [("Location", "http://\(host):\(other.port)/bucket/k"), ("x-amz-request-id", "r")])
        }
        let provider = try provider(server, known)
        let error = await #expect(throws: VFSError.self) { try await provider.head("away") }
        #expect(error?.message.contains("http://localhost:\(other.port)/bucket/k") ?? false)
        #expect(other.seen.isEmpty)
        try await ask(provider)
        #expect(provider.bucket.client.route.endpoint.port == Int(other.port))
        provider.bucket.client.startAnew()
        #expect(provider.bucket.client.route.endpoint.port == Int(server.port))
    }

    @Test("A bucket that takes no upload without its MD5 gets it from then on", arguments: [0, 300, 300_000])
    func objectLock(size: Int) async throws {
        let server = try ScriptedServer { request, _ in
            if request.headers["content-md5"] != nil { return ScriptedAnswer(headers: [("ETag", "\"e\"")]) }
            let message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests"
            return .error(400, "InvalidRequest", message: message)
        }
        let provider = try provider(server, known)
        let bytes = [UInt8](repeating: 7, count: size)
        for _ in 0..<2 { _ = try await provider.put(PutRequest(key: "k"), from: BytesSource(bytes)) }
        #expect(server.seen.map { $0.headers["content-md5"] } == [nil, S3Payload.md5(bytes), S3Payload.md5(bytes)])
    }

    @Test("Who wants an MD5 of a request without a body is asked once")
    func objectLockWithoutBody() async throws {
        let server = try ScriptedServer { _, _ in .error(400, "MissingContentMD5") }
        let provider = try provider(server, known)
        await #expect(throws: VFSError.self) {
            try await provider.copy(CopyRequest(source: info("s"), destination: "t"))
        }
        await #expect(throws: VFSError.self) { try await provider.beginUpload("k", metadata: ObjectMetadata()) }
        await #expect(throws: VFSError.self) { try await provider.delete([DeleteRequest("k")]) }
        #expect(server.seen.count == 3)
    }

    @Test("AWS's hosts send to one another, and to nobody else")
    func family() throws {
        func may(_ target: String, _ home: String) throws -> Bool {
            let (target, home) = (
                S3Endpoint(url: target, bucket: "b", pathStyle: true),
                S3Endpoint(url: home, bucket: "b", pathStyle: true)
            )
            return try #require(target).isOfFamily(of: #require(home))
        }
        #expect(try may("https://s3.eu-west-1.amazonaws.com", "https://s3.amazonaws.com"))
        #expect(try may("https://s3.cn-north-1.amazonaws.com.cn", "https://s3.cn-northwest-1.amazonaws.com.cn"))
        #expect(try !may("https://s3.amazonaws.com.evil.example", "https://s3.amazonaws.com"))
        #expect(try may("https://s3.eu-central-2.wasabisys.com", "https://s3.wasabisys.com"))
        #expect(try !may("https://x.elb.amazonaws.com", "https://s3.amazonaws.com"))
        #expect(try !may("https://evilamazonaws.com", "https://s3.amazonaws.com"))
        #expect(try !may("https://s3.amazonaws.com", "https://minio.example"))
        #expect(try !may("https://b.minio.example", "https://minio.example"))
    }

    @Test("A redirect by something that is no store, such as a portal, gets neither the request nor its token")
    func portal() async throws {
        let portal = try ScriptedServer { _, _ in Self.there }
        let server = try ScriptedServer { _, _ in
            ScriptedAnswer(status: 302, headers: [("Location", "http://127.0.0.1:\(portal.port)/login")])
        }
        await #expect(throws: VFSError.self) { try await ask(provider(server, known)) }
        #expect(portal.seen.isEmpty)
    }

    @Test("A 404 to HEAD without the name that the store gives its requests is believed when GET says the same")
    func proxyWithoutStore() async throws {
        let id = ("x-amz-request-id", "R1")
        for isAway in [true, false] {
            let server = try ScriptedServer { request, number in
                switch request.method {
                case "PUT": ScriptedAnswer(headers: [("ETag", "\"e1\""), id])
                case "HEAD": ScriptedAnswer(status: 404)
                default: isAway ? ScriptedAnswer(status: 404) : .error(404, "NoSuchKey")
                }
            }
            let provider = try provider(server, known)
            // Of a store that has named nothing yet it is believed.
            await #expect(throws: VFSError.self) { try await provider.head("k") }
            #expect(server.seen.map(\.method) == ["HEAD"])
            try await ask(provider)
            for _ in 0..<2 {
                let error = await #expect(throws: VFSError.self) { try await provider.head("k") }
                #expect(error?.code == (isAway ? .malformedResponse : .notFound))
            }
            // Once is enough for a store that names no refusals.
            #expect(server.seen.count { $0.method == "GET" } == (isAway ? 2 : 1))
            let failure = await #expect(throws: VFSError.self) {
                _ = try await provider.read(ReadRequest(key: "k"), into: CollectingSink())
            }
            #expect(failure?.code == (isAway ? .malformedResponse : .notFound))
        }
    }

    @Test("A wrong clock is put right by the store's")
    func clock() async throws {
        // 2015-10-21 07:28:00 at the store, hours later here.
        let server = try ScriptedServer { request, _ in
            request.headers["x-amz-date"] == "20151021T072800Z"
                ? Self.there
                : .error(403, "RequestTimeTooSkewed", "", headers: [("Date", "Wed, 21 Oct 2015 07:28:00 GMT")])
        }
        let provider = try provider(server, known, clock: TestClock(1_445_412_480 + 20_000))
        try await ask(provider)
        try await ask(provider)
        #expect(server.seen.count == 3)
    }

    @Test("A clock that is right is not blamed")
    func rightClock() async throws {
        let server = try ScriptedServer { _, _ in
            .error(403, "AccessDenied", "", headers: [("Date", "Wed, 21 Oct 2015 07:28:00 GMT")])
        }
        let error = await #expect(throws: VFSError.self) {
            try await ask(provider(server, known, clock: TestClock(1_445_412_480 + 100)))
        }
        #expect(error?.code == .permissionDenied)
        #expect(server.seen.count == 1)
    }

    /// Gives other keys at each asking.
    private final class Rotating: S3CredentialSource {
        private let count = Mutex(0)
        var loads: Int { count.withLock { $0 } }

        func load() async throws(VFSError) -> S3CredentialAnswer {
            let number = count.withLock { count in
                count += 1
                return count
            }
            return S3CredentialAnswer(
                credentials: S3Credentials(
                    accessKeyID: "AK\(number)", secretAccessKey: "S", sessionToken: "T\(number)"))
        }
    }

    @Test(
        "Expired credentials are replaced and the request sent again; an answer without a body may mean the same",
        arguments: [
            ScriptedAnswer.error(400, "ExpiredToken"), .error(403, "InvalidToken"), ScriptedAnswer(status: 400),
        ])
    func expired(answer: ScriptedAnswer) async throws {
        let server = try ScriptedServer { request, _ in
            request.headers["x-amz-security-token"] == "T2" ? Self.there : answer
        }
        let source = Rotating()
        try await ask(provider(server, known, source: source))
        #expect(source.loads == 2)
    }

    @Test("Credentials that cannot be replaced end in credentialsExpired")
    func stuck() async throws {
        let server = try ScriptedServer { _, _ in .error(400, "ExpiredToken") }
        let error = await #expect(throws: VFSError.self) {
            try await ask(provider(server, known))
        }
        #expect(error?.code == .credentialsExpired)
        #expect(server.seen.count == 1)
    }

    /// Gives keys that last for an hour, until it is told not to.
    private final class Failing: S3CredentialSource {
        let clock: TestClock
        let state = Mutex((count: 0, fails: false))

        init(_ clock: TestClock) { self.clock = clock }

        func load() async throws(VFSError) -> S3CredentialAnswer {
            let (number, fails) = state.withLock { state in
                state.count += 1
                return (state.count, state.fails)
            }
            if fails { throw .credentials("run 'aws sso login'", retry: .backoff) }
            return S3CredentialAnswer(
                credentials: S3Credentials(
                    accessKeyID: "AK\(number)", secretAccessKey: "S", sessionToken: "T\(number)",
                    expiration: Timestamp(seconds: clock.now().seconds + 3600)), source: "profile 'p'")
        }
    }

    @Test(
        "Credentials that cannot be renewed serve until the store refuses them; then it is said why, and it ends by itself"
    )
    func outlived() async throws {
        let refuses = Mutex(false)
        let server = try ScriptedServer { request, _ in
            request.headers["x-amz-security-token"] == "T1" && refuses.withLock { $0 }
                ? .error(400, "ExpiredToken") : Self.there
        }
        let clock = TestClock()
        let source = Failing(clock)
        let provider = try provider(server, known, source: source, clock: clock)
        try await ask(provider)
        #expect(provider.credentials?.end == Timestamp(seconds: clock.now().seconds + 3600))
        source.state.withLock { $0.fails = true }
        clock.advance(7200)
        try await ask(provider)
        #expect(provider.credentials?.problem == "run 'aws sso login'" && provider.credentials?.isRefused == false)

        refuses.withLock { $0 = true }
        let first = await #expect(throws: VFSError.self) { try await ask(provider) }
        #expect(first?.code == .credentialsExpired && first?.wire?.status == 400)
        #expect(first?.message.hasSuffix("; the credentials cannot be renewed: run 'aws sso login'") ?? false)
        #expect(provider.credentials?.isRefused == true)
        let requests = server.seen.count
        let second = await #expect(throws: VFSError.self) { try await ask(provider) }
        #expect(second?.code == .credentialsExpired)
        #expect(
            second?.message.contains("(profile 'p') have expired and cannot be renewed: run 'aws sso login'") ?? false)
        #expect(server.seen.count == requests)

        source.state.withLock { $0.fails = false }
        clock.advance(S3CredentialStore.interval)
        try await ask(provider)
        #expect(provider.credentials?.isRefused == false && provider.credentials?.problem == nil)
    }

    @Test("A redirect to a host that is gone is forgotten")
    func redirectGone() async throws {
        let server = try ScriptedServer { _, index in
            // Nothing listens on port 1.
            index == 0
                ? .error(
                    307, "TemporaryRedirect", "",
                    headers: [("Location", "http://127.0.0.1:1/"), ("x-amz-request-id", "r")])
                : Self.there
        }
        let provider = try provider(server, known)
        let error = await #expect(throws: VFSError.self) { try await ask(provider) }
        #expect(error?.code == .connectionFailed)
        try await ask(provider)
    }

    @Test("AWS hosts follow the region, also when the configuration names one")
    func awsHosts() throws {
        let named = S3Endpoint(url: "https://s3.eu-west-1.amazonaws.com", bucket: "b", pathStyle: true)
        #expect(named?.inRegion("us-west-2", from: "eu-west-1").url == "https://s3.us-west-2.amazonaws.com")
        let other = S3Endpoint(url: "https://nas.example.com", bucket: "b", pathStyle: true)
        #expect(other?.inRegion("us-west-2", from: "eu-west-1") == other)

        let context = ProviderContext(mountName: "m", bucket: "my-bucket")
        let options = S3Options(context)
        #expect(options.endpoint(region: "eu-west-1")?.url == "https://my-bucket.s3.eu-west-1.amazonaws.com")
        #expect(options.endpoint(region: "cn-north-1")?.url == "https://my-bucket.s3.cn-north-1.amazonaws.com.cn")
    }
}
