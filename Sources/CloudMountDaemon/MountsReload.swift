import CloudMountConfig
import CloudMountVFS

/// Other mounts in the place of those in use.
@Supervision
final class MountsReload {
    /// How often, 50 ms apart, a reload looks whether what it starts has come up; it goes on starting afterwards.
    private static let looks = 300

    private let lives: MountLives
    private let pending: PendingMounts
    private let around: MountLife.Surroundings

    nonisolated init(_ lives: MountLives, _ around: MountLife.Surroundings) {
        self.lives = lives
        self.around = around
        pending = PendingMounts(lives, around)
    }

    /// Makes the mounts those of `mounts`. One that is in use is changed in place as far as that goes; for the rest it has to
    /// be unmounted, which is done now if nobody uses it, else as soon as nobody does.
    /// - Parameter force: unmounts also what is in use; programs keep the files that they have open.
    ///
    /// It ends in bounded time: what is still waited for then is pending, or goes on beside what takes its place.
    /// - Returns: what became of each.
    func run(_ mounts: [Configuration.Mount], force: Bool) async -> [ReloadReport.Mount] {
        lives.beginReload()
        defer { lives.endReload() }
        while pending.isSettling { await around.pause(.milliseconds(20)) }
        await noteUnmounted()
        let current = lives.current
        lives.order = mounts.map(\.name)
        var outcomes: [String: ReloadReport.Mount] = [:]
        let gone = current.filter { name, _ in !mounts.contains { $0.name == name } }
        for life in gone.values { life.pending = .removal }

        await withTaskGroup(of: ReloadReport.Mount.self) { group in
            for mount in mounts {
                guard let life = current[mount.name] else { continue }
                group.addTask { await self.change(life, to: mount) }
            }
            for await outcome in group { outcomes[outcome.name] = outcome }
        }
        // What goes makes way for what comes.
        await withTaskGroup(of: ReloadReport.Mount.self) { [pending] group in
            for (name, life) in gone {
                group.addTask {
                    await pending.settle(life, ReloadReport.Mount(name: name, outcome: .removed), force: force)
                }
            }
            for outcome in outcomes.values where outcome.outcome == .pending {
                guard let life = current[outcome.name] else { continue }
                var done = outcome
                (done.outcome, done.reason) = (.remounted, nil)
                group.addTask { [done] in await pending.settle(life, done, force: force) }
            }
            for await outcome in group { outcomes[outcome.name] = outcome }
        }
        for mount in mounts where current[mount.name] == nil {
            // One that was unmounted by hand is in the file all the same.
            lives.removeEnded(mount.name)
            lives.add(mount)
            outcomes[mount.name] = ReloadReport.Mount(name: mount.name, outcome: .added)
        }
        await waitForStarts(&outcomes)
        pending.watch()
        let names = lives.order + gone.keys.sorted()
        return names.compactMap { outcomes[$0] }
    }

    /// Does what is pending when it can be done.
    func watchPending() { pending.watch() }

    private func noteUnmounted() async {
        await withTaskGroup(of: Void.self) { group in
            for life in lives.all.values { group.addTask { await life.noteUnmounted() } }
        }
    }

    private func change(_ life: MountLife, to mount: Configuration.Mount) async -> ReloadReport.Mount {
        let diff = MountDiff(from: life.mount, to: mount)
        var outcome = ReloadReport.Mount(
            name: mount.name, outcome: diff.isEmpty ? .kept : .changed, settings: diff.settings)
        switch life.phase {
        case .starting where diff.isEmpty: break
        case .starting, .failed: life.restart(as: mount)
        case .draining, .ended:
            life.isForgotten = true
            life.successor = mount
            // The kernel has let go of it, so that its place is free; what it stores still had better be seen.
            outcome.outcome = .added
            guard await !life.waitForEnd(), life.hasNotEnded else { break }
            life.successor = nil
            outcome.reason = PendingMounts.storesStill
            lives.add(mount)
        case .mounted(let running):
            life.pending = nil
            life.pendingReason = nil
            await change(life, running, to: mount, diff, &outcome)
        }
        return outcome
    }

    private func change(
        _ life: MountLife, _ running: any RunningMount, to mount: Configuration.Mount, _ diff: MountDiff,
        _ outcome: inout ReloadReport.Mount
    ) async {
        var needsRemount = !diff.remount.isEmpty
        if diff.rotates, !diff.isOtherStore {
            do throws(VFSError) {
                let isRotated = try await running.rotateCredentials(mount)
                if isRotated { life.mount.context.credentials = mount.context.credentials }
                needsRemount = needsRemount || !isRotated
            } catch {
                outcome.outcome = .failed
                outcome.reason = "the credentials in use stay: \(error.description)"
            }
        }
        if !diff.live.isEmpty { await Self.apply(mount, to: running) }
        life.mount = life.mount.taking(mount, secrets: false)
        guard needsRemount else { return }
        life.pending = .remount(mount)
        if outcome.outcome != .failed { outcome.outcome = .pending }
    }

    /// Outside `Supervision`: the mount looks through all that it knows.
    @concurrent private static func apply(_ mount: Configuration.Mount, to running: any RunningMount) async {
        running.apply(mount)
    }

    /// Waits until all that starts has come up or failed, and tells.
    private func waitForStarts(_ outcomes: inout [String: ReloadReport.Mount]) async {
        for _ in 0..<Self.looks where lives.all.values.contains(where: \.isStarting) {
            await around.pause(.milliseconds(50))
        }
        for (name, life) in lives.current {
            if case .failed(let error, _) = life.phase {
                outcomes[name]?.outcome = .failed
                outcomes[name]?.reason = error.description
            }
        }
    }
}
