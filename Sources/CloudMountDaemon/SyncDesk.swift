import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import Synchronization

/// `cloudmount sync`: waits until stores have what was written.
struct SyncDesk: Sendable {
    let supervisor: Supervisor
    /// Between two words of how far it is.
    var interval = Duration.milliseconds(500)

    /// All that is meant of one mount.
    private struct Part: Sendable {
        let name: String
        let running: any RunningMount
        var paths: [ObjectKey]
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
        let deadline = request.limit.map { ContinuousClock.now + $0 }
        let sentBefore = Self.sent(parts)
        let end = End()
        let work = Task {
            await withTaskGroup(of: Void.self) { group in
                for part in parts {
                    group.addTask {
                        await part.running.sync(
                            part.paths, retries: request.limit != nil, part.progress)
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
        var room = AnswerRoom()
        for part in parts {
            let unstored = part.progress.unstored.map { SyncReport.File(part.name, $0) }
            let named = room.first(of: unstored, atMost: SyncReport.mostNamed - report.unstored.count)
            report.unstored += named
            report.unnamed += unstored.count - named.count
        }
        return ControlAnswer(ok: report.unstored.isEmpty && report.unnamed == 0 && !report.isTimedOut, sync: report)
    }

    private func parts(of targets: [ControlTarget]) async throws(VFSError) -> [Part] {
        var (parts, places): ([Part], [MountLife.ID: Int]) = ([], [:])
        for target in targets.isEmpty ? [nil] : targets.map(Optional.some) {
            let path = ObjectKey(target?.path ?? "")
            for (id, name, running) in try await supervisor.serving(target) {
                if let place = places[id] {
                    parts[place].paths.append(path)
                } else {
                    places[id] = parts.count
                    parts.append(Part(name: name, running: running, paths: [path]))
                }
            }
        }
        return parts
    }

    private static func count(_ parts: [Part], _ sentBefore: Int, _ report: SyncReport) -> SyncReport {
        var report = report
        (report.files, report.bytes, report.storedFiles, report.storedBytes) = (0, 0, 0, 0)
        for counts in parts.map(\.progress.counts) {
            report.files += counts.files
            report.bytes = report.bytes.addingSaturated(counts.bytes)
            report.storedFiles += counts.storedFiles
            report.storedBytes = report.storedBytes.addingSaturated(counts.storedBytes)
        }
        report.sentBytes = max(0, sent(parts) - sentBefore)
        return report
    }

    private static func sent(_ parts: [Part]) -> Int {
        parts.reduce(0) { sum, part in part.running.requests().values.reduce(sum) { $0 + $1.bytesUp } }
    }
}
