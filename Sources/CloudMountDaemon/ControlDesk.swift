import CloudMountCache
import CloudMountConfig
import CloudMountLayers
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import Synchronization

/// What the daemon answers on its control socket.
struct ControlDesk: Sendable {
    private let supervisor: Supervisor
    private let file: String
    private let staging: StagingArea
    private let memory: BufferPool
    private let reload: ConfigurationReload
    private let choose: @Sendable (String) -> @Sendable () -> Void
    private let recovery: RecoveryDesk
    private let looks = MountLooks()
    private let startedAt = SystemClock.now()

    init(
        supervisor: Supervisor, configuration: Configuration, staging: StagingArea, journal: Journal?,
        memory: BufferPool, reload: ConfigurationReload,
        choose: @escaping @Sendable (String) -> @Sendable () -> Void = { _ in {} }
    ) {
        self.choose = choose
        recovery = RecoveryDesk(
            writes: KeptWrites(journal: journal, staging: staging), known: { await supervisor.known })
        self.supervisor = supervisor
        // Once: the disk of the file may not answer later.
        file = Self.absolutePath(configuration.file)
        self.staging = staging
        self.memory = memory
        self.reload = reload
    }

    /// - Parameter tell: takes how far it is.
    func answer(
        _ request: ControlRequest, _ tell: @escaping @Sendable (ControlAnswer) -> Void
    ) async -> ControlAnswer {
        switch request.command {
        case .status: return ControlAnswer(status: await status())
        case .stop:
            await supervisor.stop()
            return ControlAnswer()
        case .reload: return await reload(request)
        case .mount: return await mount(request)
        case .remount: return await remount(request)
        case .recover: return await recovery.run(request)
        case .sync: return await SyncDesk(supervisor: supervisor).run(request, tell)
        case .refresh: return await refresh(request)
        case .offline: return await offline(request)
        case .unmount:
            do throws(VFSError) {
                let remarks = try await supervisor.unmount(request.target, lazy: request.lazy ?? false)
                return ControlAnswer(remarks: remarks.isEmpty ? nil : remarks)
            } catch {
                return ControlAnswer(ok: false, error: error.message)
            }
        }
    }

    private func refresh(_ request: ControlRequest) async -> ControlAnswer {
        do throws(VFSError) {
            var parts: [(running: any RunningMount, path: ObjectKey)] = []
            let targets = request.targets ?? []
            for target in targets.isEmpty ? [nil] : targets.map(Optional.some) {
                parts += try await supervisor.serving(target).map { ($0.running, ObjectKey(target?.path ?? "")) }
            }
            for part in parts { await part.running.refresh(part.path) }
            return ControlAnswer()
        } catch {
            return ControlAnswer(ok: false, error: error.message)
        }
    }

    private func offline(_ request: ControlRequest) async -> ControlAnswer {
        guard let isOffline = request.offline, let target = request.targets?.first else {
            return ControlAnswer(ok: false, error: "not a request")
        }
        do throws(VFSError) {
            var remarks: [String] = []
            for (_, name, running) in try await supervisor.serving(target) {
                running.reach.isOffline = isOffline
                let policy = await supervisor.configurations.first { $0.name == name }?.policy
                if isOffline, policy?.offline == .fail {
                    remarks.append("\(name): its policy says offline: fail: what is not believed now is an error")
                }
            }
            return ControlAnswer(remarks: remarks.isEmpty ? nil : remarks)
        } catch {
            return ControlAnswer(ok: false, error: error.message)
        }
    }

    private func remount(_ request: ControlRequest) async -> ControlAnswer {
        guard let target = request.target, let readOnly = request.readOnly else {
            return ControlAnswer(ok: false, error: "not a request")
        }
        do throws(VFSError) {
            if request.done == true {
                try await supervisor.finishRemount(target, readOnly: readOnly)
                return ControlAnswer()
            }
            let remark = try await supervisor.prepareRemount(target, readOnly: readOnly)
            return ControlAnswer(remarks: remark.map { [$0] })
        } catch {
            return ControlAnswer(ok: false, error: error.message)
        }
    }

    private func reload(_ request: ControlRequest) async -> ControlAnswer {
        var answer = ControlAnswer()
        do throws(ConfigurationReload.Refusal) {
            let report = try await reload.run(force: request.force ?? false, dryRun: request.dryRun ?? false)
            answer.reload = report
            answer.ok = !report.hasFailed
        } catch {
            answer.ok = false
            switch error {
            case .busy: answer.error = "another reload is under way"
            case .slow: answer.error = ConfigurationReload.Refusal.tooSlow
            case .empty: answer.error = ConfigurationReload.Refusal.nothingLeft
            case .stopping: answer.error = "the daemon is stopping"
            case .wrong(let error):
                answer.error = error.description
                answer.isWrongConfiguration = true
            }
        }
        return answer
    }

    /// Goes by the file as it is now, with a mount that the daemon was not started for.
    private func mount(_ request: ControlRequest) async -> ControlAnswer {
        guard let name = request.target else { return ControlAnswer(ok: false, error: "not a request") }
        // A name that the file has not, or a file that is wrong, is no matter of later reloads.
        let forget = choose(name)
        var answer = await reload(ControlRequest(.reload))
        guard let report = answer.reload else {
            forget()
            return answer
        }
        let mount = report.mounts.first { $0.name == name }
        if mount == nil { forget() }
        if mount == nil { answer.error = "there is no mount '\(name)' in \(file)" }
        if let mount, mount.outcome == .failed { answer.error = "\(name): \(mount.reason ?? "failed")" }
        answer.ok = answer.error == nil
        return answer
    }

    private func status() async -> StatusReport {
        let mounts = await looks.report(await supervisor.phases)
        // What a mount names is of this run.
        let named = Set(mounts.flatMap { $0.failedCommits.map(\.stagedPath) })
        let leftovers = staging.leftovers.filter { !named.contains($0.path) }
        return StatusReport(
            pid: Int(getpid()), configuration: file, startedAt: startedAt.seconds,
            isStopping: await supervisor.isStopping,
            memory: StatusReport.Budget(limit: memory.limit, used: memory.used),
            staging: StatusReport.Staging(
                directory: staging.directory, limit: staging.limit, used: staging.used,
                leftovers: leftovers.map { StatusReport.Leftover(path: $0.path, bytes: $0.size) }),
            mounts: mounts
        ).fitted()
    }

    private static func absolutePath(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}

/// Asks mounts for their figures, side by side and each within a limit: one that is slow to tell is shown without them. Who asks while a
/// question is under way waits for its answer.
final class MountLooks: Sendable {
    private let pool = BlockingPool(name: "cm-status", width: 4)
    private let underWay = Mutex<[MountLife.ID: Task<StatusReport.Mount, Never>]>([:])
    private let limit: Duration

    init(limit: Duration = .seconds(1)) { self.limit = limit }

    func report(_ mounts: [MountLife.Look]) async -> [StatusReport.Mount] {
        await withTaskGroup(of: (Int, StatusReport.Mount).self) { group in
            for (index, look) in mounts.enumerated() { group.addTask { (index, await self.report(look)) } }
            var reports: [(Int, StatusReport.Mount)] = []
            for await report in group { reports.append(report) }
            return reports.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }

    private func report(_ look: MountLife.Look) async -> StatusReport.Mount {
        var report = StatusReport.Mount(look)
        switch look.phase {
        case .mounted(let running), .draining(let running):
            let filled = await figures(of: running, look.id, report)
            report = filled ?? report
            if filled == nil { report.forgetFigures() }
        default: break
        }
        return report
    }

    private func figures(
        of running: any RunningMount, _ id: MountLife.ID, _ report: StatusReport.Mount
    ) async -> StatusReport.Mount? {
        let question = underWay.withLock { underWay in
            if let asked = underWay[id] { return asked }
            let question = Task.detached { [pool] in
                let filled = await pool.run {
                    var report = report
                    report.fill(running)
                    return report
                }
                self.underWay.withLock { $0[id] = nil }
                return filled
            }
            underWay[id] = question
            return question
        }
        guard var filled = await within(limit, { await question.value }) else { return nil }
        // The one who asked may have asked a while ago.
        (filled.state, filled.pending) = (report.state, report.pending)
        if report.readOnly || filled.readOnlyReason == StatusReport.Mount.remounted {
            (filled.readOnly, filled.readOnlyReason) = (report.readOnly, report.readOnlyReason)
        }
        return filled
    }
}
