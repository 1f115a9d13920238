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
    private let cache: Configuration.Cache
    private let names: Set<String>

    /// - Parameter names: of the mounts that the configuration has.
    public init(_ cache: Configuration.Cache, names: Set<String>) {
        self.cache = cache
        self.names = names
    }

    /// As a daemon answers it; `remarks` say what a person should know of the journal. Blocks.
    /// - Returns: nil when there is no such folder, so nothing is kept.
    /// - Throws: `busy` when a daemon runs; what the journal's opening says.
    public func ask(_ request: ControlRequest) throws(VFSError) -> ControlAnswer? {
        guard access(cache.directory + "/staged", F_OK) == 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw localError("\(cache.directory)/staged cannot be looked at")
        }
        let staging = try StagingArea(directory: cache.directory, limit: cache.size, keepFree: cache.keepFree)
        defer { staging.unlock() }
        let journal = try Journal(directory: cache.directory)
        defer { journal.close() }
        let names = names
        var answer = Self.run(
            RecoveryDesk(writes: KeptWrites(journal: journal, staging: staging), known: { (names, []) }), request)
        if let damage = journal.damage {
            let place = damage.path.map { "; it lies in \($0) now" } ?? ""
            answer.remarks = ["the journal was damaged (\(damage.reason))\(place)"]
        }
        return answer
    }

    /// The cache holds nothing that no store has, not even a record or a journal that was found damaged. Blocks.
    /// - Throws: `busy` when a daemon has it; whatever keeps it from being looked at.
    public static func isEmpty(_ directory: String) throws(VFSError) -> Bool {
        guard access(directory + "/staged", F_OK) == 0, access(directory + "/lock", F_OK) == 0 else {
            throw VFSError(.notFound, "\(directory) is no cache")
        }
        let staging = try StagingArea(directory: directory, limit: .max, keepFree: 0)
        defer { staging.unlock() }
        let journal = try Journal(directory: directory)
        defer { journal.close() }
        let recorded = try journal.mounts()
        guard staging.leftovers.isEmpty, recorded.isEmpty, journal.damage == nil else { return false }
        guard let stream = opendir(directory) else { throw localError("\(directory) cannot be read") }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.contains(".damaged-") { return false }
        }
        return true
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
