import CloudMountCache
public import CloudMountConfig
import CloudMountPlatform
import CloudMountStaging
public import CloudMountVFS
import Glibc
import Synchronization

/// `cloudmount recover` while no daemon runs: the cache's folder is held as a daemon holds it.
public struct OfflineRecovery: Sendable {
    private let desk: RecoveryDesk
    private let journal: Journal
    /// What a person should know of the journal.
    public let warning: String?

    /// Blocks.
    /// - Returns: nil when there is no such folder, so nothing is kept.
    /// - Throws: `busy` when a daemon runs; what the journal's opening says.
    public init?(_ configuration: Configuration) throws(VFSError) {
        let cache = configuration.cache
        guard access(cache.directory + "/staged", F_OK) == 0 else { return nil }
        let staging = try StagingArea(directory: cache.directory, limit: cache.size, keepFree: cache.keepFree)
        let journal = try Journal(directory: cache.directory)
        self.journal = journal
        warning = journal.damage.map { damage in
            "the journal was damaged (\(damage.reason))\(damage.path.map { "; it lies in \($0) now" } ?? "")"
        }
        let names = Set(configuration.mounts.map(\.name))
        desk = RecoveryDesk(writes: KeptWrites(journal: journal, staging: staging), known: { (names, []) })
    }

    /// As a daemon answers it. Blocks.
    public func ask(_ request: ControlRequest) -> ControlAnswer {
        let answer = Mutex(ControlAnswer(ok: false))
        let done = CloudMountPlatform.Semaphore()
        Task.detached { [desk] in
            let told = await desk.run(request)
            answer.withLock { $0 = told }
            done.signal()
        }
        done.wait()
        return answer.withLock { $0 }
    }

    public func close() { journal.close() }
}
