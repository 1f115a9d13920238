import CloudMountCache
import CloudMountConfig
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// What the daemon answers on its control socket.
struct ControlDesk: Sendable {
    let supervisor: Supervisor
    let configuration: Configuration
    let staging: StagingArea
    let memory: BufferPool
    let startedAt = SystemClock.now()

    func answer(_ request: ControlRequest) async -> ControlAnswer {
        switch request.command {
        case .status: return ControlAnswer(status: await status())
        case .stop:
            await supervisor.stop()
            return ControlAnswer()
        case .unmount:
            do throws(VFSError) {
                try await supervisor.unmount(request.target, lazy: request.lazy ?? false)
                return ControlAnswer()
            } catch {
                return ControlAnswer(ok: false, error: error.message)
            }
        }
    }

    private func status() async -> StatusReport {
        let mounts = await supervisor.phases.map { StatusReport.Mount($0.mount, $0.phase) }
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
