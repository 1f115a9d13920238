import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Logging
import Synchronization
import Testing

@testable import CloudMountConfig
@testable import CloudMountDaemon

@Suite("Waiting for the store, by command", .timeLimit(.minutes(15)))
struct SyncDeskTests {
    private let engine = FakeEngine()

    /// Mounts `a` and `b`, up.
    private func withSupervisor(_ body: (Supervisor, FakeMount, FakeMount) async throws -> Void) async throws {
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        let supervisor = Supervisor(
            mounts: try Fixtures.configuration(["a", "b"]).mounts, engine: engine, logger: logger, announce: { _ in },
            pause: { _ in })
        async let endings = supervisor.run()
        let (a, b) = (await engine.mount("a"), await engine.mount("b"))
        a.state.withLock { $0.device = "0:71" }
        b.state.withLock { $0.device = "0:72" }
        while await supervisor.phases.contains(where: { if case .mounted = $0.phase { false } else { true } }) {
            await Task.yield()
        }
        do { try await body(supervisor, a, b) } catch { Issue.record(error) }
        await supervisor.stop()
        _ = await endings
    }

    private func dirty(_ path: String, _ bytes: Int, _ error: String = "") -> MountStatistics.FailedCommit {
        .init(path: path, stagedPath: "/c/\(path)", bytes: bytes, error: error, since: .init(seconds: 0))
    }

    private func place(_ word: String, _ device: String, _ path: String) throws -> ControlTarget {
        var target = try ControlTarget("x")
        (target.word, target.device, target.path) = (word, device, path)
        return target
    }

    @Test("A word without a slash is a mount's name; a path that is in no mount of cloudmount is refused")
    func words() throws {
        let target = try ControlTarget("photos")
        #expect(target.device == nil && target.path.isEmpty)
        #expect(throws: VFSError(.notFound, "/tmp is not in a mount of cloudmount")) { try ControlTarget("/tmp") }
        #expect(throws: VFSError.self) { try ControlTarget("/tmp/absent-\(UInt32.random(in: 0 ... .max))") }
    }

    @Test("Mounts are found by name, paths by the file system that they are in; without either all are meant")
    func targets() async throws {
        try await withSupervisor { supervisor, a, b in
            let desk = SyncDesk(supervisor: supervisor)
            var request = ControlRequest(.sync, targets: [try ControlTarget("a"), try place("/m/d", "0:72", "d")])
            #expect(await desk.run(request) { _ in } == ControlAnswer(ok: true, sync: SyncReport()))
            #expect(a.steps == ["sync ''"] && b.steps == ["sync 'd'"])
            request = ControlRequest(.sync, limit: .seconds(60))
            #expect(await desk.run(request) { _ in }.ok)
            #expect(a.steps.last == "sync '' patiently" && b.steps.last == "sync '' patiently")
            for wrong in [try ControlTarget("c"), try place("/m/d", "0:73", "d")] {
                let answer = await desk.run(ControlRequest(.sync, targets: [wrong])) { _ in }
                #expect(!answer.ok && answer.error != nil && answer.sync == nil)
            }
            #expect(a.steps.count == 2 && b.steps.count == 2)
        }
    }

    @Test("Many words of one mount are looked at once")
    func together() async throws {
        try await withSupervisor { supervisor, a, b in
            let words = ["d", "d/e", "f"]
            var request = ControlRequest(.sync, targets: try words.map { try place("/m/\($0)", "0:71", $0) })
            request.targets?.append(try ControlTarget("b"))
            #expect(await SyncDesk(supervisor: supervisor).run(request) { _ in }.ok)
            #expect(a.steps == ["sync 'd d/e f'"] && b.steps == ["sync ''"])
        }
        let scope = PathScope(["d", "x/y", "é"])
        for path in ["d", "d/e", "d/e/f", "x/y/", "x/y/z", "é/a"] { #expect(scope.holds(ObjectKey(path)), "\(path)") }
        for path in ["", "d.txt", "x", "x/yz", "e\u{301}", "a/d"] { #expect(!scope.holds(ObjectKey(path)), "\(path)") }
        #expect(PathScope([""]).holds("a/b"))
    }

    @Test(
        "More words than a request may have are refused with a reason; so is an answer that nobody can take, and a crowd that waits"
    )
    func bounds() async throws {
        let path = "/tmp/cloudmount-bounds-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        let isOver = Flag()
        let server = try ControlServer(path: path, patience: .seconds(3600)) { request, _ in
            if request.command == .status {
                return ControlAnswer(ok: false, error: String(repeating: "x", count: UnixSocket.maxLine))
            }
            if request.targets?.isEmpty == false { return ControlAnswer(remarks: ["\(request.targets?.count ?? 0)"]) }
            while !isOver.isSet, !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) }
            return ControlAnswer()
        }
        func ask(_ request: ControlRequest) async throws -> ControlAnswer {
            try await BlockingPool.shared.run { () throws(VFSError) in try ControlClient(socket: path).ask(request) }
        }
        let words = try (0..<3000).map { try place("/mount/folder/file-\($0)", "0:71", "folder/file-\($0)") }
        #expect(try await ask(ControlRequest(.sync, targets: words)).remarks == ["3000"])
        let many = ControlRequest(.sync, targets: (0..<10).flatMap { _ in words })
        await #expect(throws: VFSError.self) { try await ask(many) }
        do { _ = try await ask(many) } catch let error as VFSError { #expect(error.code == .tooLarge) }
        #expect(try await ask(ControlRequest(.status)).error?.hasPrefix("the answer is too long") == true)
        var waiting: [Descriptor] = []
        for _ in 0..<ControlServer.mostWaiting {
            let client = try UnixSocket.connect(to: path)
            _ = UnixSocket.write(try ControlJSON.line(ControlRequest(.sync)), to: client)
            waiting.append(client)
        }
        var refused = try await ask(ControlRequest(.sync, targets: [words[0]]))
        // Those before may not have been heard yet.
        while refused.ok { refused = try await ask(ControlRequest(.sync, targets: [words[0]])) }
        #expect(refused.error == "64 others wait for the same already")
        #expect(try await ask(ControlRequest(.recover, targets: [words[0]])).ok)
        isOver.set()
        while !refused.ok { refused = try await ask(ControlRequest(.sync, targets: [words[0]])) }
        withExtendedLifetime(waiting) {}
        await server.close()
    }

    @Test("What is not stored is named by mount, and the answer is no success")
    func unstored() async throws {
        try await withSupervisor { supervisor, a, b in
            b.state.withLock { $0.lost = [dirty("d/f", 7, "gone")] }
            let answer = await SyncDesk(supervisor: supervisor).run(ControlRequest(.sync)) { _ in }
            #expect(!answer.ok)
            #expect(
                answer.sync?.unstored == [
                    .init(mount: "b", path: "d/f", bytes: 7, error: "gone", stagedPath: "/c/d/f", isFinal: false)
                ])
            b.state.withLock { $0.lost = (0..<1500).map { dirty("f\($0)", 1) } }
            let long = await SyncDesk(supervisor: supervisor).run(ControlRequest(.sync)) { _ in }
            #expect(long.sync?.unstored.count == 1000 && long.sync?.unnamed == 500)
        }
    }

    @Test("A mount that is not up is told as that, not taken for one that holds nothing")
    func down() async throws {
        let error = VFSError(.bucketNotFound, "no bucket")
        engine.fail("b", with: Array(repeating: error, count: 1000))
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        let supervisor = Supervisor(
            mounts: try Fixtures.configuration(["a", "b"]).mounts, engine: engine, logger: logger, announce: { _ in },
            pause: { _ in while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) } })
        async let endings = supervisor.run()
        _ = await engine.mount("a")
        while await supervisor.phases.contains(where: { if case .starting = $0.phase { true } else { false } }) {
            await Task.yield()
        }
        for targets in [[], [try ControlTarget("b")]] {
            let answer = await SyncDesk(supervisor: supervisor).run(ControlRequest(.sync, targets: targets)) { _ in }
            #expect(!answer.ok && answer.error == "'b' is not mounted: no bucket (bucketNotFound)")
        }
        await supervisor.stop()
        _ = await endings
    }

    @Test("When the time is over the trying ends and what waits is named")
    func timeout() async throws {
        try await withSupervisor { supervisor, a, b in
            a.state.withLock {
                $0.dirty = [dirty("f", 5, "not yet")]
                $0.syncHangs = true
            }
            let desk = SyncDesk(supervisor: supervisor, interval: .milliseconds(1))
            let answer = await desk.run(ControlRequest(.sync, limit: .seconds(3))) { _ in }
            #expect(!answer.ok && answer.sync?.isTimedOut == true)
            #expect(answer.sync?.unstored.map(\.path) == ["f"] && answer.sync?.files == 1)
            while a.steps.last != "cancelled" { try await Task.sleep(for: .milliseconds(1)) }
            #expect(b.steps == ["sync '' patiently"])
        }
    }

    @Test(
        "Whatever number a request has for its time, it is one that a clock has room for",
        arguments: [
            ("1e21", 1e9), ("1e300", 1e9), ("-1e300", 0), ("-1e21", 0), ("9223372036854775807", 1e9), ("2.5", 2.5),
        ])
    func numbers(_ text: String, _ seconds: Double) async throws {
        let line = Array(#"{"command":"sync","seconds":\#(text)}"#.utf8)
        let request = try ControlJSON.decode(ControlRequest.self, from: line)
        #expect(request.limit == .seconds(seconds))
        try await withSupervisor { supervisor, _, _ in
            #expect(await SyncDesk(supervisor: supervisor).run(request) { _ in }.sync != nil)
        }
    }

    @Test("Progress comes over the socket before the answer; when the client goes the waiting ends")
    func socket() async throws {
        let path = "/tmp/cloudmount-sync-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try await withSupervisor { supervisor, a, _ in
            let desk = SyncDesk(supervisor: supervisor, interval: .milliseconds(1))
            let server = try ControlServer(path: path, patience: .seconds(3600)) { await desk.run($0, $1) }
            a.state.withLock { $0.syncHangs = true }
            let told = Atomic(0)
            let answer = try await BlockingPool.shared.run { () throws(VFSError) in
                try ControlClient(socket: path).ask(ControlRequest(.sync)) { progress in
                    #expect(progress.sync != nil && progress.isProgress == true)
                    // The third word of it lets it end.
                    if told.add(1, ordering: .relaxed).newValue == 3 { a.state.withLock { $0.syncHangs = false } }
                }
            }
            #expect(answer.ok && answer.isProgress == nil && told.load(ordering: .relaxed) >= 3)
            a.state.withLock { $0.syncHangs = true }
            let client = try UnixSocket.connect(to: path)
            _ = UnixSocket.write(try ControlJSON.line(ControlRequest(.sync)), to: client)
            _ = await BlockingPool.shared.run { UnixSocket.readLine(client) }
            shutdown(client.raw, Int32(SHUT_RDWR))
            while a.steps.last != "cancelled" { try await Task.sleep(for: .milliseconds(1)) }
            // Who asks and does not read is told no more than there is room for, and keeps nobody waiting.
            let deaf = try UnixSocket.connect(to: path)
            _ = UnixSocket.write(try ControlJSON.line(ControlRequest(.sync)), to: deaf)
            a.state.withLock { $0.syncHangs = false }
            let next = try await BlockingPool.shared.run { () throws(VFSError) in
                try ControlClient(socket: path).ask(ControlRequest(.sync))
            }
            #expect(next.ok)
            withExtendedLifetime(deaf) {}
            await server.close()
        }
    }
}
