import CloudMountFilesystem
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import Logging
import Synchronization
import Testing

@testable import CloudMountConfig
@testable import CloudMountDaemon

@Suite("A reload", .timeLimit(.minutes(15)))
struct ReloadTests {
    let engine = FakeEngine()
    let lines = Lines()

    private func supervisor(_ mounts: [Configuration.Mount]) -> Supervisor {
        // Pauses are short and real: what waits for others must let them on.
        Supervisor(
            mounts: mounts, engine: engine, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            announce: lines.add,
            limits: .init(end: .milliseconds(50), reload: .milliseconds(50), stall: .milliseconds(50)),
            pause: { _ in try? await Task.sleep(for: .milliseconds(2)) })
    }

    private func mounts(_ text: String) throws -> [Configuration.Mount] {
        try Fixtures.parse("mounts:\n" + text.split(separator: "\n").map { "  - {provider: fake, \($0)}\n" }.joined())
            .mounts
    }

    /// Mounts `old`, runs `body`, and stops.
    private func running(
        _ old: String, _ body: (Supervisor) async throws -> Void
    ) async throws -> [String: MountLife.Ending] {
        let mounts = try mounts(old)
        let supervisor = supervisor(mounts)
        async let endings = supervisor.run()
        for mount in mounts { _ = await engine.mount(mount.name) }
        while await !supervisor.phases.allSatisfy({ if case .mounted = $0.phase { true } else { false } }) {
            await Task.yield()
        }
        do { try await body(supervisor) } catch { Issue.record(error) }
        await supervisor.stop()
        return await endings
    }

    private func outcomes(_ report: [ReloadReport.Mount]) -> [String] {
        report.map { "\($0.name) \($0.outcome.rawValue) \($0.settings.joined(separator: ","))" }
    }

    @Test("adds, removes, keeps and changes in one go, and touches no other mount")
    func oneGo() async throws {
        let old = """
            name: keep, path: /mnt/k, bucket: b
            name: change, path: /mnt/c, bucket: b
            name: gone, path: /mnt/g, bucket: b
            """
        _ = try await running(old) { supervisor in
            let gone = await engine.mount("gone")
            let report = await supervisor.reload(
                try mounts(
                    """
                    name: new, path: /mnt/g, bucket: b
                    name: change, path: /mnt/c, bucket: b, cache: {prefetch: 7MiB}
                    name: keep, path: /mnt/k, bucket: b
                    """), force: false)
            #expect(
                outcomes(report) == ["new added ", "change changed cache.prefetch", "keep kept ", "gone removed "])
            #expect(gone.steps == ["drain", "unmount", "drain", "clean up"])
            #expect(await engine.mount("change").steps == ["apply \(7 << 20)"])
            #expect(await engine.mount("keep").steps == [])
            #expect(await supervisor.phases.map(\.mount.name) == ["new", "change", "keep"])
            #expect(await supervisor.phases.allSatisfy { if case .mounted = $0.phase { true } else { false } })
        }
    }

    @Test("remounts what is idle, with all that was stored first")
    func remount() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b") { supervisor in
            let old = await engine.mount("a")
            let report = await supervisor.reload(try mounts("name: a, path: /mnt/b, bucket: b"), force: false)
            #expect(outcomes(report) == ["a remounted path"])
            #expect(old.steps == ["drain", "unmount", "drain", "clean up"])
            #expect(await supervisor.phases.map(\.mount.path) == ["/mnt/b"])
            #expect(engine.attempts("a") == 2)
        }
    }

    @Test("what is in use stays, with the policy changed all the same, and goes when it is not in use any more")
    func pending() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b\nname: z, path: /mnt/z, bucket: b") { supervisor in
            let old = await engine.mount("a")
            old.state.withLock { $0.busy = true }
            let new = try mounts("name: a, path: /mnt/b, bucket: b, cache: {prefetch: 7MiB}")
            let report = await supervisor.reload(new, force: false)
            #expect(outcomes(report) == ["a pending path,cache.prefetch", "z removed "])
            #expect(report[0].reason == "a program works in it")
            #expect(await supervisor.phases.first?.pending == "to be remounted: a program works in it")
            #expect(old.steps.contains("apply \(7 << 20)"))
            #expect(engine.attempts("a") == 1)
            // Again the same: still pending, nothing twice.
            #expect(outcomes(await supervisor.reload(new, force: false)) == ["a pending path"])
            old.state.withLock { $0.busy = false }
            while await supervisor.phases.first?.mount.path != "/mnt/b" { try await Task.sleep(for: .milliseconds(1)) }
            #expect(await supervisor.phases.map(\.pending) == [nil])
        }
    }

    @Test("open files and bytes that are not stored keep a mount; a file put back as it was takes the wish back")
    func inUse() async throws {
        let was = "name: a, path: /mnt/a, bucket: b"
        _ = try await running(was) { supervisor in
            let old = await engine.mount("a")
            old.state.withLock { $0.statistics.openFiles = 2 }
            let new = try mounts("name: a, path: /mnt/b, bucket: b")
            #expect(await supervisor.reload(new, force: false).first?.reason == "2 files are open")
            #expect(!old.steps.contains("unmount"))
            old.state.withLock { ($0.statistics.openFiles, $0.statistics.dirtyFiles) = (0, 1) }
            #expect(await supervisor.reload(new, force: false).first?.reason == "1 file is not stored yet")
            #expect(!old.steps.contains("unmount"))
            #expect(outcomes(await supervisor.reload(try mounts(was), force: false)) == ["a kept "])
            old.state.withLock { $0.statistics.dirtyFiles = 0 }
            try await Task.sleep(for: .milliseconds(50))
            #expect(!old.steps.contains("unmount"))
        }
    }

    @Test("by force the old mount is detached and the new one is there at once; what the old one leaves is told")
    func force() async throws {
        let endings = try await running("name: a, path: /mnt/a, bucket: b") { supervisor in
            let old = await engine.mount("a")
            old.state.withLock {
                ($0.busy, $0.staysOpen) = (true, true)
                $0.statistics.openFiles = 1
                $0.statistics.failedCommits = [
                    .init(path: "f", stagedPath: "/c/f", bytes: 1, error: "e", since: .init(seconds: 0))
                ]
            }
            let report = await supervisor.reload(
                try mounts("name: a, path: /mnt/a, bucket: other"), force: true)
            #expect(outcomes(report) == ["a remounted bucket"])
            #expect(old.steps.last == "unmount lazily")
            #expect(engine.attempts("a") == 2)
            #expect(await supervisor.phases.count == 2)
            old.close()
            while await supervisor.phases.count == 2 { await Task.yield() }
        }
        #expect(endings["a"]?.stagedPaths == ["/c/f"])
    }

    @Test("what a bind mount keeps alive goes on beside its successor, or by itself; the reload ends, and tells")
    func elsewhere() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b\nname: z, path: /mnt/z, bucket: b") { supervisor in
            let olds = (await engine.mount("a"), await engine.mount("z"))
            for old in [olds.0, olds.1] {
                old.state.withLock { ($0.staysOpen, $0.uses.elsewhere) = (true, ["/bound"]) }
            }
            let new = try mounts("name: a, path: /mnt/b, bucket: b")
            let report = await supervisor.reload(new, force: false)
            #expect(outcomes(report) == ["a remounted path", "z removed "])
            let held = "unmounted here and still in use elsewhere: /bound; it ends with that"
            #expect(report.map(\.reason) == Array(repeating: "the old mount is " + held, count: 2))
            let phases = await supervisor.phases
            #expect(phases.map(\.mount.path) == ["/mnt/a", "/mnt/b", "/mnt/z"])
            #expect(phases.map(\.pending) == [held, nil, held])
            // The next reload does not meet it again.
            #expect(outcomes(await supervisor.reload(new, force: false)) == ["a kept "])
            #expect(outcomes(await supervisor.reload(new, force: true)) == ["a kept "])
            for old in [olds.0, olds.1] { old.close() }
            while await supervisor.phases.count != 1 { try await Task.sleep(for: .milliseconds(1)) }
        }
    }

    @Test("what takes long to be stored is pending, and done when it is; something mounted inside is told")
    func slowDrain() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b") { supervisor in
            let old = await engine.mount("a")
            old.state.withLock { ($0.drainHangs, $0.busy, $0.uses.inside) = (true, true, ["/mnt/a/x"]) }
            let new = try mounts("name: a, path: /mnt/b, bucket: b")
            let report = await supervisor.reload(new, force: false)
            #expect(report[0].reason == "what it holds is still being stored")
            #expect(await supervisor.reload(new, force: false)[0].reason == report[0].reason)
            // One drain for both.
            #expect(old.steps == ["drain"])
            old.state.withLock { $0.drainHangs = false }
            let inside = "something is mounted inside it: /mnt/a/x"
            while await supervisor.phases.first?.pending != "to be remounted: " + inside {
                try await Task.sleep(for: .milliseconds(1))
            }
            old.state.withLock { $0.busy = false }
            while await supervisor.phases.first?.mount.path != "/mnt/b" { try await Task.sleep(for: .milliseconds(1)) }
        }
    }

    @Test("by force nothing that is being stored is waited for beyond the limit")
    func forcedDrain() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b") { supervisor in
            let old = await engine.mount("a")
            old.state.withLock { $0.drainHangs = true }
            let report = await supervisor.reload(try mounts("name: a, path: /mnt/b, bucket: b"), force: true)
            #expect(outcomes(report) == ["a remounted path"])
            old.state.withLock { $0.drainHangs = false }
        }
    }

    @Test("what was unmounted by hand and is kept alive elsewhere is mounted again beside it")
    func mountedAgain() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b") { supervisor in
            let old = await engine.mount("a")
            old.state.withLock { $0.staysOpen = true }
            _ = try await supervisor.unmount("a", lazy: false)
            // It stands in the file, and its place is free: it is mounted again beside the one that is kept alive.
            let report = await supervisor.reload(try mounts("name: a, path: /mnt/a, bucket: b"), force: false)
            #expect(outcomes(report) == ["a added "])
            #expect(await supervisor.phases.count == 2)
            old.close()
        }
    }

    @Test("a mount that somebody unmounted and that still stores what it holds does not keep its successor waiting")
    func closedAndStoring() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b") { supervisor in
            let old = await engine.mount("a")
            old.state.withLock { ($0.drainHangs, $0.callsUnderWay) = (true, 1) }
            old.close()
            while old.steps.isEmpty { await Task.yield() }
            let report = await supervisor.reload(try mounts("name: a, path: /mnt/a, bucket: b"), force: false)
            #expect(outcomes(report) == ["a added "])
            #expect(report[0].reason == "the old mount still stores what it holds")
            #expect(engine.attempts("a") == 2)
            old.state.withLock { ($0.drainHangs, $0.callsUnderWay) = (false, 0) }
            while await supervisor.phases.count != 1 { try await Task.sleep(for: .milliseconds(1)) }
        }
    }

    @Test("what somebody else unmounted and a bind mount keeps alive is mounted again beside it")
    func unmountedOutside() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b") { supervisor in
            let old = await engine.mount("a")
            old.state.withLock { ($0.isInPlace, $0.staysOpen, $0.uses.elsewhere) = (false, true, ["/bound"]) }
            let report = await supervisor.reload(try mounts("name: a, path: /mnt/a, bucket: b"), force: false)
            #expect(outcomes(report) == ["a added "])
            #expect(await supervisor.phases.map { $0.pending?.contains("/bound") } == [true, nil])
            old.close()
        }
    }

    @Test("new credentials take over while mounted; refused ones leave the old in use")
    func rotation() async throws {
        func mount(_ key: String) throws -> [Configuration.Mount] {
            try mounts("name: a, path: /mnt/a, bucket: b, credentials: {key: \(key)}")
        }
        _ = try await running("name: a, path: /mnt/a, bucket: b, credentials: {key: one}") { supervisor in
            let running = await engine.mount("a")
            #expect(outcomes(await supervisor.reload(try mount("two"), force: false)) == ["a changed credentials"])
            #expect(running.steps == ["rotate"])
            running.state.withLock { $0.refusal = VFSError(.credentialsInvalid, "no such key") }
            let refused = await supervisor.reload(try mount("three"), force: false)
            #expect(outcomes(refused) == ["a failed credentials"])
            #expect(refused[0].reason == "the credentials in use stay: no such key (credentialsInvalid)")
            // They are still wanted.
            running.state.withLock { $0.refusal = nil }
            #expect(outcomes(await supervisor.reload(try mount("three"), force: false)) == ["a changed credentials"])
            #expect(outcomes(await supervisor.reload(try mount("three"), force: false)) == ["a kept "])
            running.state.withLock { $0.rotates = false }
            #expect(outcomes(await supervisor.reload(try mount("four"), force: false)) == ["a remounted credentials"])
        }
    }

    @Test("a mount that failed starts again at once with what was corrected")
    func corrected() async throws {
        let wrong = try mounts("name: a, path: /mnt/a, bucket: wrong\nname: b, path: /mnt/b, bucket: b")
        let supervisor = Supervisor(
            mounts: wrong, engine: engine, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            announce: lines.add,
            pause: { duration in
                // Its pauses last until they are interrupted.
                let isLong = duration >= .seconds(1)
                repeat { try? await Task.sleep(for: .milliseconds(1)) } while isLong && !Task.isCancelled
            })
        engine.fail("a", with: [VFSError(.bucketNotFound, "no")])
        async let endings = supervisor.run()
        while await !supervisor.phases.contains(where: { if case .failed = $0.phase { true } else { false } }) {
            await Task.yield()
        }
        let report = await supervisor.reload(
            try mounts("name: a, path: /mnt/a, bucket: right\nname: b, path: /mnt/b, bucket: b"), force: false)
        #expect(outcomes(report) == ["a changed bucket", "b kept "])
        #expect(await engine.mount("a").steps == [])
        #expect(engine.attempts("a") == 2)
        await supervisor.stop()
        _ = await endings
    }

    @Test("a mount that was unmounted by hand is mounted again; one taken out before it came up never comes")
    func byHand() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b\nname: b, path: /mnt/b, bucket: b") { supervisor in
            _ = try await supervisor.unmount("a", lazy: false)
            engine.hang("c")
            let both = "name: a, path: /mnt/a, bucket: b\nname: b, path: /mnt/b, bucket: b"
            async let first = supervisor.reload(try mounts(both + "\nname: c, path: /mnt/c, bucket: b"), force: false)
            #expect(outcomes(try await first).prefix(2) == ["a added ", "b kept "])
            #expect(engine.attempts("a") == 2)
            #expect(
                outcomes(await supervisor.reload(try mounts(both), force: false)) == [
                    "a kept ", "b kept ", "c removed ",
                ])
            #expect(await supervisor.phases.count == 2)
        }
    }

    @Test("two mounts change places")
    func swap() async throws {
        _ = try await running("name: a, path: /mnt/a, bucket: b\nname: b, path: /mnt/b, bucket: b") { supervisor in
            let report = await supervisor.reload(
                try mounts("name: a, path: /mnt/b, bucket: b\nname: b, path: /mnt/a, bucket: b"), force: false)
            #expect(outcomes(report) == ["a remounted path", "b remounted path"])
            #expect(await supervisor.phases.map(\.mount.path) == ["/mnt/b", "/mnt/a"])
        }
    }

    // MARK: The file

    /// A folder for a staging area, removed with it.
    private func withFolder(_ body: (String) async throws -> Void) async throws {
        var template = Array("/tmp/cloudmount-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw VFSError(.io, "no temporary folder") }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            unlink(folder + "/lock")
            rmdir(folder + "/staged")
            rmdir(folder)
        }
        try await body(folder)
    }

    private func withReload(
        _ body: (ConfigurationReload, FileText, BufferPool, LogOutput) async throws -> Void
    ) async throws {
        try await withFolder { folder in
            let text = FileText("mounts: [{name: a, path: /mnt/a, provider: fake, bucket: b}]")
            let configuration = try Fixtures.parse(text.now)
            let supervisor = supervisor(configuration.mounts)
            async let endings = supervisor.run()
            _ = await engine.mount("a")
            let memory = BufferPool(limit: configuration.memory)
            let output = LogOutput(level: .warning, format: .text)
            let lines = lines
            let reload = ConfigurationReload(
                configuration, load: { () throws(ConfigurationError) in try Fixtures.parse(text.now) },
                supervisor: supervisor, staging: try StagingArea(directory: folder, limit: 1 << 30, keepFree: 0),
                memory: memory, output: output,
                logger: Logger(label: "test") { _ in CollectingLog(lines: lines) })
            do { try await body(reload, text, memory, output) } catch { Issue.record(error) }
            await supervisor.stop()
            _ = await endings
        }
    }

    @Test("a wrong file changes nothing, and every fault is told with its place; a right one after it holds")
    func wrong() async throws {
        try await withReload { reload, text, memory, output in
            text.set("memory: 99\nlog: {level: loud}\nmounts: [{name: a, path: x, provider: fake, bucket: c}]")
            do {
                _ = try await reload.run()
                Issue.record("a wrong file was taken")
            } catch ConfigurationReload.Refusal.wrong(let error) {
                let places = error.problems.map { "\($0.file):\($0.line)" }
                #expect(places == ["m.yaml:2", "m.yaml:3", "m.yaml:4"])
            }
            #expect(memory.limit == 144 << 20)
            #expect(await engine.mount("a").steps == [])
            await reload.runBySignal()
            #expect(lines.all.contains { $0.hasPrefix("m.yaml:4:") })

            text.set(
                "memory: 99MiB\nlog: {level: debug, format: json}\ncontrol: {socket: /other}\n"
                    + "mounts: [{name: a, path: /mnt/a, provider: fake, bucket: b}]")
            let would = try await reload.run(dryRun: true)
            #expect(memory.limit == 144 << 20)
            var report = try await reload.run()
            #expect(report.changed == would.changed && report.mounts == would.mounts)
            #expect(report.changed == ["memory", "log.level", "log.format"])
            #expect(report.needRestart == ["control.socket"])
            #expect(memory.limit == 99 << 20)
            #expect(output.level == .debug && output.format == .json)
            report = try await reload.run()
            #expect(report.changed.isEmpty)
            // Until it is started anew.
            #expect(report.needRestart == ["control.socket"])
        }
    }

    @Test("a file without any mount that the daemon was started for changes nothing")
    func empty() async throws {
        var configuration = try Fixtures.configuration(["a"])
        let supervisor = supervisor(configuration.mounts)
        configuration.mounts = []
        let nothing = configuration
        async let endings = supervisor.run()
        let mount = await engine.mount("a")
        try await withFolder { folder in
            let reload = ConfigurationReload(
                configuration, load: { nothing }, supervisor: supervisor,
                staging: try StagingArea(directory: folder, limit: 1 << 30, keepFree: 0),
                memory: BufferPool(limit: 1 << 20), output: LogOutput(level: .warning, format: .text),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            do {
                _ = try await reload.run()
                Issue.record("it was taken")
            } catch ConfigurationReload.Refusal.empty {}
        }
        #expect(mount.steps == [])
        await supervisor.stop()
        _ = await endings
    }

    @Test("of two reloads at once the second is refused; a signal waits its turn")
    func oneAtATime() async throws {
        try await withReload { reload, text, memory, _ in
            engine.hang("b")
            text.set(
                "mounts: [{name: a, path: /mnt/a, provider: fake, bucket: b}, "
                    + "{name: b, path: /mnt/b, provider: fake, bucket: b}]")
            async let first = reload.run()
            while engine.attempts("b") == 0 { await Task.yield() }
            do {
                _ = try await reload.run()
                Issue.record("two at once")
            } catch ConfigurationReload.Refusal.busy {}
            text.set("memory: 99MiB\nmounts: [{name: a, path: /mnt/a, provider: fake, bucket: b}]")
            async let signal: Void = reload.runBySignal()
            #expect(try await first.mounts.count == 2)
            await signal
            #expect(memory.limit == 99 << 20)
        }
    }

    @Test("a report is text for people and a document for programs")
    func report() throws {
        let report = ReloadReport(
            mounts: [
                .init(name: "a", outcome: .kept), .init(name: "b", outcome: .changed, settings: ["cache.prefetch"]),
                .init(name: "c", outcome: .pending, settings: ["path"], reason: "2 files are open"),
            ], changed: ["memory"], needRestart: ["control.socket"])
        #expect(
            report.text == """
                a: kept
                b: changed in place (cache.prefetch)
                c: pending (path): 2 files are open
                changed: memory
                from the next start: control.socket

                """)
        let line = try ControlJSON.line(report)
        #expect(try ControlJSON.decode(ReloadReport.self, from: line) == report)
        #expect(!report.hasFailed)
    }
}

struct CollectingLog: LogHandler {
    let lines: Lines
    var logLevel = Logger.Level.trace
    var metadata: Logger.Metadata = [:]
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }
    init(lines: Lines) { self.lines = lines }
    func log(event: LogEvent) { lines.add(event.message.description) }
}

/// What stands in the file.
private final class FileText: Sendable {
    private let text: Mutex<String>
    init(_ text: String) { self.text = Mutex(text) }
    var now: String { text.withLock { $0 } }
    func set(_ new: String) { text.withLock { $0 = new } }
}
