import Synchronization

/// A real server of a test, on a port of 127.0.0.1.
public protocol TestServer: Sendable {
    var port: UInt16 { get }
    var process: ChildProcess { get }
}

extension TestServer {
    public var endpoint: String { "http://127.0.0.1:\(port)" }

    /// The server hangs, and goes on.
    public func pause() { process.pause() }
    public func resume() { process.resume() }
    /// Ends the server at once. Also done when the last reference goes, and when the test process ends.
    public func stop() { process.stop() }
}

/// A server that speaks S3.
public protocol TestS3Server: TestServer {
    var accessKey: String { get }
    var secretKey: String { get }
}

extension TestS3Server {
    public var region: String { "us-east-1" }

    public func createBucket(_ name: String) async throws {
        let answer = try await request("PUT", "/\(name)")
        guard answer.status == 200 else { throw TestSupportError("no bucket \(name): \(answer)") }
    }

    /// A bucket that no other test has.
    public func makeBucket(_ label: String = "bucket") async throws -> String {
        let name = "\(label)-\(String(UInt32.random(in: 0...UInt32.max), radix: 36))"
        try await createBucket(name)
        return name
    }

    public func put(_ key: String, in bucket: String, _ text: String, headers: [String] = []) async throws {
        let answer = try await request("PUT", "/\(bucket)/\(key)", body: text, headers: headers)
        guard answer.status == 200 else { throw TestSupportError("PUT \(key): \(answer)") }
    }

    public func get(_ key: String, in bucket: String) async throws -> String {
        let answer = try await request("GET", "/\(bucket)/\(key)")
        guard answer.status == 200 else { throw TestSupportError("GET \(key): \(answer)") }
        return answer.body
    }

    public func delete(_ key: String, in bucket: String) async throws {
        let answer = try await request("DELETE", "/\(bucket)/\(key)")
        guard answer.status == 204 else { throw TestSupportError("DELETE \(key): \(answer)") }
    }

    public func status(of key: String, in bucket: String) async throws -> Int {
        try await request("HEAD", "/\(bucket)/\(key)").status
    }

    /// One signed request through the `curl` command. Keys with other than plain ASCII characters are for a real client.
    public func request(
        _ method: String, _ path: String, body: String = "", headers: [String] = []
    ) async throws -> TestResponse {
        var arguments = [
            "curl", "-sS", "--max-time", "30", "--aws-sigv4", "aws:amz:\(region):s3", "--user",
            "\(accessKey):\(secretKey)",
            "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-H", "Content-Type: application/octet-stream",
            "-w", "\\n%{http_code}",
        ]
        for header in headers { arguments += ["-H", header] }
        if method == "HEAD" {
            arguments += ["-I"]
        } else {
            arguments += ["-X", method]
            if method == "PUT" || method == "POST" { arguments += ["--data-binary", "@-"] }
        }
        arguments.append(endpoint + path)
        let result = try await ChildProcess.run(arguments, input: body, seconds: 40)
        var lines = result.output.split(separator: "\n", omittingEmptySubsequences: false)
        let status = lines.popLast().flatMap { Int($0) } ?? 0
        let text = lines.joined(separator: "\n")
        return TestResponse(status: status, body: text + (status == 0 ? result.errors : ""))
    }

    /// The environment in which the `rclone` command knows this server as `NAME:`.
    public func rcloneRemote(named name: String) -> [String: String] {
        let settings = [
            "TYPE": "s3", "PROVIDER": "Other", "ACCESS_KEY_ID": accessKey, "SECRET_ACCESS_KEY": secretKey,
            "ENDPOINT": endpoint, "REGION": region, "FORCE_PATH_STYLE": "true",
        ]
        var result = ["RCLONE_CONFIG": "/dev/null"]
        for (key, value) in settings { result["RCLONE_CONFIG_\(name.uppercased())_\(key)"] = value }
        return result
    }

    /// Waits until a PUT succeeds: some servers answer long before they can store anything.
    func waitUntilReady(bucket: String, seconds: Double = 60) async throws {
        let deadline = ContinuousClock.now + .seconds(seconds)
        var answer = TestResponse(status: 0, body: "")
        var name = bucket
        var attempts = 0
        while ContinuousClock.now < deadline {
            if let exit = process.poll() {
                throw TestSupportError("the server ended with \(exit): \(process.transcript.suffix(2_000))")
            }
            _ = try await request("PUT", "/\(name)")
            answer = try await request("PUT", "/\(name)/ready", body: "ready")
            if answer.status == 200 { return }
            // SeaweedFS that was asked while it started may go on denying the bucket that it has.
            attempts += 1
            if answer.status == 404 { name = "\(bucket)-\(attempts)" }
            try await Task.sleep(for: .milliseconds(100))
        }
        throw TestSupportError("no PUT succeeded in \(seconds) s: \(answer)\n\(process.transcript.suffix(2_000))")
    }
}

public struct TestResponse: Sendable, CustomStringConvertible {
    public let status: Int
    public let body: String
    public var description: String { "status \(status) \(body.prefix(500))" }
}

/// Starts one server when it is first asked for, which then serves the whole test process.
public final class SharedServer<Server: TestServer>: Sendable {
    private let task: Mutex<Task<Server, any Error>?> = Mutex(nil)
    private let start: @Sendable () async throws -> Server

    init(_ start: @escaping @Sendable () async throws -> Server) { self.start = start }

    func get() async throws -> Server {
        let start = self.start
        let task = self.task.withLock { slot in
            if let task = slot { return task }
            let task = Task { try await start() }
            slot = task
            return task
        }
        return try await task.value
    }
}
