import CloudMountCache
public import CloudMountConfig
import CloudMountPlatform
import CloudMountStaging
public import CloudMountVFS
import Glibc
import Synchronization

/// `cloudmount recover` while no daemon runs. The cache's folder is held as a daemon holds it, but only while a question is answered:
/// whoever asked may think for as long as they like, and a daemon starts meanwhile.
public struct OfflineRecovery: Sendable {
    private let configuration: Configuration

    public init(_ configuration: Configuration) { self.configuration = configuration }

    /// As a daemon answers it; `remarks` say what a person should know of the journal. Blocks.
    /// - Returns: nil when there is no such folder, so nothing is kept.
    /// - Throws: `busy` when a daemon runs; what the journal's opening says.
    public func ask(_ request: ControlRequest) throws(VFSError) -> ControlAnswer? {
        let cache = configuration.cache
        guard access(cache.directory + "/staged", F_OK) == 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw localError("\(cache.directory)/staged cannot be looked at")
        }
        let staging = try StagingArea(directory: cache.directory, limit: cache.size, keepFree: cache.keepFree)
        defer { staging.unlock() }
        let journal = try Journal(directory: cache.directory)
        defer { journal.close() }
        let names = Set(configuration.mounts.map(\.name))
        var answer = Self.run(
            RecoveryDesk(writes: KeptWrites(journal: journal, staging: staging), known: { (names, []) }), request)
        if let damage = journal.damage {
            let place = damage.path.map { "; it lies in \($0) now" } ?? ""
            answer.remarks = ["the journal was damaged (\(damage.reason))\(place)"]
        }
        return answer
    }

    private static func run(_ desk: RecoveryDesk, _ request: ControlRequest) -> ControlAnswer {
        let answer = Mutex(ControlAnswer(ok: false))
        let done = CloudMountPlatform.Semaphore()
        Task.detached {
            let told = await desk.run(request)
            answer.withLock { $0 = told }
            done.signal()
        }
        done.wait()
        return answer.withLock { $0 }
    }
}
