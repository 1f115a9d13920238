import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import Synchronization

/// `cloudmount sync`: waits until stores have what was written.
struct SyncDesk: Sendable {
    let supervisor: Supervisor
    /// Between two words of how far it is.
    var interval = Duration.milliseconds(500)

    /// One path of one mount.
    private struct Part: Sendable {
        let name: String
        let running: any RunningMount
        let path: ObjectKey
        let progress = SyncProgress()
    }

    private final class End: Sendable {
        private let isReached = Mutex(false)
        private let waiters = Waiters()

        var isOver: Bool { isReached.withLock { $0 } }

        func reach() {
            isReached.withLock { $0 = true }
            waiters.resume()
        }

        func wait(for time: Duration) async { await waiters.wait(unless: { isOver }, for: time) }
    }

    func run(
        _ request: ControlRequest, _ tell: @escaping @Sendable (ControlAnswer) -> Void
    ) async -> ControlAnswer {
        let parts: [Part]
        do throws(VFSError) { parts = try await self.parts(of: request.targets ?? []) } catch {
            return ControlAnswer(ok: false, error: error.message)
        }
        let deadline = request.seconds.map { ContinuousClock.now + .seconds($0) }
        let sentBefore = Self.sent(parts)
        let end = End()
        let work = Task {
            await withTaskGroup(of: Void.self) { group in
                for part in parts {
                    group.addTask {
                        await part.running.sync(part.path, retries: request.seconds != nil, part.progress)
                    }
                }
            }
            end.reach()
        }
        var report = SyncReport()
        while true {
            let pause = deadline.map { min(interval, $0 - .now) } ?? interval
            if pause > .zero { await end.wait(for: pause) }
            if end.isOver { break }
            report.isTimedOut = deadline.map { $0 <= .now } ?? false
            if report.isTimedOut || Task.isCancelled {
                work.cancel()
                break
            }
            tell(ControlAnswer(sync: Self.count(parts, sentBefore, report)))
        }
        report = Self.count(parts, sentBefore, report)
        for part in parts {
            let unstored = part.progress.unstored
            let named = unstored.prefix(SyncReport.mostNamed - report.unstored.count)
            report.unstored += named.map { SyncReport.File(part.name, $0) }
            report.unnamed += unstored.count - named.count
        }
        return ControlAnswer(ok: report.unstored.isEmpty && !report.isTimedOut, sync: report)
    }

    private func parts(of targets: [ControlTarget]) async throws(VFSError) -> [Part] {
        var parts: [Part] = []
        for target in targets.isEmpty ? [nil] : targets.map(Optional.some) {
            let path = ObjectKey(target?.path ?? "")
            parts += try await supervisor.serving(target).map { Part(name: $0.name, running: $0.running, path: path) }
        }
        return parts
    }

    private static func count(_ parts: [Part], _ sentBefore: Int, _ report: SyncReport) -> SyncReport {
        var report = report
        (report.files, report.bytes, report.storedFiles, report.storedBytes) = (0, 0, 0, 0)
        for counts in parts.map(\.progress.counts) {
            report.files += counts.files
            report.bytes += counts.bytes
            report.storedFiles += counts.storedFiles
            report.storedBytes += counts.storedBytes
        }
        report.sentBytes = max(0, sent(parts) - sentBefore)
        return report
    }

    /// By the mounts, each counted once.
    private static func sent(_ parts: [Part]) -> Int {
        var seen: Set<String> = []
        return parts.filter { seen.insert("\($0.name) \($0.running.device)").inserted }.reduce(0) { sum, part in
            part.running.requests().values.reduce(sum) { $0 + $1.bytesUp }
        }
    }
}
