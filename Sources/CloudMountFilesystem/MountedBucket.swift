public import CloudMountPlatform
public import CloudMountStaging
public import CloudMountVFS
import Logging
import Synchronization

/// One bucket (or a prefix of one) as a file system.
///
/// What can be answered from memory or local disk is answered on the calling thread; the rest goes to a task that owns
/// the reply.
///
/// Lock order, outermost first: `namespace`, a content's `state`, an open file's or open directory's state, a fetch, the
/// buffer pool, the staging area, `live`. `handles`, `lookups` and `heads` are taken alone. Inside a lock nothing is awaited, nothing
/// is asked of the store, and no closure from outside runs but a packer's.
public final class MountedBucket: FileOperations {
    struct Handles {
        var files: [HandleID: OpenFile] = [:]
        var directories: [HandleID: OpenDirectory] = [:]
        var next: HandleID = 1
    }

    struct LookupKey: Hashable {
        let parent: InodeID
        let name: FileName
    }

    /// Replaced as a whole by `update`. A leaf among the locks.
    let live: Mutex<MountSettings>
    let provider: any ObjectProvider
    let capabilities: Capabilities
    let staging: StagingArea
    let memory: MemoryShare
    /// Why a write begun now would not be stored.
    let refusesWrites: @Sendable () -> VFSError?
    /// Drained once: what is written from then on is on disk at once, for the drain may be given up at any moment.
    let isEnding = Atomic(false)
    let log: Logger
    let namespace: Mutex<Namespace>
    let handles = Mutex(Handles())
    let notifier = Mutex<(any KernelNotifier)?>(nil)
    let lookups: SingleFlight<LookupKey, InodeID?>
    let heads: SingleFlight<InodeID, Void>

    /// - Parameters:
    ///   - provider: prepared, and already wrapped in its layers.
    ///   - staging: where the bytes of writers are kept until they are committed; shared by all mounts.
    ///   - memory: the process-wide budget for bytes read ahead; shared by all mounts.
    ///   - refusesWrites: asked before each create and write, on the thread that serves it: why it would not be stored; nil lets it be.
    public init(
        settings: MountSettings, provider: any ObjectProvider, staging: StagingArea, memory: BufferPool,
        refusesWrites: @escaping @Sendable () -> VFSError? = { nil }
    ) {
        self.refusesWrites = refusesWrites
        live = Mutex(settings)
        self.provider = provider
        capabilities = provider.capabilities
        lookups = SingleFlight(executor: provider.executor)
        heads = SingleFlight(executor: provider.executor)
        self.staging = staging
        staging.enrol(settings.name)
        self.memory = memory.share()
        var log = Logger(label: "cloudmount.filesystem")
        log[metadataKey: "mount"] = .string(settings.name)
        self.log = log
        let root = Node(
            id: Namespace.root, parent: 0, name: FileName(unchecked: "/"), kind: .directory,
            permissions: settings.directoryPermissions, uid: settings.uid, gid: settings.gid, time: SystemClock.now())
        root.isKnown = true
        root.lookups = 1
        root.directory?.marker = .present
        namespace = Mutex(Namespace(root: root))
    }

    public var settings: MountSettings { live.withLock { $0 } }
    var policy: CachePolicy { live.withLock { $0.policy } }
    /// Nanoseconds.
    var metadataTTL: UInt64 { live.withLock { $0.policy.effectiveMetadataTTL } }
    var negativeTTL: UInt64 { live.withLock { $0.policy.effectiveNegativeTTL } }

    deinit { staging.withdraw(settings.name) }

    /// Whom to tell of changes that the kernel must learn of; set once, before the first request.
    public func attach(_ notifier: any KernelNotifier) { self.notifier.withLock { $0 = notifier } }

    func tellKernel(_ action: (any KernelNotifier) -> Void) {
        if let notifier = notifier.withLock({ $0 }) { action(notifier) }
    }

    // MARK: The slow path

    /// What the kernel remembers something of.
    enum Subject: Sendable {
        case name(FileName, in: InodeID)
        case inode(InodeID)
    }

    /// Answers with what `work` brings; an interrupted caller is answered at once.
    /// - Parameters:
    ///   - subjects: the work changes these in the store. It is then brought to its end, or to its own undoing, also when
    ///     nobody waits for it any more, and the kernel is told to look again. Without any, an interruption cancels it.
    ///   - discard: lets go of a value that came after the interruption.
    func slow<Value: Sendable>(
        _ reply: consuming Reply<Value>, changing subjects: [Subject] = [],
        discard: @escaping @Sendable (Value) -> Void = { _ in },
        _ work: @escaping @Sendable () async throws(VFSError) -> Value
    ) {
        let canceller = Canceller()
        let box = ReplyBox(reply)
        box.onInterrupt {
            if subjects.isEmpty { canceller.cancel() }
            box.fail(.cancelled)
        }
        canceller.set(
            Task(executorPreference: provider.executor) {
                let result = await attempt(work)
                if let reply = box.take() {
                    switch result {
                    case .success(let value): reply.send(value)
                    case .failure(let error): reply.fail(error)
                    }
                } else {
                    if case .success(let value) = result { discard(value) }
                    self.forget(subjects)
                }
            })
    }

    private func forget(_ subjects: [Subject]) {
        if subjects.isEmpty { return }
        tellKernel { kernel in
            for subject in subjects {
                switch subject {
                case .name(let name, in: let parent): kernel.invalidateEntry(parent: parent, name: name)
                case .inode(let inode): kernel.invalidateInode(inode, extent: Extent(0, .max))
                }
            }
        }
    }

    func discard(_ entry: Entry) {
        if let inode = entry.attributes?.inode { forget(inode, count: 1) }
    }

    func discard(_ created: CreateReply) {
        guard let inode = created.entry.attributes?.inode else { return }
        release(inode, handle: created.open.handle, reply: Reply { _ in })
        forget(inode, count: 1)
    }

    // MARK: What is believed, and for how long

    func expiry(_ now: UInt64) -> UInt64 { now + metadataTTL }

    /// Whether a node can be shown without asking the store.
    func isFresh(_ node: Node, _ now: UInt64) -> Bool {
        node.id == Namespace.root || node.validUntil > now || node.isHeld
            || node.isStale && node.staleSince + Self.staleTime > now
    }

    /// Whether the node's attributes are as good as they will get without asking.
    func isDescribed(_ node: Node, in directory: Directory) -> Bool {
        node.isKnown || directory.evidence == .absent || node.version == nil && node.kind != .directory
    }

    /// The node as the kernel gets it; counts a lookup.
    func entry(for node: Node, _ now: UInt64) -> Entry {
        node.lookups += 1
        node.kernelIsBehind = false
        let valid = validity(node, now)
        return Entry(attributes: node.attributes, validFor: valid, attributesValidFor: valid)
    }

    func validity(_ node: Node, _ now: UInt64) -> Duration {
        if node.validUntil > now { return .nanoseconds(node.validUntil - now) }
        if node.isStale { return Self.staleValidity }
        return isFresh(node, now) ? .nanoseconds(metadataTTL) : .zero
    }

    func requireWritable() throws(VFSError) {
        if settings.readOnly { throw VFSError(.readOnly, "the mount is read-only") }
    }

    func statfs(fake blocks: UInt64 = 1 << 38) -> FileSystemStatistics {
        FileSystemStatistics(blocks: blocks, freeBlocks: blocks, files: 1 << 40, freeFiles: 1 << 40)
    }

    public func statfs(reply: consuming Reply<FileSystemStatistics>) { reply.send(statfs()) }

    public func access(_ inode: InodeID, mask: Int32, caller: Caller, reply: consuming Reply<Void>) { reply.send() }
}

/// Cancels a task that may not have been made yet.
final class Canceller: Sendable {
    private let state = Mutex<(task: Task<Void, Never>?, isCancelled: Bool)>((nil, false))

    func set(_ task: Task<Void, Never>) {
        let cancelled = state.withLock { state in
            state.task = task
            return state.isCancelled
        }
        if cancelled { task.cancel() }
    }

    func cancel() {
        let task = state.withLock { state in
            state.isCancelled = true
            return state.task
        }
        task?.cancel()
    }
}

extension Duration {
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        return seconds < 0 ? 0 : UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    }
}
