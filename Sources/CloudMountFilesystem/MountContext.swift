import CloudMountCache
import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
public import CloudMountVFS
import Logging
import Synchronization

/// What all rooms of one mounted file system share: the store, the settings, the budgets, the clock, the kernel's ear.
final class MountContext: Sendable {
    let name: String
    let mostPieces: Int
    let mostOfDirectory: Int
    let mostFoldersHere: Int
    let names: NameBudget
    let provider: any ObjectProvider
    let capabilities: Capabilities
    let staging: StagingArea
    let memory: MemoryShare
    let readAhead: ReadAhead
    let recent: RecentBytes
    let writes: WriteLog
    private let versions: MountVersions?
    /// Where what is known of names is between two processes.
    let savedNames: MountNames?
    let clock: FilesystemClock
    let log: Logger
    /// Why a write begun now would not be stored.
    let refusesWrites: @Sendable () -> VFSError?
    /// Whether the store would not be asked now: it does not answer, or the mount is offline.
    let isCutOff: @Sendable () -> Bool
    /// Replaced as a whole by `replace`. A leaf among the locks.
    private let live: Mutex<MountSettings>
    private let notifier = Mutex<(any KernelNotifier)?>(nil)

    init(
        settings: MountSettings, provider: any ObjectProvider, staging: StagingArea, memory: BufferPool,
        journal: Journal?, versions: VersionStore?, names: NamesFolder?, clock: FilesystemClock,
        refusesWrites: @escaping @Sendable () -> VFSError?, isCutOff: @escaping @Sendable () -> Bool
    ) {
        live = Mutex(settings)
        name = settings.name
        mostPieces = settings.mostPieces
        mostOfDirectory = settings.mostOfDirectory
        mostFoldersHere = settings.mostFoldersHere
        self.names = settings.names
        self.provider = provider
        capabilities = provider.capabilities
        self.staging = staging
        self.memory = memory.share()
        self.clock = clock
        self.refusesWrites = refusesWrites
        self.isCutOff = isCutOff
        readAhead = ReadAhead()
        recent = RecentBytes(self.memory, provider.capabilities, lane: settings.name)
        // Where objects keep no mark, nobody would know after a crash what was stored.
        writes = WriteLog(
            journal, hasMarks: provider.capabilities.metadata, mount: settings.name, store: settings.store)
        // Where tags do not tell versions apart, bytes of one might be shown for another.
        self.versions = versions.flatMap { store in
            guard provider.capabilities.distinctTags else { return nil }
            return MountVersions(
                store, mount: settings.name, bucket: settings.store, limit: settings.policy.size)
        }
        savedNames = names.map { MountNames($0, mount: settings.name, bucket: settings.store) }
        var log = Logger(label: "cloudmount.filesystem")
        log[metadataKey: "mount"] = .string(settings.name)
        self.log = log
        staging.enrol(settings.name)
        let readAhead = readAhead
        // Whose buffers hold the memory's share.
        self.memory.onPressure { [weak recent] wanted, pressure in
            let freed = recent?.drop(wanted) ?? 0
            return freed >= wanted ? freed : freed + readAhead.drop(wanted - freed, for: pressure, clock.monotonic())
        }
    }

    deinit { staging.withdraw(name) }

    func imageReader() -> ImageReader {
        // Looked up at each read, for the policy may be another by then.
        let local: ImageReader.Local = { [weak self] base, extent, buffer in
            self?.kept?.file(base).read(extent, into: buffer) ?? false
        }
        return ImageReader(provider: provider, pool: memory, lane: name, local: versions == nil ? nil : local)
    }

    /// What the local disk keeps of stored versions; nil when the policy keeps nothing there.
    var kept: MountVersions? { versions.flatMap { policy().data == .disk ? $0 : nil } }

    /// The policy has the local disk keep something, and believes anything for a while.
    var savesNames: Bool {
        let policy = policy()
        return policy.effectiveMetadataTTL > 0 && (policy.data == .disk || policy.write == .back)
    }

    /// Bytes that the local disk keeps of stored versions.
    var keptBytes: Int { versions?.used ?? 0 }

    /// The same bytes are another version: what is kept of them is that one's.
    func relocate(from old: ObjectInfo, to new: ObjectInfo) {
        recent.relocate(from: old, to: new)
        kept?.relocate([(old, new)])
    }

    func settings() -> MountSettings { live.withLock { $0 } }
    func policy() -> CachePolicy { live.withLock { $0.policy } }

    /// - Returns: the settings before.
    func replace(_ change: (inout MountSettings) -> Void) -> MountSettings {
        live.withLock { live in
            let old = live
            change(&live)
            versions?.limit(to: live.policy.size)
            return old
        }
    }

    func requireWritable() throws(VFSError) {
        if live.withLock({ $0.readOnly }) { throw VFSError(.readOnly, "the mount is read-only") }
    }

    /// Why no symbolic link is read or made; nil when they are links.
    func linkRefusal(_ code: VFSError.Code) -> VFSError? {
        settings().symlinks == .follow ? nil : VFSError(code, "the mount has no symbolic links")
    }

    // MARK: The kernel

    func attach(_ notifier: any KernelNotifier) { self.notifier.withLock { $0 = notifier } }

    /// Called without a lock.
    func tellKernel(_ action: (any KernelNotifier) -> Void) {
        if let notifier = notifier.withLock({ $0 }) { action(notifier) }
    }

    func invalidate(_ places: [Place]) {
        if places.isEmpty { return }
        tellKernel { for place in places { $0.invalidateEntry(parent: place.parent, name: place.name) } }
    }

    // MARK: Tasks

    /// Brings what is staged in memory to disk.
    func spill(_ staged: StagedFile?) async {
        guard let staged else { return }
        do throws(VFSError) {
            try await BlockingPool.shared.run(name) { () throws(VFSError) in try staged.spill() }
        } catch {
            log.error("bytes that are not stored stay in memory", metadata: ["error": "\(error)"])
        }
    }

    /// Waits until it is so, for the policy's deadline at most, or until the task is cancelled.
    /// - Parameter isMet: asked under the lock of `waiters`, who are resumed when it has come to be so.
    /// - Returns: whether it is so.
    func wait(on waiters: Waiters, until isMet: () -> Bool) async -> Bool {
        if isMet() { return true }
        let deadline = clock.monotonic() + policy().deadline.nanoseconds
        while !isMet() {
            let now = clock.monotonic()
            guard now < deadline, !Task.isCancelled else { return false }
            await waiters.wait(unless: isMet, for: .nanoseconds(deadline - now))
        }
        return true
    }

    /// Begins work that nobody waits for.
    func begin(_ work: @escaping @Sendable () async -> Void) {
        Task(executorPreference: provider.executor) { await work() }
    }
}

/// A name in a directory.
struct Place: Hashable, Sendable {
    let parent: InodeID
    let name: FileName
}

/// The clocks that the file system goes by; tests hold them still.
public struct FilesystemClock: Sendable {
    /// Nanoseconds that never step back.
    public var monotonic: @Sendable () -> UInt64
    public var now: @Sendable () -> Timestamp
    /// Returns after so long, or soon after the task was cancelled.
    public var sleep: @Sendable (Duration) async -> Void

    public init(
        monotonic: @escaping @Sendable () -> UInt64, now: @escaping @Sendable () -> Timestamp,
        sleep: @escaping @Sendable (Duration) async -> Void
    ) {
        self.monotonic = monotonic
        self.now = now
        self.sleep = sleep
    }

    public static let system = FilesystemClock(
        monotonic: { SystemClock.monotonic() }, now: { SystemClock.now() }, sleep: { try? await Task.sleep(for: $0) })
}

extension Duration {
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0 else { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max / 4 : min(product, .max / 4) + UInt64(max(0, attoseconds) / 1_000_000_000)
    }
}
