import CloudMountFilesystem
import CloudMountVFS
import Logging
import Synchronization
import Testing

@testable import CloudMountConfig
@testable import CloudMountDaemon

@Suite("Descriptors") struct MountPlacesTests {
    @Test("mounts take no more than their part of a low limit, and what they are told says how to raise it")
    func places() throws {
        let places = MountPlaces(descriptors: 60)
        var taken = try (0..<10).map { _ in try places.take() }
        let error = #expect(throws: VFSError.self) { try places.take() }
        #expect(error?.message.contains("60 files open, enough for 10 mounts") == true)
        taken.removeLast()
        taken.append(try places.take())
        #expect(throws: VFSError.self) { try places.take() }
        withExtendedLifetime(taken) {}
    }
}

@Suite("The supervisor", .timeLimit(.minutes(15)))
struct SupervisorTests {
    let engine = FakeEngine()
    let lines = Lines()
    let pauses = Lines()

    private func supervisor(
        _ names: String..., pausing: Bool = false, limits: MountLife.Limits = .init()
    ) throws -> Supervisor {
        let mounts = try Fixtures.configuration(names).mounts
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        return Supervisor(
            mounts: mounts, engine: engine, logger: logger, announce: lines.add, limits: limits,
            pause: { [pauses] duration in
                pauses.add(Units.text(duration))
                if pausing { while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) } }
            })
    }

    private func untilMounted(_ supervisor: Supervisor) async {
        while true {
            let isMounted = await supervisor.phases.allSatisfy { if case .mounted = $0.phase { true } else { false } }
            if isMounted { return }
            await Task.yield()
        }
    }

    @Test("a mount that fails is tried again with growing pauses while the other serves")
    func retry() async throws {
        let error = VFSError(.unavailable, "no")
        engine.fail("a", with: [error, error, error])
        let supervisor = try supervisor("a", "b")
        async let endings = supervisor.run()
        _ = await engine.mount("b")
        _ = await engine.mount("a")
        #expect(engine.attempts("a") == 4)
        #expect(engine.attempts("b") == 1)
        #expect(pauses.all == ["1s", "2s", "4s"])
        await supervisor.stop()
        #expect(await endings.values.allSatisfy { $0.isClean })
    }

    @Test("what is unmounted from outside ends; with the last one everything ends")
    func outside() async throws {
        let supervisor = try supervisor("a", "b")
        async let endings = supervisor.run()
        let a = await engine.mount("a")
        let b = await engine.mount("b")
        a.close()
        b.state.withLock {
            $0.statistics.failedCommits = [
                .init(path: "f", stagedPath: "/c/f", bytes: 1, error: "e", since: .init(seconds: 0))
            ]
        }
        b.close()
        let found = await endings
        #expect(found["a"]?.isClean == true)
        #expect(found["b"]?.stagedPaths == ["/c/f"])
        #expect(a.steps == ["drain", "clean up"])
        #expect(lines.all.contains("a: fake bucket-a is mounted at /mnt/a"))
        #expect(lines.all.contains("a: unmounted"))
    }

    @Test("a stop drains before it unmounts, and ends")
    func stop() async throws {
        let supervisor = try supervisor("a")
        async let endings = supervisor.run()
        let mount = await engine.mount("a")
        await supervisor.stop()
        await supervisor.stop()
        #expect(await endings.count == 1)
        #expect(mount.steps.prefix(2) == ["drain", "unmount"])
        #expect(mount.steps.filter { $0 == "clean up" }.count == 1)
    }

    @Test("a stop interrupts a pause and an attempt")
    func stopEarly() async throws {
        engine.fail("a", with: [VFSError(.unavailable, "no")])
        engine.hang("b")
        let supervisor = try supervisor("a", "b", pausing: true)
        async let endings = supervisor.run()
        while pauses.all.isEmpty || engine.attempts("b") == 0 { await Task.yield() }
        await supervisor.stop()
        #expect(await endings.count == 2)
        #expect(engine.attempts("a") == 1)
    }

    @Test("a mount in use is refused on request and goes on; lazily it goes")
    func busy() async throws {
        let supervisor = try supervisor("a")
        async let endings = supervisor.run()
        let mount = await engine.mount("a")
        await untilMounted(supervisor)
        mount.state.withLock { $0.busy = true }
        await #expect(throws: VFSError.self) { try await supervisor.unmount("a", lazy: false) }
        #expect(mount.steps == ["drain", "unmount"])
        guard case .mounted? = await supervisor.phases.first?.phase else {
            Issue.record("the mount does not go on")
            return
        }
        _ = try await supervisor.unmount("/mnt/a", lazy: true)
        #expect(await endings.count == 1)
    }

    @Test("a stop does not wait for ever for what is in use")
    func busyStop() async throws {
        let supervisor = try supervisor("a", "b")
        async let endings = supervisor.run()
        for name in ["a", "b"] { await engine.mount(name).state.withLock { ($0.busy, $0.staysOpen) = (true, true) } }
        await untilMounted(supervisor)
        // One is detached already and kept alive by what is open.
        _ = try await supervisor.unmount("b", lazy: true)
        await supervisor.stop()
        #expect(await endings.count == 2)
        #expect(await engine.mount("a").steps.contains("unmount lazily"))
    }

    @Test("an unmount of what is mounted elsewhere too ends, tells who uses it, and leaves it to its users")
    func elsewhere() async throws {
        let supervisor = try supervisor("a", limits: .init(end: .milliseconds(20)))
        async let endings = supervisor.run()
        let mount = await engine.mount("a")
        await untilMounted(supervisor)
        mount.state.withLock { ($0.staysOpen, $0.uses.elsewhere) = (true, ["/srv/bound"]) }
        let remarks = try await supervisor.unmount("a", lazy: false)
        #expect(remarks == ["a: unmounted here and still in use elsewhere: /srv/bound; it ends with that"])
        #expect(await supervisor.phases.map(\.pending) == [String(remarks[0].dropFirst(3))])
        // Again: nothing is forced upon its users.
        #expect(try await supervisor.unmount("a", lazy: false) == remarks)
        #expect(!mount.steps.contains("unmount lazily"))
        mount.close()
        #expect(await endings.count == 1)
    }

    @Test("what is mounted inside is told as the reason for a refusal")
    func inside() async throws {
        let supervisor = try supervisor("a")
        async let endings = supervisor.run()
        let mount = await engine.mount("a")
        await untilMounted(supervisor)
        mount.state.withLock { ($0.busy, $0.uses.inside) = (true, ["/mnt/a/x", "/mnt/a/y"]) }
        let text = "a is in use: something is mounted inside it: /mnt/a/x, /mnt/a/y (--lazy detaches it)"
        await #expect(throws: VFSError(.busy, text)) { try await supervisor.unmount("a", lazy: false) }
        mount.state.withLock { $0.busy = false }
        await supervisor.stop()
        #expect(await endings.count == 1)
    }

    @Test("a drain in which nothing happens any more is not waited for; one that goes on is")
    func stalled() async throws {
        let supervisor = try supervisor("a", limits: .init(end: .milliseconds(20), stall: .milliseconds(20)))
        async let endings = supervisor.run()
        let mount = await engine.mount("a")
        await untilMounted(supervisor)
        mount.state.withLock { ($0.drainHangs, $0.callsUnderWay) = (true, 1) }
        async let unmounted = supervisor.unmount("a", lazy: false)
        while mount.steps.isEmpty { await Task.yield() }
        // A call is under way: it has a deadline of its own.
        try await Task.sleep(for: .milliseconds(100))
        #expect(mount.steps == ["drain"])
        mount.state.withLock { $0.callsUnderWay = 0 }
        _ = try await unmounted
        #expect(mount.steps.contains("unmount"))
        #expect(await endings.count == 1)
        mount.state.withLock { $0.drainHangs = false }
    }

    @Test("an attempt that does not heed its cancellation does not hold up a stop, and what it brings is taken down")
    func deafAttempt() async throws {
        engine.hang("a", deaf: true)
        let supervisor = try supervisor("a", limits: .init(end: .milliseconds(20)))
        async let endings = supervisor.run()
        while engine.attempts("a") == 0 { await Task.yield() }
        await supervisor.stop()
        #expect(await endings.count == 1)
        engine.hang("a", deaf: false)
        let mount = await engine.mount("a")
        while mount.steps != ["unmount lazily", "clean up"] { try await Task.sleep(for: .milliseconds(1)) }
    }

    @Test("a remount read-only stores first and is told to the mount; back it goes unless the file forbids it")
    func readOnly() async throws {
        let mounts = try Fixtures.parse(
            "mounts: [{name: a, path: /mnt/a, provider: fake, bucket: b}, "
                + "{name: b, path: /mnt/b, provider: fake, bucket: b, read_only: true}]"
        ).mounts
        let supervisor = Supervisor(
            mounts: mounts, engine: engine, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            announce: lines.add)
        async let endings = supervisor.run()
        let mount = await engine.mount("a")
        await untilMounted(supervisor)
        #expect(try await supervisor.prepareRemount("/mnt/a", readOnly: true) == nil)
        try await supervisor.finishRemount("/mnt/a", readOnly: true)
        #expect(mount.steps == ["drain", "read-only"])
        let shown = await MountLooks().report(await supervisor.phases)
        #expect(shown.map(\.readOnly) == [true, true])
        #expect(shown[0].readOnlyReason == "mount -o remount,ro")
        #expect(try await supervisor.prepareRemount("/mnt/a", readOnly: false) == nil)
        try await supervisor.finishRemount("/mnt/a", readOnly: false)
        #expect(mount.steps.last == "read-write")
        let refusal = await #expect(throws: VFSError.self) {
            try await supervisor.prepareRemount("/mnt/b", readOnly: false)
        }
        #expect(
            refusal?.code == .readOnly && refusal?.message.hasPrefix("'b' is read-only by its configuration") == true)
        await #expect(throws: VFSError.self) { try await supervisor.prepareRemount("/mnt/c", readOnly: true) }
        mount.state.withLock { $0.readOnlyReason = "the key may not write" }
        await #expect(throws: VFSError(.readOnly, "the key may not write")) {
            try await supervisor.prepareRemount("/mnt/a", readOnly: false)
        }
        await supervisor.stop()
        #expect(await endings.count == 2)
    }

    @Test("giving up ends at once and tells what is left")
    func abandon() async throws {
        let supervisor = try supervisor("a")
        async let endings = supervisor.run()
        let mount = await engine.mount("a")
        mount.state.withLock {
            ($0.busy, $0.staysOpen) = (true, true)
            $0.statistics.dirtyFiles = 2
            $0.statistics.dirtyBytes = 10
        }
        // Wait until it serves: giving up earlier finds nothing.
        while await supervisor.dirty.files == 0 { await Task.yield() }
        await supervisor.abandon()
        let found = await endings
        #expect(found["a"]?.dirtyFiles == 2 && found["a"]?.dirtyBytes == 10)
        #expect(mount.steps.last == "unmount lazily")
    }

    @Test("an unmount of something unknown tells what there is")
    func unknown() async throws {
        let supervisor = try supervisor("a", "b")
        async let endings = supervisor.run()
        await #expect(throws: VFSError(.notFound, "there is no mount 'c'; there are a, b")) {
            _ = try await supervisor.unmount("c", lazy: false)
        }
        _ = await engine.mount("a")
        _ = await engine.mount("b")
        _ = try await supervisor.unmount(nil, lazy: false)
        #expect(await endings.count == 2)
    }

    @Test("pauses double from one second to a minute")
    func backOff() {
        var backOff = BackOff()
        let seconds = (0..<8).map { _ in backOff.pause().components.seconds }
        #expect(seconds == [1, 2, 4, 8, 16, 32, 60, 60])
    }
}
