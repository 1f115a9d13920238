import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization
import Testing

@testable import CloudMountConfig
@testable import CloudMountDaemon
@testable import CloudMountLayers

@Suite("The control socket", .timeLimit(.minutes(15)))
struct ControlTests {
    /// A folder for one test, removed with its socket.
    private func withSocket(_ body: (String) async throws -> Void) async throws {
        var template = Array("/tmp/cloudmount-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw VFSError(.io, "no temporary folder") }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            unlink(folder + "/run/s")
            rmdir(folder + "/run")
            rmdir(folder)
        }
        try await body(folder + "/run/s")
    }

    private func ask(_ path: String, _ request: ControlRequest) async throws -> ControlAnswer {
        try await BlockingPool.shared.run { () throws(VFSError) in try ControlClient(socket: path).ask(request) }
    }

    @Test("a request is answered, also many at once")
    func roundTrip() async throws {
        try await withSocket { path in
            let server = try ControlServer(path: path) { request, _ in
                ControlAnswer(ok: request.lazy ?? false, error: request.target)
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<20 {
                    group.addTask {
                        let answer = try await self.ask(
                            path, ControlRequest(.unmount, target: "m\(number)", lazy: number % 2 == 0))
                        #expect(answer == ControlAnswer(ok: number % 2 == 0, error: "m\(number)"))
                    }
                }
                try await group.waitForAll()
            }
            await server.close()
            #expect(access(path, F_OK) != 0)
        }
    }

    @Test("only the user may open the socket")
    func permissions() async throws {
        try await withSocket { path in
            let server = try ControlServer(path: path) { _, _ in ControlAnswer() }
            var status = stat()
            #expect(stat(path, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600)
            await server.close()
        }
    }

    @Test("the daemon of another user than the mount's is told nothing")
    func stranger() async throws {
        try await withSocket { path in
            let asked = Atomic(0)
            let server = try ControlServer(path: path) { _, _ in
                asked.add(1, ordering: .relaxed)
                return ControlAnswer(ok: true)
            }
            let request = ControlRequest(.remount, target: "/m", readOnly: true)
            let mine = geteuid()
            let answer = try await BlockingPool.shared.run { () throws(VFSError) in
                try ControlClient(socket: path, owners: [mine, 0]).ask(request)
            }
            #expect(answer.ok)
            let error = await #expect(throws: VFSError.self) {
                try await BlockingPool.shared.run { () throws(VFSError) in
                    try ControlClient(socket: path, owners: [mine + 1]).ask(request)
                }
            }
            #expect(error?.code == .permissionDenied)
            await server.close()
            #expect(asked.load(ordering: .relaxed) == 1)
        }
    }

    @Test("a second daemon is refused, the socket of a dead one is replaced")
    func taken() async throws {
        try await withSocket { path in
            // Closed without being removed, as by kill -9.
            _ = try UnixSocket.listen(at: path)
            #expect(access(path, F_OK) == 0)
            let server = try ControlServer(path: path) { _, _ in ControlAnswer() }
            #expect(throws: VFSError(.busy, "another cloudmount is listening at \(path)")) {
                try ControlServer(path: path) { _, _ in ControlAnswer() }
            }
            await server.close()
        }
    }

    @Test("a file that is no socket is not taken for one that was left behind")
    func noSocket() async throws {
        try await withSocket { path in
            _ = try UnixSocket.listen(at: path)
            unlink(path)
            close(open(path, O_WRONLY | O_CREAT, 0o600))
            #expect(throws: VFSError.self) { try UnixSocket.listen(at: path) }
            #expect(access(path, F_OK) == 0)
            unlink(path)
        }
    }

    @Test("nobody listening is told as that")
    func nobody() async throws {
        try await withSocket { path in
            await #expect(throws: VFSError(.notFound, "no cloudmount daemon is listening at \(path)")) {
                try await ask(path, ControlRequest(.status))
            }
        }
    }

    @Test(
        "what is no request is refused, and the server goes on",
        arguments: ["{}", "", "nonsense", "{\"command\":\"explode\"}"])
    func nonsense(_ text: String) async throws {
        try await withSocket { path in
            let server = try ControlServer(path: path) { _, _ in ControlAnswer() }
            let line = try await BlockingPool.shared.run { () throws(VFSError) -> [UInt8]? in
                let socket = try UnixSocket.connect(to: path)
                _ = UnixSocket.write(Array(text.utf8) + [UInt8(ascii: "\n")], to: socket)
                return UnixSocket.readLine(socket)
            }
            #expect(String(decoding: line ?? [], as: UTF8.self) == "{\"error\":\"not a request\",\"ok\":false}")
            #expect(try await ask(path, ControlRequest(.status)).ok)
            await server.close()
        }
    }
}

@Suite("The control socket, of clients that do not do their part", .timeLimit(.minutes(15)))
struct SilentClientTests {
    private func withServer(
        patience: Duration, _ answer: @escaping @Sendable (ControlRequest) async -> ControlAnswer,
        _ body: @Sendable (String) async throws -> Void
    ) async throws {
        let path = "/tmp/cloudmount-control-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        let server = try ControlServer(path: path, patience: patience) { request, _ in await answer(request) }
        do { try await body(path) } catch { Issue.record(error) }
        await server.close()
    }

    private func ask(_ path: String, _ request: ControlRequest = .init(.status)) async throws -> ControlAnswer {
        try await BlockingPool.shared.run { () throws(VFSError) in try ControlClient(socket: path).ask(request) }
    }

    @Test("who connects and says nothing, or a byte now and then, keeps nobody waiting")
    func silent() async throws {
        // Their time never comes: what is answered is so while they are there.
        try await withServer(patience: .seconds(3600)) { _ in
            ControlAnswer()
        } _: { path in
            var silent: [Descriptor] = []
            for _ in 0..<200 {
                let socket = try await BlockingPool.shared.run { () throws(VFSError) in
                    try UnixSocket.connect(to: path)
                }
                _ = UnixSocket.write([UInt8(ascii: "{")], to: socket)
                silent.append(socket)
            }
            for _ in 0..<20 { #expect(try await ask(path).ok) }
            withExtendedLifetime(silent) {}
        }
    }

    @Test("who asks and does not read keeps nobody waiting")
    func unread() async throws {
        let long = String(repeating: "x", count: 8 << 20)
        try await withServer(patience: .seconds(3600)) { request in
            ControlAnswer(error: request.command == .unmount ? long : nil)
        } _: { path in
            var deaf: [Descriptor] = []
            for _ in 0..<10 {
                let socket = try UnixSocket.connect(to: path)
                _ = UnixSocket.write(try ControlJSON.line(ControlRequest(.unmount)), to: socket)
                deaf.append(socket)
            }
            for _ in 0..<20 { #expect(try await ask(path).ok) }
            // Who does read gets it whole.
            #expect(try await ask(path, ControlRequest(.unmount)).error == long)
            withExtendedLifetime(deaf) {}
        }
    }

    @Test("who takes too long is dropped, and who asks for too much")
    func dropped() async throws {
        try await withServer(patience: .milliseconds(50)) { _ in
            ControlAnswer()
        } _: { path in
            let line = try await BlockingPool.shared.run { () throws(VFSError) -> [UInt8]? in
                UnixSocket.readLine(try UnixSocket.connect(to: path))
            }
            #expect(line == nil)
        }
        try await withServer(patience: .seconds(3600)) { _ in
            ControlAnswer()
        } _: { path in
            let line = try await BlockingPool.shared.run { () throws(VFSError) -> [UInt8]? in
                let socket = try UnixSocket.connect(to: path)
                _ = UnixSocket.write(
                    [UInt8](repeating: UInt8(ascii: "x"), count: ControlServer.maxRequest + 1), to: socket)
                return UnixSocket.readLine(socket)
            }
            #expect(line == nil)
        }
    }

    @Test("an answer that is never ready keeps nobody else waiting")
    func stuck() async throws {
        let isOver = Flag()
        try await withServer(patience: .seconds(3600)) { request in
            while request.command == .unmount, !isOver.isSet {
                try? await Task.sleep(for: .milliseconds(1))
            }
            return ControlAnswer()
        } _: { path in
            var waiting: [Descriptor] = []
            for _ in 0..<10 {
                let socket = try UnixSocket.connect(to: path)
                _ = UnixSocket.write(try ControlJSON.line(ControlRequest(.unmount)), to: socket)
                waiting.append(socket)
            }
            for _ in 0..<20 { #expect(try await ask(path).ok) }
            isOver.set()
            withExtendedLifetime(waiting) {}
        }
    }

    @Test("a mount that is slow to tell its figures is shown without them, and the others with theirs")
    func figures() async throws {
        let configuration = try Fixtures.configuration(["slow", "a"])
        let running = [FakeMount(), FakeMount()]
        running[0].state.withLock { $0.statisticsHang = true }
        running[1].state.withLock { $0.statistics.openFiles = 7 }
        let mounts = zip(configuration.mounts, running).enumerated().map { index, pair in
            MountLife.Look(id: index, mount: pair.0, phase: .mounted(pair.1), pending: nil, isReadOnly: false)
        }
        let late = "its figures are not to be had just now"
        // The limit ends the wait for one that hangs.
        #expect(await MountLooks(limit: .milliseconds(1)).report([mounts[0]]).map(\.reason) == [late])
        let without = await MountLooks(limit: .milliseconds(1)).report([mounts[0]])
        #expect(without.map(\.complaint) == [late] && without[0].dirtyFiles == nil && without[0].openFiles == nil)
        // While it hangs it is not asked again: who asks meanwhile waits for the same answer, and gets it.
        let looks = MountLooks(limit: .seconds(3600))
        func asked() -> Int { running[0].state.withLock { $0.statisticsAsked } }
        while asked() < 2 { try await Task.sleep(for: .milliseconds(1)) }
        let first = Task { await looks.report(mounts) }
        while asked() < 3 { try await Task.sleep(for: .milliseconds(1)) }
        let others = (0..<10).map { _ in Task { await looks.report(mounts) } }
        running[0].state.withLock { state in
            state.statistics.dirtyFiles = 3
            state.statisticsHang = false
        }
        for task in [first] + others {
            let report = await task.value
            #expect(report.map(\.state) == [.mounted, .mounted] && report.map(\.reason) == [nil, nil])
            #expect(report.map(\.openFiles) == [0, 7] && report[0].dirtyFiles == 3)
        }
    }
}

@Suite("The status")
struct StatusTests {
    private func report() throws -> StatusReport {
        let configuration = try Fixtures.configuration(["a", "b"])
        let running = FakeMount()
        running.state.withLock {
            $0.billedCalls = [BilledCalls(group: "class A", calls: 4), BilledCalls(group: "class C", calls: 2)]
            $0.readOnlyReason = "the key may not write"
            $0.statistics.openFiles = 1
            $0.statistics.dirtyFiles = 2
            $0.statistics.dirtyBytes = 3 << 20
            $0.statistics.hiddenKeys = 1
            $0.statistics.hiddenKeyExamples = ["x//\u{1B}[2J"]
            $0.statistics.failedCommits = [
                .init(
                    path: "d/f", stagedPath: "/c/staged/a-1-9", bytes: 2048, error: "refused", since: .init(seconds: 5))
            ]
        }
        return StatusReport(
            pid: 9, configuration: "/etc/m.yaml", startedAt: 7, isStopping: true,
            memory: .init(limit: 512 << 20, used: 0),
            staging: .init(
                directory: "/c", limit: 1 << 30, used: 4096, leftovers: [.init(path: "/c/staged/z", bytes: 4096)]),
            mounts: [
                .init(configuration.mounts[0], .mounted(running)),
                .init(configuration.mounts[1], .failed(VFSError(.bucketNotFound, "no bucket"), retryAt: .now)),
            ])
    }

    @Test("the table shows every mount and all that is wrong, and no control characters")
    func table() throws {
        #expect(
            StatusTable.text(try report()) == """
                MOUNT  STATE                PATH    STORE          OPEN  NOT STORED   REQUESTS  ERRORS  MEAN
                a      mounted (read only)  /mnt/a  fake bucket-a  1     2 (3.0 MiB)  2         1       1.5 ms
                b      failed               /mnt/b  fake bucket-b  0     -            0         0       -
                ! a: read only: the key may not write
                a: billed calls: class A 4, class C 2
                ! a: d/f (2.0 KiB) is not stored: refused; its bytes are in /c/staged/a-1-9
                ! a: 1 keys cannot be shown as paths, such as 'x//\\u{1b}[2J'
                ! b: no bucket (bucketNotFound); next attempt in 0 s
                ! an earlier run could not store 4.0 KiB, kept in /c/staged/z
                the daemon is stopping

                """)
    }

    @Test("the credentials in use are named, with their end and with what is wrong with them")
    func credentials() throws {
        let configuration = try Fixtures.configuration(["a", "b", "c"])
        let running = [FakeMount(), FakeMount(), FakeMount()]
        let end = Timestamp(seconds: 1_795_431_600)
        for (mount, problem) in zip(running, [nil, "no\u{1B} answer", "log in"]) {
            mount.state.withLock {
                $0.credentials = CredentialReport(
                    source: "profile 'p'", end: end, problem: problem, isRefused: problem == "log in")
            }
        }
        var report = try report()
        report.mounts = zip(configuration.mounts, running).map { .init($0, .mounted($1)) }
        let lines = StatusTable.text(report).split(separator: "\n").map(String.init)
        #expect(lines[3].hasPrefix("c      mounted (auth-expired)  /mnt/c"))
        let notes = lines.filter { $0.contains("credentials") }
        #expect(
            notes == [
                "a: credentials of profile 'p' until 2026-11-23T11:00:00.000Z",
                "! b: credentials of profile 'p' until 2026-11-23T11:00:00.000Z cannot be renewed, and serve until the store "
                    + "refuses them: no\\u{1b} answer",
                "! c: credentials of profile 'p' have expired: log in",
            ])
        let json = report.mounts.map(\.credentials)
        #expect(json.map { $0?.state } == [.valid, .unrenewed, .expired])
        #expect(json[0]?.endsAt == end.seconds && json[0]?.reason == nil)
    }

    @Test("what keeps a mount from all that it should do is a complaint, and what was asked for is none")
    func complaints() throws {
        let mount = try Fixtures.configuration(["a"]).mounts[0]
        func complaint(_ change: (inout FakeMount.State) -> Void, remounted: Bool = false) -> String? {
            let running = FakeMount()
            running.state.withLock { change(&$0) }
            var report = StatusReport.Mount(
                MountLife.Look(id: 0, mount: mount, phase: .mounted(running), pending: nil, isReadOnly: remounted))
            report.fill(running)
            return report.complaint
        }
        #expect(complaint { _ in } == nil)
        #expect(complaint({ _ in }, remounted: true) == nil)
        #expect(complaint { $0.readOnlyReason = "the key may not write" } == "read only: the key may not write")
        func credentials(refused: Bool) -> CredentialReport {
            CredentialReport(source: "profile 'p'", end: nil, problem: "log in", isRefused: refused)
        }
        #expect(
            complaint { $0.credentials = credentials(refused: true) }
                == "credentials of profile 'p' have expired: log in")
        #expect(complaint { $0.credentials = credentials(refused: false) } == nil)
    }

    @Test("an endpoint that does not answer is told once, a cap with its mount")
    func troubles() throws {
        let configuration = try Fixtures.configuration(["a", "b"])
        let running = [FakeMount(), FakeMount()]
        for mount in running {
            mount.state.withLock {
                $0.outage = OutageReport(
                    lasts: .seconds(75), nextProbe: .milliseconds(1540), isProbing: false, probes: 9, reason: "no route"
                )
            }
        }
        running[1].state.withLock {
            $0.caps = [
                Caps.Report(kind: .writes, lasts: .seconds(200), nextTry: .seconds(700), reason: "storage cap")
            ]
        }
        var report = try report()
        report.mounts = [
            .init(configuration.mounts[0], .mounted(running[0])), .init(configuration.mounts[1], .mounted(running[1])),
        ]
        report.staging.leftovers = []
        report.isStopping = false
        #expect(
            StatusTable.text(report) == """
                MOUNT  STATE                          PATH    STORE          OPEN  NOT STORED  REQUESTS  ERRORS  MEAN
                a      mounted (unreachable)          /mnt/a  fake bucket-a  0     -           2         1       1.5 ms
                b      mounted (unreachable, capped)  /mnt/b  fake bucket-b  0     -           2         1       1.5 ms
                ! b: writes are capped for 3 min; next attempt in 12 min: storage cap
                ! fake has not answered for 75 s; next probe in 1.5 s: no route

                """)
        let line = String(decoding: try ControlJSON.line(report), as: UTF8.self)
        #expect(
            line.contains(
                #""outage":{"lasts_seconds":75,"next_probe_seconds":1.5,"probes":9,"reason":"no route"}"#))
        #expect(line.contains(#""caps":[{"kind":"writes","lasts_seconds":200,"next_try_seconds":700,"#))
        #expect(try ControlJSON.decode(StatusReport.self, from: Array(line.utf8)) == report)
    }

    @Test("the document is as it is described, and is read back as the same")
    func json() throws {
        let report = try report()
        let line = String(decoding: try ControlJSON.line(report), as: UTF8.self)
        #expect(
            line
                == #"{"configuration":"/etc/m.yaml","is_stopping":true,"memory":{"limit":536870912,"used":0},"mounts":[{"billed_calls":[{"calls":4,"group":"class A"},{"calls":2,"group":"class C"}],"bucket":"bucket-a","caps":[],"dirty_bytes":3145728,"dirty_files":2,"endpoint":{"in_flight":1,"limit":96,"name":"fake","waiting":0},"failed_commits":[{"bytes":2048,"error":"refused","path":"d/f","since":5,"staged_path":"/c/staged/a-1-9"}],"hidden_key_examples":["x//\u001b[2J"],"hidden_keys":1,"kept_bytes":0,"name":"a","open_files":1,"path":"/mnt/a","prefix":"","provider":"fake","read_only":true,"read_only_reason":"the key may not write","requests":[{"bytes_down":4096,"bytes_up":0,"calls":2,"errors":1,"in_flight":0,"max_milliseconds":2,"mean_milliseconds":1.5,"verb":"read"}],"stale_nodes":0,"state":"mounted"},{"billed_calls":[],"bucket":"bucket-b","caps":[],"dirty_bytes":0,"dirty_files":0,"failed_commits":[],"hidden_key_examples":[],"hidden_keys":0,"kept_bytes":0,"name":"b","next_try_seconds":0,"open_files":0,"path":"/mnt/b","prefix":"","provider":"fake","read_only":false,"reason":"no bucket (bucketNotFound)","requests":[],"stale_nodes":0,"state":"failed"}],"pid":9,"staging":{"directory":"/c","leftovers":[{"bytes":4096,"path":"/c/staged/z"}],"limit":1073741824,"used":4096},"started_at":7,"version":1}"#
                + "\n")
        #expect(try ControlJSON.decode(StatusReport.self, from: Array(line.utf8)) == report)
    }
}
