import CloudMountConfig
import CloudMountFilesystem
import CloudMountVFS
import Logging

/// Keeps the mounts of one configuration up, each on its own: one that fails is tried again while the others serve.
///
/// A mount is a `MountLife` in the table `MountLives`; another configuration is brought in by `MountsReload`. The work of
/// each is a task, so that none of them, and no command, waits for another.
@Supervision
final class Supervisor {
    private let lives: MountLives
    private let mountsReload: MountsReload

    /// - Parameters:
    ///   - announce: takes one line for a person.
    ///   - limits: how long others are waited for.
    ///   - pause: sleeps; returns early when its task is cancelled.
    nonisolated init(
        mounts: [Configuration.Mount], engine: any MountEngine, logger: Logger,
        announce: @escaping @Sendable (String) -> Void, limits: MountLife.Limits = .init(),
        pause: @escaping @Sendable (Duration) async -> Void = { try? await Task.sleep(for: $0) }
    ) {
        let around = MountLife.Surroundings(
            engine: engine, logger: logger, announce: announce, limits: limits, pause: pause)
        lives = MountLives(mounts, around)
        mountsReload = MountsReload(lives, around)
    }

    /// Starts all mounts at once; returns when every one has ended, with what each left behind.
    func run() async -> [String: MountLife.Ending] {
        lives.whenPending = { [mountsReload] in mountsReload.watchPending() }
        return await lives.run()
    }

    /// Every mount has ended, and none is to come.
    var isOver: Bool { lives.isOver }
    var isStopping: Bool { lives.isStopping }

    /// The mounts in use, as they are.
    var configurations: [Configuration.Mount] { lives.current.values.map(\.mount) }

    /// In the order of the file; of one name, the older first.
    var phases: [MountLife.Look] { lives.sorted.map(\.look) }

    /// Files and bytes that the store does not have yet, all mounts together.
    nonisolated var dirty: (files: Int, bytes: Int) {
        get async {
            await running.reduce((0, 0)) { sum, running in
                let statistics = running.statistics()
                return (sum.0 + statistics.dirtyFiles, sum.1.addingSaturated(statistics.dirtyBytes))
            }
        }
    }

    private var running: [any RunningMount] { lives.all.values.compactMap(\.running) }

    /// As the service manager is told.
    var serviceLook: ServiceLook {
        var look = ServiceLook(isStopping: lives.isStopping)
        for life in lives.sorted {
            if let running = life.running { look.running.append((life.name, running)) }
            if life.isStarting { look.starting += 1 }
            if let failure = life.failureText { look.failures.append("\(life.name): \(failure)") }
            if !life.wasTried { look.areTried = false }
        }
        return look
    }

    /// All mounts that this daemon knows of, whether they are up or not.
    var known: (names: Set<String>, running: [(name: String, running: any RunningMount)]) {
        let all = lives.all.values
        return (
            Set(all.map(\.name) + lives.order), all.compactMap { life in life.running.map { (life.name, $0) } }
        )
    }

    /// As `MountsReload.run`.
    func reload(_ mounts: [Configuration.Mount], force: Bool) async -> [ReloadReport.Mount] {
        await mountsReload.run(mounts, force: force)
    }

    /// Drains and unmounts everything; `run` returns when that is done.
    func stop() {
        guard lives.beginStop() else { return }
        for life in lives.all.values { life.discard() }
    }

    /// Ends every mount now, drained or not.
    func abandon() async {
        _ = lives.beginStop()
        await withTaskGroup(of: Void.self) { group in
            for life in lives.all.values { group.addTask { await life.abandon() } }
        }
    }

    /// What serves the mount that a command has named.
    /// - Parameter target: nil: all mounts.
    /// - Throws: `notFound`, also for a mount that is not up.
    func serving(
        _ target: ControlTarget?
    ) throws(VFSError) -> [(id: MountLife.ID, name: String, running: any RunningMount)] {
        let all = lives.sorted
        if let target, let device = target.device {
            for life in all {
                if let running = life.running, running.device == device { return [(life.id, life.name, running)] }
            }
            throw VFSError(.notFound, "\(target.word) is not in a mount of this daemon")
        }
        let chosen = try named(target?.word)
        var serving: [(id: MountLife.ID, name: String, running: any RunningMount)] = []
        for life in chosen {
            if let running = life.running {
                serving.append((life.id, life.name, running))
            } else if life.hasNotEnded {
                throw VFSError(.notFound, "'\(life.name)' is not mounted" + (life.failureText.map { ": \($0)" } ?? ""))
            }
        }
        if serving.isEmpty { throw VFSError(.notFound, "'\(target?.word ?? "")' is not mounted any more") }
        return serving
    }

    /// - Parameter target: a mount's name or path; nil: all.
    private func named(_ target: String?) throws(VFSError) -> [MountLife] {
        let all = lives.sorted
        let chosen = all.filter { life in
            guard let target else { return true }
            return life.name.utf8.elementsEqual(target.utf8) || life.mount.path.utf8.elementsEqual(target.utf8)
        }
        guard !chosen.isEmpty else {
            let names = all.map(\.name).joined(separator: ", ")
            throw VFSError(.notFound, "there is no mount '\(target ?? "")'; there are \(names)")
        }
        return chosen
    }

    /// Unmounts on request, several side by side: one whose store hangs holds up none of the others.
    /// - Parameter target: a mount's name or path; nil: all.
    /// - Returns: what the stores did not take, a line for each mount.
    /// - Throws: `notFound`; `busy` when files are open and not `lazy`: the mount goes on.
    func unmount(_ target: String?, lazy: Bool) async throws(VFSError) -> [String] {
        let chosen = try named(target)
        var refusals: [String] = []
        var remarks: [String] = []
        await withTaskGroup(of: (refusal: String?, remark: String?).self) { group in
            for life in chosen { group.addTask { await life.unmount(lazy: lazy) } }
            for await (refusal, remark) in group {
                if let refusal { refusals.append(refusal) }
                if let remark { remarks.append(remark) }
            }
        }
        guard refusals.isEmpty else { throw VFSError(.busy, (refusals + remarks).joined(separator: "; ")) }
        return remarks
    }

    /// Before a remount through the kernel (`mount -o remount`): stores what is not stored, or tells what is against it.
    /// - Parameter target: a mount's path.
    /// - Returns: what a person should know.
    func prepareRemount(_ target: String, readOnly: Bool) async throws(VFSError) -> String? {
        let (life, running) = try lives.mounted(at: target)
        return try await life.prepareRemount(running, readOnly: readOnly)
    }

    /// After it: the mount itself refuses changes, or takes them again.
    func finishRemount(_ target: String, readOnly: Bool) throws(VFSError) {
        let (life, running) = try lives.mounted(at: target)
        life.finishRemount(running, readOnly: readOnly)
    }
}
