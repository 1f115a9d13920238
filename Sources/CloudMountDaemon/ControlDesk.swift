import CloudMountConfig
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc

/// What the daemon answers on its control socket.
struct ControlDesk: Sendable {
    let supervisor: Supervisor
    let configuration: Configuration
    let staging: StagingArea
    let memory: BufferPool
    let reload: ConfigurationReload
    let startedAt = SystemClock.now()

    func answer(_ request: ControlRequest) async -> ControlAnswer {
        switch request.command {
        case .status: return ControlAnswer(status: await status())
        case .stop:
            await supervisor.stop()
            return ControlAnswer()
        case .reload: return await reload(request)
        case .unmount:
            do throws(VFSError) {
                let remarks = try await supervisor.unmount(request.target, lazy: request.lazy ?? false)
                return ControlAnswer(remarks: remarks.isEmpty ? nil : remarks)
            } catch {
                return ControlAnswer(ok: false, error: error.message)
            }
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
            case .empty: answer.error = ConfigurationReload.Refusal.nothingLeft
            case .stopping: answer.error = "the daemon is stopping"
            case .wrong(let error):
                answer.error = error.description
                answer.isWrongConfiguration = true
            }
        }
        return answer
    }

    private func status() async -> StatusReport {
        let mounts = await supervisor.phases.map { StatusReport.Mount($0.mount, $0.phase, pending: $0.pending) }
        return StatusReport(
            pid: Int(getpid()), configuration: absolutePath(configuration.file), startedAt: startedAt.seconds,
            isStopping: await supervisor.isStopping,
            memory: StatusReport.Budget(limit: memory.limit, used: memory.used),
            staging: StatusReport.Staging(
                directory: staging.directory, limit: staging.limit, used: staging.used,
                leftovers: staging.leftovers.map { StatusReport.Leftover(path: $0.path, bytes: $0.size) }),
            mounts: mounts)
    }

    private func absolutePath(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}
