import CloudMountConfig
import CloudMountFilesystem
import CloudMountVFS
import Logging

/// Takes mounts out of the file system that a reload wants removed or remounted: at once if nobody uses them or by force,
/// else as soon as nobody does.
@Supervision
final class PendingMounts {
    /// How often mounts that wait to be unmounted are looked at.
    private static let interval = Duration.seconds(2)
    /// Of a mount whose place is free already.
    static let storesStill = "the old mount still stores what it holds"

    private(set) var isSettling = false
    private var isWatching = false
    private let lives: MountLives
    private let around: MountLife.Surroundings

    nonisolated init(_ lives: MountLives, _ around: MountLife.Surroundings) {
        self.lives = lives
        self.around = around
    }

    /// Unmounts what is pending, if nobody uses it or by force.
    /// - Returns: `done`, or why it is still pending.
    func settle(_ life: MountLife, _ done: ReloadReport.Mount, force: Bool) async -> ReloadReport.Mount {
        var outcome = done
        switch await settle(life, force: force) {
        case .done(let remark): outcome.reason = remark
        case .pending(let reason):
            life.pendingReason = reason
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

    private func settle(_ life: MountLife, force: Bool) async -> Settled {
        guard let pending = life.pending else { return .done(nil) }
        guard case .mounted(let running) = life.phase else { return await settleUnmounted(life, pending) }
        if !force {
            let open = await MountLife.statistics(running).openFiles
            if open > 0 { return .pending(open == 1 ? "1 file is open" : "\(open) files are open") }
        }
        let isDrained = await life.drainForReload(running)
        if !force {
            let dirty = await MountLife.statistics(running).dirtyFiles
            if dirty > 0 {
                return .pending(dirty == 1 ? "1 file is not stored yet" : "\(dirty) files are not stored yet")
            }
            if !isDrained { return .pending("what it holds is still being stored") }
        }
        // Others have been at work meanwhile.
        guard life.isMounted, !life.isUnwanted, let pending = life.pending else { return .done(nil) }
        life.isForgotten = true
        let successor: Configuration.Mount? = if case .remount(let mount) = pending { mount } else { nil }
        life.successor = successor
        var lazily = false
        do throws(VFSError) {
            do throws(VFSError) {
                try await life.detach(running, lazy: false)
            } catch {
                guard force, error.code == .busy || error.code == .timedOut else { throw error }
                lazily = true
                try await life.detach(running, lazy: true)
            }
        } catch {
            life.isForgotten = false
            life.successor = nil
            guard error.code == .busy else { return .pending(error.description) }
            return .pending(await running.uses().insideText ?? "a program works in it")
        }
        // What the kernel lets go of at once ends before its successor begins; what is kept alive, by whom ever, goes on
        // beside it.
        let held = lazily ? nil : await life.waitForEnd(running)
        guard life.hasNotEnded else { return .done(nil) }
        life.pending = nil
        life.successor = nil
        if let successor { lives.add(successor) }
        return .done(held.map { "the old mount is \($0)" })
    }

    /// Of one that never came up, or goes by itself: it ends, and leaves the table by then.
    private func settleUnmounted(_ life: MountLife, _ pending: MountLife.Pending) async -> Settled {
        life.isForgotten = true
        switch pending {
        case .removal: life.pending = nil
        case .remount(let mount): life.successor = mount
        }
        life.refuse()
        guard await !life.waitForEnd(), case .remount(let mount) = pending, case .draining = life.phase
        else { return .done(nil) }
        life.pending = nil
        life.successor = nil
        lives.add(mount)
        return .done(Self.storesStill)
    }

    private var isEmpty: Bool { lives.all.values.allSatisfy { $0.pending == nil } }

    /// Tries all that is pending, until nothing is.
    func watch() {
        guard !isWatching, !isEmpty else { return }
        isWatching = true
        Task {
            while self.isStillNeeded() {
                await self.around.pause(Self.interval)
                await self.settleAll()
            }
        }
    }

    private func isStillNeeded() -> Bool {
        isWatching = !lives.isStopping && !isEmpty
        return isWatching
    }

    /// Does what waits until a mount is not in use, where it is not. A reload does so itself.
    private func settleAll() async {
        if lives.isReloading || isSettling { return }
        isSettling = true
        defer { isSettling = false }
        await withTaskGroup(of: Void.self) { group in
            for life in lives.all.values where life.pending != nil {
                group.addTask { await self.settleAndTell(life) }
            }
        }
    }

    private func settleAndTell(_ life: MountLife) async {
        let name = life.name
        switch await settle(life, force: false) {
        case .pending(let reason): life.pendingReason = reason
        case .done(let remark):
            life.pendingReason = nil
            around.logger.notice("reload: what was pending for '\(name)' is done\(remark.map { "; \($0)" } ?? "")")
        }
    }
}
