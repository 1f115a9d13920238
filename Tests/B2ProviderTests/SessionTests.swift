import CloudMountKit
import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import B2Provider

@Suite("Logging in")
struct SessionTests {
    private static let v4 = """
        {"accountId": "a", "authorizationToken": "t", "applicationKeyExpirationTimestamp": null, "apiInfo": {
          "groupsApi": {}, "storageApi": {"apiUrl": "https://api", "downloadUrl": "https://dl/", "s3ApiUrl": "https://s3",
          "recommendedPartSize": 1, "absoluteMinimumPartSize": 2, "allowed": {"buckets": [{"id": "b", "name": "n"},
          {"id": "gone", "name": null}], "capabilities": ["listFiles"], "namePrefix": "p/"}}}}
        """
    private static let v3 = """
        {"accountId": "a", "authorizationToken": "t", "apiInfo": {"storageApi": {"apiUrl": "https://api",
          "downloadUrl": "https://dl", "recommendedPartSize": 1, "absoluteMinimumPartSize": 2, "bucketId": "b",
          "bucketName": "n", "capabilities": ["listFiles"], "namePrefix": "p/", "infoType": "storageApi"}}}
        """
    private static let v2 = """
        {"accountId": "a", "authorizationToken": "t", "apiUrl": "https://api", "downloadUrl": "https://dl",
          "recommendedPartSize": 1, "absoluteMinimumPartSize": 2, "s3ApiUrl": "x",
          "allowed": {"bucketId": "b", "bucketName": "n", "capabilities": ["listFiles"], "namePrefix": "p/"}}
        """
    private static let v1 = """
        {"accountId": "a", "authorizationToken": "t", "apiUrl": "https://api", "downloadUrl": "https://dl",
          "minimumPartSize": 1, "absoluteMinimumPartSize": 2,
          "allowed": {"bucketId": "b", "bucketName": "n", "capabilities": ["listFiles"], "namePrefix": "p/"}}
        """

    @Test("The answers of all four versions say the same", arguments: [(v4, 2), (v3, 1), (v2, 1), (v1, 1)])
    func shapes(text: String, buckets: Int) throws {
        let found = try #require(B2Authorisation(Array(text.utf8)))
        #expect(found.accountID == "a" && found.token == "t")
        #expect(found.apiURL == "https://api" && found.downloadURL == "https://dl")
        #expect(found.recommendedPartSize == 1 && found.minimumPartSize == 2)
        #expect(found.capabilities == ["listFiles"])
        #expect(found.buckets?.count == buckets)
        #expect(found.buckets?.first == B2Authorisation.Bucket(id: "b", name: "n"))
        #expect(found.namePrefix == "p/")
    }

    @Test("A key without restrictions has none, and half an answer is no answer")
    func unrestricted() throws {
        let text = Self.v4.replacing("[{\"id\": \"b\", \"name\": \"n\"},", with: "null, \"x\": [")
            .replacing("\"p/\"", with: "null")
        let found = try #require(B2Authorisation(Array(text.utf8)))
        #expect(found.buckets == nil && found.namePrefix == nil)
        #expect(B2Authorisation(Array(Self.v4.replacing("\"t\"", with: "null").utf8)) == nil)
        #expect(B2Authorisation(Array("{}".utf8)) == nil)
        #expect(B2Authorisation(Array("<html>".utf8)) == nil)
    }

    @Test("Fifty that need a token log in once")
    func singleFlight() async throws {
        let script = try ScriptedB2()
        let session = script.session()
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<50 {
                group.addTask { try await session.authorisation(counting: B2Billing()).token }
            }
            for try await token in group { #expect(token == "token1") }
        }
        #expect(script.operations == ["b2_authorize_account"])
        #expect(script.seen[0].headers["authorization"] == "Basic aWQ6c2VjcmV0")
    }

    @Test("A dead token is replaced once for all who had it, and never twice within the interval")
    func renewal() async throws {
        let script = try ScriptedB2()
        let time = Mutexed<UInt64>(0)
        let session = script.session(interval: 1_000_000_000, now: { time.value.withLock { $0 } })
        let billing = B2Billing()
        let first = try await session.authorisation(counting: billing)
        time.value.withLock { $0 = 5_000_000_000 }
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<20 {
                group.addTask { try await session.authorisation(otherThan: first.token, counting: billing).token }
            }
            for try await token in group { #expect(token == "token2") }
        }
        #expect(script.operations.count == 2)
        // Dead again at once: who asks waits for the interval to end, and can be cancelled meanwhile.
        let waiting = Task { try await session.authorisation(otherThan: "token2", counting: billing).token }
        try await Task.sleep(for: .milliseconds(100))
        #expect(script.operations.count == 2)
        waiting.cancel()
        #expect(await failure { _ = try await waiting.value }?.code == .cancelled)
        time.value.withLock { $0 = 6_000_000_001 }
        #expect(try await session.authorisation(otherThan: "token2", counting: billing).token == "token3")
        #expect(billing.calls.map(\.calls) == [0, 0, 3])
    }

    @Test("A login that failed is not tried again within the interval; who asks gets the same error")
    func failedLogin() async throws {
        let isOpen = Mutexed(false)
        let script = try ScriptedB2 { request, _ in
            guard request.operation == "b2_authorize_account", !isOpen.value.withLock({ $0 }) else { return nil }
            return .error(503, "service_unavailable")
        }
        let time = Mutexed<UInt64>(0)
        let session = script.session(interval: 30, now: { time.value.withLock { $0 } })
        for _ in 0..<3 {
            let error = await failure { _ = try await session.authorisation(counting: B2Billing()) }
            #expect(error?.code == .unavailable)
            #expect(error?.retry == .backoff)
        }
        #expect(script.operations.count == 1)
        isOpen.value.withLock { $0 = true }
        time.value.withLock { $0 = 31 }
        #expect(try await session.authorisation(counting: B2Billing()).token == "token1")
    }

    @Test("A refused key is told apart, and no secret is in what is said")
    func refusedKey() async throws {
        let script = try ScriptedB2 { request, _ in
            request.operation == "b2_authorize_account" ? .error(401, "unauthorized", "invalid key") : nil
        }
        let error = await failure { try await script.provider().prepare(writable: true) }
        #expect(error?.code == .credentialsInvalid)
        #expect(error?.retry == .never)
        #expect(error.map { "\($0)".contains("secret") } == false)
    }

    @Test(
        "A realm on this machine leads neither token nor bytes to another one without TLS, unless the mount allows it",
        arguments: [
            ("http://10.0.0.9", false), ("http://127.0.0.1.example", false), ("ftp://127.0.0.1", false), ("", false),
            ("https://10.0.0.9", true), ("http://localhost:1", true),
        ])
    func ledAway(url: String, isRight: Bool) async throws {
        for (api, download) in [(url, "https://dl"), ("https://api", url)] {
            let script = try ScriptedB2 { request, _ in
                guard request.operation == "b2_authorize_account" else { return nil }
                return .json(
                    Self.v4.replacing("https://api\"", with: api + "\"").replacing("https://dl/", with: download))
            }
            let error = await failure { _ = try await script.session().authorisation(counting: B2Billing()) }
            #expect(error?.code == (isRight ? nil : .malformedResponse))
            #expect(error?.retry != .backoff)
            var identity = B2Session.Identity(realm: script.realm, keyID: "id", key: "secret")
            identity.allowsHTTP = true
            let allowed = await failure {
                _ = try await B2Session(identity).authorisation(counting: B2Billing())
            }
            #expect((allowed == nil) == (isRight || url.hasPrefix("http://")))
        }
    }

    @Test("Nor does an upload URL; a realm with TLS leads to nothing without")
    func uploadLedAway() async throws {
        let script = try ScriptedB2 { request, _ in
            request.operation == "b2_get_upload_url"
                ? .json(
                    "{\"bucketId\": \"b1\", \"uploadUrl\": \"http://127.0.0.1.example:1/u\", \"authorizationToken\": \"u\"}"
                ) : nil
        }
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.put(PutRequest(key: "k"), from: BytesSource([1])) }
        #expect(error?.code == .malformedResponse)
        let (secure, here) = (try #require(WebURL("https://a")), try #require(WebURL("http://127.0.0.1")))
        #expect(!secure.mayLead(to: here, allowingHTTP: true))
        #expect(secure.mayLead(to: secure, allowingHTTP: false))
    }

    @Test("Mounts of one key share a session, those of another do not")
    func sharing() {
        var identity = B2Session.Identity(realm: "https://shared.test", keyID: "id", key: "k")
        let one = B2Session.shared(identity)
        #expect(B2Session.shared(identity) === one)
        identity.allowsHTTP = true
        let other = B2Session.shared(identity)
        #expect(other !== one)
        identity.key = "other"
        #expect(B2Session.shared(identity) !== one)
    }

    @Test(
        "Only an expired token leads to a login, and the request is sent again once",
        arguments: [
            (401, "expired_auth_token", true, VFSError.Code.credentialsExpired),
            (401, "bad_auth_token", true, .credentialsExpired), (401, "unauthorized", false, .permissionDenied),
            (401, "email_not_verified", false, .credentialsInvalid), (403, "access_denied", false, .permissionDenied),
            (503, "service_unavailable", false, .unavailable),
        ])
    func triggers(status: Int, code: String, logsIn: Bool, meaning: VFSError.Code) async throws {
        let script = try ScriptedB2 { request, _ in
            request.operation == "b2_list_file_names" ? .error(status, code) : nil
        }
        let provider = try await script.prepared(session: script.session(interval: 0))
        let error = await failure { _ = try await provider.list(ListRequest(prefix: "", delimited: false)) }
        #expect(error?.code == meaning)
        #expect(script.operations.filter { $0 == "b2_authorize_account" }.count == (logsIn ? 2 : 1))
        #expect(script.work.count == (logsIn ? 2 : 1))
    }

    @Test("A request whose token has expired succeeds with the next one")
    func cure() async throws {
        let script = try ScriptedB2 { request, _ in
            guard request.operation == "b2_list_file_names" else { return nil }
            return request.headers["authorization"] == "token1"
                ? .error(401, "expired_auth_token") : .json("{\"files\": [], \"nextFileName\": null}")
        }
        let provider = try await script.prepared(session: script.session(interval: 0))
        #expect(try await provider.list(ListRequest(prefix: "", delimited: false)).objects.isEmpty)
    }

    @Test(
        "A HEAD is refused without a word; why, one byte of the file tells",
        arguments: [
            (401, "unauthorized", VFSError.Code.permissionDenied), (401, "expired_auth_token", nil),
            (403, "access_denied", .permissionDenied), (403, "transaction_cap_exceeded", .quotaExceeded),
        ])
    func silentRefusal(status: Int, code: String, meaning: VFSError.Code?) async throws {
        let script = try ScriptedB2 { request, _ in
            guard request.path.hasPrefix("/file/") else { return nil }
            if meaning == nil, request.headers["authorization"] != "token1" {
                return ScriptedAnswer(headers: headers("v", [("Content-Length", "0")]))
            }
            if request.method == "HEAD" { return ScriptedAnswer(status: status) }
            #expect(request.headers["range"] == "bytes=0-0")
            return .error(status, code)
        }
        let provider = try await script.prepared(session: script.session(interval: 0))
        #expect(await failure { _ = try await provider.head("k") }?.code == meaning)
        #expect(script.operations.filter { $0 == "b2_authorize_account" }.count == (meaning == nil ? 2 : 1))
        #expect(script.seen.filter { $0.method == "HEAD" }.count == (meaning == nil ? 2 : 1))
        #expect(script.seen.filter { $0.method == "GET" && $0.path.hasPrefix("/file/") }.count == 1)
    }
}
