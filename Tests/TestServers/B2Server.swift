public import Foundation
import Glibc

/// Backblaze's native B2 API (`Tests/Servers/b2_server.py`): b2sdk's simulator of the service behind HTTP, with faults that
/// a test switches on. All is gone when it ends.
public final class B2Server: TestServer {
    /// An application key of the server.
    public struct Key: Sendable, Equatable, Codable {
        /// `applicationKeyId` of the API.
        public let keyID: String
        public let applicationKey: String

        public init(keyID: String, applicationKey: String) {
            self.keyID = keyID
            self.applicationKey = applicationKey
        }
    }

    /// What the server was asked for since it began, or since `resetStatistics()`.
    public struct Statistics: Sendable, Codable {
        public struct Call: Sendable, Codable {
            public let operation: String
            public let method: String
            public let status: Int
            public let bucket: String
            public let key: String
            public let path: String
            public let range: String?
            /// Bytes of the bodies.
            public let received: Int
            public let sent: Int
            public let milliseconds: Double
            public let testMode: String?
            public let userAgent: String?
        }

        /// By the names of the API, `head_file`, and `b2_download_file_by_name` or `_by_id`.
        public let operations: [String: Int]
        /// By billing class: A, B and C.
        public let classes: [String: Int]
        public let statuses: [String: Int]
        public let received: Int
        public let sent: Int
        /// The last calls, the latest at the end.
        public let log: [Call]

        public func count(_ operation: String) -> Int { operations[operation] ?? 0 }
    }

    public let port: UInt16
    public let process: ChildProcess
    /// May do everything.
    public let masterKey = Key(keyID: "0054d1e2f3a4b5c0000000001", applicationKey: "K005masterKeyOfTheTestServer")
    private let folder: TemporaryFolder

    private static let one = SharedServer { try await B2Server.start() }

    /// The test process's common server; use buckets of your own, faults of your own bucket only, and do not stop it.
    public static func shared() async throws -> B2Server { try await one.get() }

    /// A server of one's own, ready when this returns.
    /// - Parameters:
    ///   - minimumPart: `absoluteMinimumPartSize`, in bytes.
    ///   - recommendedPart: `recommendedPartSize`, in bytes.
    /// - Throws: `TestSupportError` when it is not installed or does not come up within a minute.
    public static func start(
        minimumPart: Int = 5_000_000, recommendedPart: Int = 100_000_000
    ) async throws -> B2Server {
        let server = try B2Server(port: Ports.free(), minimumPart: minimumPart, recommendedPart: recommendedPart)
        let deadline = ContinuousClock.now + .seconds(60)
        while !server.process.output.hasPrefix("\(server.port)\n") {
            if let exit = server.process.poll() {
                throw TestSupportError("the B2 server ended with \(exit): \(server.process.transcript.suffix(2_000))")
            }
            guard ContinuousClock.now < deadline else { throw TestSupportError("the B2 server does not get ready") }
            try await Task.sleep(for: .milliseconds(50))
        }
        return server
    }

    private init(port: UInt16, minimumPart: Int, recommendedPart: Int) throws {
        self.port = port
        folder = try TemporaryFolder("b2")
        process = try ChildProcess(
            [
                try Tools.path("python"), "\(Tools.packageRoot)/Tests/Servers/b2_server.py", "--port", "\(port)",
                "--data", folder.path, "--key-id", masterKey.keyID, "--key", masterKey.applicationKey,
                "--min-part", "\(minimumPart)", "--part", "\(recommendedPart)",
            ], environment: ["PYTHONDONTWRITEBYTECODE": "1"])
    }

    /// Gives the server an order of `Tests/Servers/b2_control.py`, as JSON: `{"fail_uploads": 3}`.
    /// - Throws: `TestSupportError` when it does not take it.
    @discardableResult
    public func control(_ order: String) async throws -> Data {
        let answer = try await curl(["-X", "POST", "--data-binary", "@-", "\(endpoint)/__control"], input: order)
        guard answer.status == 200 else { throw TestSupportError("\(order): \(answer)") }
        return Data(answer.body.utf8)
    }

    /// - Parameters:
    ///   - encrypted: SSE-B2 is the bucket's default.
    public func createBucket(_ name: String, encrypted: Bool = false) async throws {
        let encryption = encrypted ? #", "encryption": {"mode": "SSE-B2", "algorithm": "AES256"}"# : ""
        try await control(#"{"create_bucket": {"name": "\#(name)"\#(encryption)}}"#)
    }

    /// A bucket that no other test has.
    public func makeBucket(_ label: String = "bucket", encrypted: Bool = false) async throws -> String {
        let name = "\(label)-\(String(UInt32.random(in: 0...UInt32.max), radix: 36))"
        try await createBucket(name, encrypted: encrypted)
        return name
    }

    /// A new key.
    /// - Parameters:
    ///   - capabilities: nil: all that concern files.
    ///   - buckets: by name; nil: every bucket.
    ///   - seconds: its life; nil: for ever.
    public func makeKey(
        buckets: [String]? = nil, prefix: String? = nil, capabilities: [String]? = nil, seconds: Int? = nil
    ) async throws -> Key {
        struct Order: Encodable {
            let name = "test"
            let capabilities: [String]
            let buckets: [String]?
            let prefix: String?
            let seconds: Int?
        }
        struct Reply: Decodable {
            let create_key: Key
        }
        let order = Order(
            capabilities: capabilities
                ?? ["listBuckets", "readBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles", "shareFiles"],
            buckets: buckets, prefix: prefix, seconds: seconds)
        let text = String(decoding: try JSONEncoder().encode(["create_key": order]), as: UTF8.self)
        return try JSONDecoder().decode(Reply.self, from: try await control(text)).create_key
    }

    /// The counts, of all calls or of those that concern a bucket or were made with a key.
    /// - Parameter lines: how many of the last calls to list.
    public func statistics(
        bucket: String? = nil, key: String? = nil, lines: Int = 1_000
    ) async throws -> Statistics {
        var query = "lines=\(lines)"
        if let bucket { query += "&bucket=\(bucket)" }
        if let key { query += "&key=\(key)" }
        let answer = try await curl(["\(endpoint)/__stats?\(query)"])
        guard answer.status == 200 else { throw TestSupportError("statistics: \(answer)") }
        return try JSONDecoder().decode(Statistics.self, from: Data(answer.body.utf8))
    }

    public func resetStatistics() async throws { try await control(#"{"reset_stats": true}"#) }

    /// The environment in which the `rclone` command knows this server as `NAME:`.
    public func rcloneRemote(named name: String, key: Key? = nil) -> [String: String] {
        let key = key ?? masterKey
        let settings = [
            "TYPE": "b2", "ACCOUNT": key.keyID, "KEY": key.applicationKey, "ENDPOINT": endpoint,
        ]
        var result = ["RCLONE_CONFIG": "/dev/null"]
        for (field, value) in settings { result["RCLONE_CONFIG_\(name.uppercased())_\(field)"] = value }
        return result
    }

    /// The environment in which the `b2` command uses this server.
    /// - Parameter accountFile: where it keeps its tokens; one for each server and key.
    public func b2Environment(accountFile: String, key: Key? = nil) -> [String: String] {
        let key = key ?? masterKey
        return [
            "B2_ENVIRONMENT": endpoint, "B2_APPLICATION_KEY_ID": key.keyID, "B2_APPLICATION_KEY": key.applicationKey,
            "B2_ACCOUNT_INFO": accountFile, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1",
        ]
    }

    private func curl(_ arguments: [String], input: String = "") async throws -> TestResponse {
        let result = try await ChildProcess.run(
            ["curl", "-sS", "--max-time", "30", "-w", "\\n%{http_code}"] + arguments, input: input, seconds: 40)
        var lines = result.output.split(separator: "\n", omittingEmptySubsequences: false)
        let status = lines.popLast().flatMap { Int($0) } ?? 0
        return TestResponse(
            status: status, body: lines.joined(separator: "\n") + (status == 0 ? result.errors : ""))
    }
}
