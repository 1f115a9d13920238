import CloudMountConfig
import CloudMountFilesystem
import CloudMountVFS
import Logging

/// Another configuration in the place of the one in use.
extension Supervisor {
    /// How often mounts that wait to be unmounted are looked at.
    private static let interval = Duration.seconds(2)
    /// How often, 50 ms apart, a reload looks whether what it starts has come up; it goes on starting afterwards.
    private static let looks = 300

    /// The mounts in use, as they are.
    var configurations: [Configuration.Mount] {
        current.values.compactMap { entries[$0]?.mount }
    }

    /// By name: the lives that are not over, nor out of the file system already.
    private var current: [String: ID] {
        var ids: [String: ID] = [:]
        for (id, entry) in entries
        where hasNotEnded(id) && !entry.isUnwanted && !entry.isForgotten && !entry.isDetached {
            ids[entry.mount.name] = max(id, ids[entry.mount.name] ?? id)
        }
        return ids
    }

    /// Makes the mounts those of `mounts`. One that is in use is changed in place as far as that goes; for the rest it has to
    /// be unmounted, which is done now if nobody uses it, else as soon as nobody does.
    /// - Parameter force: unmounts also what is in use; programs keep the files that they have open.
    ///
    /// It ends in bounded time: what is still waited for then is pending, or goes on beside what takes its place.
    /// - Returns: what became of each.
    func reload(_ mounts: [Configuration.Mount], force: Bool) async -> [ReloadReport.Mount] {
        isReloading = true
        defer {
            isReloading = false
            endIfOver()
        }
        while isSettling { await pause(.milliseconds(20)) }
        await noteUnmounted()
        let current = current
        order = mounts.map(\.name)
        var outcomes: [String: ReloadReport.Mount] = [:]
        let gone = current.filter { name, _ in !mounts.contains { $0.name == name } }
        for id in gone.values { entries[id]?.pending = .removal }

        await withTaskGroup(of: ReloadReport.Mount?.self) { group in
            for mount in mounts {
                guard let id = current[mount.name] else { continue }
                group.addTask { await self.change(id, to: mount) }
            }
            for await outcome in group { if let outcome { outcomes[outcome.name] = outcome } }
        }
        // What goes makes way for what comes.
        await withTaskGroup(of: ReloadReport.Mount?.self) { group in
            for (name, id) in gone {
                group.addTask { await self.settle(id, ReloadReport.Mount(name: name, outcome: .removed), force: force) }
            }
            for outcome in outcomes.values where outcome.outcome == .pending {
                guard let id = current[outcome.name] else { continue }
                var done = outcome
                (done.outcome, done.reason) = (.remounted, nil)
                group.addTask { [done] in await self.settle(id, done, force: force) }
            }
            for await outcome in group { if let outcome { outcomes[outcome.name] = outcome } }
        }
        for mount in mounts where current[mount.name] == nil {
            // One that was unmounted by hand is in the file all the same.
            for (id, entry) in entries where entry.mount.name == mount.name && !hasNotEnded(id) { forget(id) }
            add(mount)
            outcomes[mount.name] = ReloadReport.Mount(name: mount.name, outcome: .added)
        }
        await waitForStarts(&outcomes)
        watchPending()
        let names = order + gone.keys.sorted()
        return names.compactMap { outcomes[$0] }
    }

    /// What somebody has unmounted, and something keeps alive elsewhere, is on its way out.
    private func noteUnmounted() async {
        await withTaskGroup(of: Void.self) { group in
            for (id, entry) in entries {
                guard case .mounted(let running) = entry.phase else { continue }
                group.addTask { await self.noteUnmounted(id, running) }
            }
        }
    }

    private func noteUnmounted(_ id: ID, _ running: any RunningMount) async {
        if await running.isInPlace() { return }
        let held = await running.uses().elsewhereText
        guard case .mounted? = entries[id]?.phase else { return }
        entries[id]?.phase = .draining(running)
        entries[id]?.isDetached = true
        entries[id]?.held = held
    }

    private func forget(_ id: ID) { entries[id] = nil }

    // MARK: In place

    private func change(_ id: ID, to mount: Configuration.Mount) async -> ReloadReport.Mount {
        guard let entry = entries[id] else { return ReloadReport.Mount(name: mount.name, outcome: .failed) }
        let diff = MountDiff(from: entry.mount, to: mount)
        var outcome = ReloadReport.Mount(
            name: mount.name, outcome: diff.isEmpty ? .kept : .changed, settings: diff.settings)
        switch entry.phase {
        case .starting where diff.isEmpty: break
        case .starting, .failed:
            // Nobody uses it: it starts again, as the file has it, at once.
            entries[id]?.mount = mount
            entries[id]?.isRestarted = true
            entries[id]?.phase = .starting
            entry.interrupt?()
        case .draining, .ended:
            entries[id]?.isForgotten = true
            entries[id]?.successor = mount
            // The kernel has let go of it, so that its place is free; what it stores still had better be seen.
            outcome.outcome = .added
            guard await !waitForEnd(id), hasNotEnded(id) else { break }
            entries[id]?.successor = nil
            outcome.reason = Self.storesStill
            add(mount)
        case .mounted(let running):
            entries[id]?.pending = nil
            entries[id]?.pendingReason = nil
            await change(id, running, to: mount, diff, &outcome)
        }
        return outcome
    }

    private func change(
        _ id: ID, _ running: any RunningMount, to mount: Configuration.Mount, _ diff: MountDiff,
        _ outcome: inout ReloadReport.Mount
    ) async {
        var needsRemount = !diff.remount.isEmpty
        if diff.rotates, !diff.isOtherStore {
            do throws(VFSError) {
                let isRotated = try await running.rotateCredentials(mount)
                if isRotated { entries[id]?.mount.context.credentials = mount.context.credentials }
                needsRemount = needsRemount || !isRotated
            } catch {
                outcome.outcome = .failed
                outcome.reason = "the credentials in use stay: \(error.description)"
            }
        }
        if !diff.live.isEmpty { await Self.apply(mount, to: running) }
        if let entry = entries[id] { entries[id]?.mount = entry.mount.taking(mount, secrets: false) }
        guard needsRemount else { return }
        entries[id]?.pending = .remount(mount)
        if outcome.outcome != .failed { outcome.outcome = .pending }
    }

    /// Outside the actor: the mount looks through all that it knows.
    @concurrent private static func apply(_ mount: Configuration.Mount, to running: any RunningMount) async {
        running.apply(mount)
    }

    // MARK: Out of the way

    private static let storesStill = "the old mount still stores what it holds"

    /// Unmounts what is pending, if nobody uses it or by force.
    /// - Returns: `done`, or why it is still pending.
    private func settle(_ id: ID, _ done: ReloadReport.Mount, force: Bool) async -> ReloadReport.Mount {
        var outcome = done
        switch await settle(id, force: force) {
        case .done(let remark): outcome.reason = remark
        case .pending(let reason):
            entries[id]?.pendingReason = reason
            (outcome.outcome, outcome.reason) = (.pending, reason)
        }
        return outcome
    }

    private enum Settled {
        /// With what a person should know.
        case done(String?)
        /// What is in the way.
        case pending(String)
    }

    private func settle(_ id: ID, force: Bool) async -> Settled {
        guard let entry = entries[id], let pending = entry.pending else { return .done(nil) }
        guard case .mounted(let running) = entry.phase else {
            // It never came up, or goes by itself: it ends, and leaves the table by then.
            entries[id]?.isForgotten = true
            if case .removal = pending { entries[id]?.pending = nil }
            if case .remount(let mount) = pending { entries[id]?.successor = mount }
            entries[id]?.isUnwanted = true
            entry.interrupt?()
            guard await !waitForEnd(id), case .remount(let mount) = pending, case .draining? = entries[id]?.phase
            else { return .done(nil) }
            entries[id]?.pending = nil
            entries[id]?.successor = nil
            add(mount)
            return .done(Self.storesStill)
        }
        if !force {
            let open = await Self.statistics(running).openFiles
            if open > 0 { return .pending(open == 1 ? "1 file is open" : "\(open) files are open") }
        }
        let isDrained = await drain(id, running)
        if !force {
            let dirty = await Self.statistics(running).dirtyFiles
            if dirty > 0 {
                return .pending(dirty == 1 ? "1 file is not stored yet" : "\(dirty) files are not stored yet")
            }
            if !isDrained { return .pending("what it holds is still being stored") }
        }
        // Others have been at work meanwhile.
        guard case .mounted? = entries[id]?.phase, entries[id]?.isUnwanted == false, let pending = entries[id]?.pending
        else { return .done(nil) }
        entries[id]?.isForgotten = true
        let successor: Configuration.Mount? = if case .remount(let mount) = pending { mount } else { nil }
        entries[id]?.successor = successor
        var lazily = false
        do throws(VFSError) {
            do throws(VFSError) {
                try await detach(id, running, lazy: false)
            } catch {
                guard force, error.code == .busy || error.code == .timedOut else { throw error }
                lazily = true
                try await detach(id, running, lazy: true)
            }
        } catch {
            entries[id]?.isForgotten = false
            entries[id]?.successor = nil
            guard error.code == .busy else { return .pending(error.description) }
            return .pending(await running.uses().insideText ?? "a program works in it")
        }
        // What the kernel lets go of at once ends before its successor begins; what is kept alive, by whom ever, goes on
        // beside it.
        let held = lazily ? nil : await waitForEnd(id, running)
        guard hasNotEnded(id) else { return .done(nil) }
        entries[id]?.pending = nil
        entries[id]?.successor = nil
        if let successor { add(successor) }
        return .done(held.map { "the old mount is \($0)" })
    }

    /// Stores what the mount holds, within the limit of a reload. One drain at a time: an earlier one goes on meanwhile.
    /// - Returns: false when it is not at its end.
    private func drain(_ id: ID, _ running: any RunningMount) async -> Bool {
        guard entries[id]?.isDraining == false else { return false }
        entries[id]?.isDraining = true
        return await within(limits.reload) {
            await running.drain()
            await self.drained(id)
        } != nil
    }

    private func drained(_ id: ID) { entries[id]?.isDraining = false }

    /// Tries all that is pending, until nothing is.
    private func watchPending() {
        guard !isWatchingPending, entries.values.contains(where: { $0.pending != nil }) else { return }
        isWatchingPending = true
        Task {
            while self.stillPending() {
                await self.pause(Self.interval)
                await self.settlePending()
            }
        }
    }

    private func stillPending() -> Bool {
        isWatchingPending = !isStopping && entries.values.contains { $0.pending != nil }
        return isWatchingPending
    }

    /// Does what waits until a mount is not in use, where it is not. A reload does so itself.
    func settlePending() async {
        if isReloading || isSettling { return }
        isSettling = true
        defer { isSettling = false }
        await withTaskGroup(of: Void.self) { group in
            for (id, entry) in entries where entry.pending != nil {
                group.addTask { await self.settlePending(id, entry.mount.name) }
            }
        }
    }

    private func settlePending(_ id: ID, _ name: String) async {
        switch await settle(id, force: false) {
        case .pending(let reason): entries[id]?.pendingReason = reason
        case .done(let remark):
            entries[id]?.pendingReason = nil
            logger.notice("reload: what was pending for '\(name)' is done\(remark.map { "; \($0)" } ?? "")")
        }
    }

    // MARK: What comes

    /// Waits until all that starts has come up or failed, and tells.
    private func waitForStarts(_ outcomes: inout [String: ReloadReport.Mount]) async {
        for _ in 0..<Self.looks where entries.values.contains(where: \.isStarting) { await pause(.milliseconds(50)) }
        for (name, id) in current {
            if case .failed(let error, _)? = entries[id]?.phase {
                outcomes[name]?.outcome = .failed
                outcomes[name]?.reason = error.description
            }
        }
    }
}

extension Supervisor.Entry {
    var isStarting: Bool { if case .starting = phase { !isUnwanted } else { false } }

    /// For `status`.
    var pendingText: String? {
        let what: String
        switch pending {
        case nil: return nil
        case .removal: what = "to be removed"
        case .remount: what = "to be remounted"
        }
        return what + (pendingReason.map { ": \($0)" } ?? "")
    }
}
