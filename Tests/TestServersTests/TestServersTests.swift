import TestServers
import Testing

@Suite("The servers that tests start")
struct TestServersTests {
    @Test("SeaweedFS, moto and rclone store an object and give it back")
    func store() async throws {
        let servers: [any TestS3Server] = try await [SeaweedFS.shared(), Moto.shared(), RcloneServe.shared()]
        for server in servers {
            let bucket = try await server.makeBucket()
            try await server.put("folder/key.txt", in: bucket, "content\nof two lines")
            #expect(try await server.get("folder/key.txt", in: bucket) == "content\nof two lines")
            #expect(try await server.status(of: "folder/other", in: bucket) == 404)
            try await server.delete("folder/key.txt", in: bucket)
            #expect(try await server.status(of: "folder/key.txt", in: bucket) == 404)
        }
    }

    @Test("A SeaweedFS that was killed comes back with its data")
    func restart() async throws {
        let first = try await SeaweedFS.start()
        let bucket = try await first.makeBucket()
        try await first.put("key", in: bucket, "kept")
        let second = try await first.restart()
        #expect(try await second.get("key", in: bucket) == "kept")
        second.stop()
        #expect(second.process.poll() == .signal(9))
    }

    @Test("The B2 server makes buckets and keys, obeys orders and counts")
    func b2() async throws {
        let server = try await B2Server.shared()
        let bucket = try await server.makeBucket()
        let key = try await server.makeKey(buckets: [bucket], prefix: "a/")
        #expect(key != server.masterKey)
        let authorize = [
            "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-u", "\(key.keyID):\(key.applicationKey)",
            "\(server.endpoint)/b2api/v4/b2_authorize_account",
        ]
        try await server.control(#"{"fail": {"key": "\#(key.keyID)", "status": 503, "count": 1}}"#)
        #expect(try await ChildProcess.output(of: authorize) == "503")
        #expect(try await ChildProcess.output(of: authorize) == "200")
        let statistics = try await server.statistics(key: key.keyID)
        #expect(statistics.count("b2_authorize_account") == 2)
        #expect(statistics.classes == ["C": 2])
        #expect(statistics.log.map(\.status) == [503, 200])
        await #expect(throws: TestSupportError.self) { try await server.control(#"{"unknown": 1}"#) }
    }

    @Test("A child is killed when its time is over, and with it what it started")
    func timeout() async throws {
        let result = try await ChildProcess.run(["/bin/sh", "-c", "sleep 100 & echo $!; wait"], seconds: 0.3)
        #expect(result.exit == .timedOut)
        let grandchild = result.output.split(separator: "\n").first.map(String.init) ?? ""
        let alive = try await ChildProcess.run([
            "/bin/sh", "-c", "sleep 0.2; grep '^State:.[^ZX]' /proc/\(grandchild)/status",
        ])
        #expect(!alive.succeeded)
    }

    @Test("The exit, the output and the input of a child arrive")
    func transcript() async throws {
        let result = try await ChildProcess.run(["/bin/sh", "-c", "cat; echo wrong >&2; exit 7"], input: "right")
        #expect(result.exit == .code(7))
        #expect(result.output == "right")
        #expect(result.errors == "wrong\n")
    }
}

@Suite("The proxy that misbehaves")
struct FaultProxyTests {
    private func fetch(_ proxy: FaultProxy, _ path: String = "/", seconds: Int = 20) async throws -> String {
        let result = try await ChildProcess.run([
            "curl", "-s", "-o", "/dev/null", "--max-time", "\(seconds)", "-w", "%{http_code} %{size_download}",
            proxy.endpoint + path,
        ])
        return "\(result.exit) \(result.output)"
    }

    @Test("It passes what it is not told to disturb, and counts it")
    func pass() async throws {
        let proxy = try await FaultProxy(before: Moto.shared())
        let two = try await ChildProcess.run(["curl", "-s", proxy.endpoint + "/moto-api/", proxy.endpoint + "/a?b=c"])
        #expect(two.exit == .code(0))
        #expect(proxy.requests.map(\.target) == ["/moto-api/", "/a?b=c"])
        #expect(proxy.requests.map(\.path) == ["/moto-api/", "/a"])
        #expect(proxy.connections == 1 || proxy.connections == 2)
    }

    @Test("It answers in the server's place so many times")
    func status() async throws {
        let proxy = try await FaultProxy(before: Moto.shared())
        try proxy.set(.status(503, headers: ["Retry-After: 1"], body: "<Error/>"), times: 1) { $0.path == "/moto-api/" }
        #expect(try await fetch(proxy, "/none").hasPrefix("exit code 0 404"))
        #expect(try await fetch(proxy, "/moto-api/") == "exit code 0 503 8")
        #expect(try await fetch(proxy, "/moto-api/").hasPrefix("exit code 0 200"))
    }

    @Test("It swallows, cuts, slows and refuses")
    func disturb() async throws {
        let server = try await SeaweedFS.shared()
        let proxy = try FaultProxy(before: server)
        try proxy.set(.blackHole)
        #expect(try await fetch(proxy, seconds: 1) == "exit code 28 000 0")
        try proxy.set(.resetAfter(10))
        let cut = try await fetch(proxy)
        #expect(cut.hasPrefix("exit code 56"), "\(cut)")
        try proxy.set(.refuse)
        #expect(try await fetch(proxy) == "exit code 7 000 0")
        try proxy.set(.trickle(bytesPerSecond: 40))
        #expect(try await fetch(proxy, seconds: 1).hasPrefix("exit code 28"))
        try proxy.set(.delay(milliseconds: 1_500))
        #expect(try await fetch(proxy, seconds: 1).hasPrefix("exit code 28"))
        try proxy.set(.pass)
        #expect(try await fetch(proxy).hasPrefix("exit code 0"))
    }
}
