import CloudMountFUSE
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Logging
import Synchronization
import Testing

@testable import CloudMountConfig
@testable import CloudMountDaemon

/// A socket as a service manager has one.
private struct ServiceListener {
    let address: String
    let descriptor: Descriptor

    /// - Parameter address: a path, or `@` and an abstract name.
    init(_ address: String) throws {
        self.address = address
        descriptor = Descriptor(owning: socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
        var bytes = Array(address.utf8)
        if address.hasPrefix("@") { bytes[0] = 0 }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        let raw = descriptor.raw
        let result = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(raw, $0, length) }
        }
        try #require(result == 0)
    }

    /// The next message that `isWanted`, for two minutes at most.
    func message(_ isWanted: @escaping @Sendable (String) -> Bool = { _ in true }) async -> String? {
        await BlockingPool.shared.run { [raw = descriptor.raw] in
            var time = timeval(tv_sec: 120, tv_usec: 0)
            setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
            var bytes = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = recv(raw, &bytes, bytes.count, 0)
                if count < 0 { return nil }
                let text = String(decoding: bytes[..<count], as: UTF8.self)
                if isWanted(text) { return text }
            }
        }
    }
}

@Suite("Words for the service manager", .timeLimit(.minutes(15)))
struct ServiceTests {
    private let lines = Lines()

    private func supervisor(_ engine: FakeEngine, _ names: [String]) throws -> Supervisor {
        Supervisor(
            mounts: try Fixtures.configuration(names).mounts, engine: engine,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, announce: { _ in },
            pause: { _ in while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) } })
    }

    private func watch(_ manager: ServiceListener, _ supervisor: Supervisor, watchdog: Int? = nil) -> Task<Void, Never>
    {
        var environment = ["NOTIFY_SOCKET": manager.address]
        environment["WATCHDOG_USEC"] = watchdog.map { "\($0)" }
        let notices = ServiceNotices(environment: environment)
        let logger = Logger(label: "test") { [lines] _ in CollectingLog(lines: lines) }
        let watch = ServiceWatch(notices, supervisor, logger: logger)
        return Task { await watch.run() }
    }

    @Test("ready is told when each mount came up or failed, not before; then the status says which failed")
    func ready() async throws {
        let manager = try ServiceListener("@cloudmount-test-\(getpid())-ready")
        let engine = FakeEngine()
        engine.fail("a", with: [VFSError(.unavailable, "gone")])
        engine.hang("b")
        let supervisor = try supervisor(engine, ["a", "b", "c"])
        let run = Task { await supervisor.run() }
        let watch = watch(manager, supervisor)
        let early = await manager.message { $0.contains("a: gone") && $0.contains("1 mount serves") }
        #expect(early == "STATUS=1 mount serves; 1 starting; a: gone (unavailable)")
        #expect(await !supervisor.serviceLook.areTried)
        await supervisor.stop()
        #expect(await manager.message { $0.hasPrefix("STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000") } != nil)
        _ = await run.value
        watch.cancel()

        let second = try self.supervisor(FakeEngine(), ["a"])
        let serving = Task { await second.run() }
        let other = self.watch(manager, second)
        #expect(await manager.message { $0 == "READY=1" } != nil)
        await second.stop()
        _ = await serving.value
        other.cancel()
    }

    @Test("the watchdog is told as long as threads move, and no more when those of one mount are stuck")
    func watchdog() async throws {
        let manager = try ServiceListener("@cloudmount-test-\(getpid())-dog")
        let engine = FakeEngine()
        let supervisor = try supervisor(engine, ["a"])
        let run = Task { await supervisor.run() }
        let mount = await engine.mount("a")
        let watch = watch(manager, supervisor, watchdog: 200_000)
        for _ in 0..<3 { #expect(await manager.message { $0 == "WATCHDOG=1" } != nil) }
        mount.state.withLock { $0.pulse = ServingPulse(isBusy: true, moves: 7) }
        func looks(_ count: Int) async throws {
            let start = lines.all.count
            while lines.all.count < start + count { try await Task.sleep(for: .milliseconds(5)) }
        }
        try await looks(1)
        #expect(lines.all.last == "the threads that serve a do not move; the watchdog is told nothing")
        while recv(manager.descriptor.raw, nil, 0, Int32(MSG_DONTWAIT)) >= 0 {}
        try await looks(3)
        #expect(recv(manager.descriptor.raw, nil, 0, Int32(MSG_DONTWAIT)) < 0)
        mount.state.withLock { $0.pulse.moves = 8 }
        #expect(await manager.message { $0 == "WATCHDOG=1" } != nil)
        watch.cancel()
        await supervisor.stop()
        _ = await run.value
    }

    @Test("a mount is stuck when it is busy with the same request for the patience, and not by being busy")
    func health() {
        var health = ThreadHealth(patience: .seconds(10))
        let start = ContinuousClock.now
        func look(_ seconds: Int, _ pulses: [(String, Bool, Int)]) -> [String] {
            health.look(
                at: start + .seconds(seconds),
                pulses.map { ($0.0, ServingPulse(isBusy: $0.1, moves: $0.2)) })
        }
        #expect(look(0, [("a", true, 1), ("b", true, 5), ("c", false, 2)]) == [])
        #expect(look(9, [("a", true, 1), ("b", true, 7), ("c", false, 2)]) == [])
        #expect(look(10, [("a", true, 1), ("b", true, 9), ("c", false, 2)]) == ["a"])
        #expect(look(15, [("a", false, 2), ("b", true, 9), ("c", true, 3)]) == [])
        #expect(look(20, [("a", true, 3), ("b", true, 9), ("c", true, 5)]) == ["b"])
    }

    @Test("an environment that is none, or is meant for another process, is silence")
    func environment() throws {
        #expect(!ServiceNotices().isHeard)
        for address in [
            "", "/", "@", "relative", "/nowhere/\(getpid())", "@none-\(getpid())", String(repeating: "/a", count: 90),
        ] {
            #expect(!ServiceNotices(environment: ["NOTIFY_SOCKET": address]).isHeard)
        }
        let manager = try ServiceListener("@cloudmount-test-\(getpid())-env")
        func watchdog(_ more: [String: String]) -> Duration? {
            ServiceNotices(environment: more.merging(["NOTIFY_SOCKET": manager.address]) { $1 }).watchdog
        }
        #expect(watchdog([:]) == nil)
        #expect(watchdog(["WATCHDOG_USEC": "30000000"]) == .seconds(30))
        #expect(watchdog(["WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"]) == nil)
        #expect(watchdog(["WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "\(getpid())"]) == .seconds(30))
        for wrong in ["0", "-5", "x", ""] { #expect(watchdog(["WATCHDOG_USEC": wrong]) == nil) }
    }

    @Test("a status that is longer than systemd takes is cut")
    func longStatus() async throws {
        let manager = try ServiceListener("@cloudmount-test-\(getpid())-long")
        let notices = ServiceNotices(environment: ["NOTIFY_SOCKET": manager.address])
        notices.status("1 mount serves; " + String(repeating: "a: gone; ", count: 5000))
        let text = try #require(await manager.message())
        #expect(text.hasPrefix("STATUS=1 mount serves; a: gone;") && text.utf8.count <= 1010)
    }

    @Test("a thread that stands in one wait for a disk is seen, and how long, and no other")
    func diskWaits() async throws {
        var waits = DiskWaits()
        let start = ContinuousClock.now
        func look(_ second: Int, _ threads: [(Int, Int)]) -> Duration {
            waits.look(at: start + .seconds(second), threads.map { DiskWaits.Thread(id: $0.0, sleeps: $0.1) })
        }
        #expect(look(0, []) == .zero)
        #expect(look(5, [(1, 7), (2, 3)]) == .zero)
        // The second one has slept again.
        #expect(look(15, [(1, 7), (2, 4)]) == .seconds(10))
        #expect(look(20, [(2, 4)]) == .seconds(5))
        #expect(look(25, []) == .zero)

        // A parent that waits for its child to begin cannot be interrupted: as one that waits for a disk.
        let path = "/tmp/cloudmount-wait-\(UInt32.random(in: 0 ... .max))"
        #expect(mkfifo(path, 0o600) == 0)
        defer { unlink(path) }
        let started = NamedThread.start("cm-test-wait") {
            var actions = posix_spawn_file_actions_t()
            posix_spawn_file_actions_init(&actions)
            posix_spawn_file_actions_addopen(&actions, 0, path, O_RDONLY, 0)
            var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
            var child = pid_t()
            if posix_spawnp(&child, "true", &actions, nil, &arguments, environ) == 0 { waitpid(child, nil, 0) }
            free(arguments[0])
            posix_spawn_file_actions_destroy(&actions)
        }
        #expect(started)
        var seen: Set<DiskWaits.Thread> = []
        while seen.isEmpty {
            let now = Set(DiskWaits.current())
            try await Task.sleep(for: .milliseconds(20))
            // The same sleep at both looks.
            seen = now.intersection(DiskWaits.current())
        }
        close(open(path, O_WRONLY))
    }

    @Test("a manager that goes away, or does not read, harms nothing")
    func silence() async throws {
        let path = "/tmp/cloudmount-test-\(getpid()).notify"
        defer { unlink(path) }
        var manager: ServiceListener? = try ServiceListener(path)
        let notices = ServiceNotices(environment: ["NOTIFY_SOCKET": path])
        notices.ready()
        #expect(await manager?.message() == "READY=1")
        notices.beginReload()
        #expect(await manager?.message()?.hasPrefix("RELOADING=1\nMONOTONIC_USEC=") == true)
        notices.endReload()
        #expect(await manager?.message() == "READY=1")
        manager = nil
        for _ in 0..<5 { notices.alive() }
        await notices.flush()
        notices.stopping()
        notices.beginReload()
        await notices.flush()
    }
}
