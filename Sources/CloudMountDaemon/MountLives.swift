import CloudMountConfig
import CloudMountVFS

/// The table of lives: which there are, what follows one that ends, and when all have ended.
@Supervision
final class MountLives {
    private(set) var all: [MountLife.ID: MountLife] = [:]
    /// Names, as the file has them.
    var order: [String]
    /// A reload may still bring more.
    private(set) var isReloading = false
    private(set) var isStopping = false
    private var nextID = 0
    private var waiters: [CheckedContinuation<Void, Never>] = []
    /// By name, of those that have left the table.
    private var endings: [String: MountLife.Ending] = [:]
    /// Called when a mount is to be remounted though no reload has asked for that.
    var whenPending: @Supervision () -> Void = {}
    private let around: MountLife.Surroundings

    nonisolated init(_ mounts: [Configuration.Mount], _ around: MountLife.Surroundings) {
        order = mounts.map(\.name)
        self.around = around
        for mount in mounts {
            all[nextID] = MountLife(nextID, mount, around)
            nextID += 1
        }
    }

    /// Starts all at once; returns when every one has ended, with what each left behind.
    func run() async -> [String: MountLife.Ending] {
        for life in all.values { start(life) }
        if !isOver { await withCheckedContinuation { waiters.append($0) } }
        for life in all.values { if case .ended(let ending) = life.phase { note(ending, of: life) } }
        all = [:]
        return endings
    }

    /// Every mount has ended, and none is to come.
    var isOver: Bool { !isReloading && all.values.allSatisfy { !$0.hasNotEnded } }

    private func endIfOver() {
        guard isOver else { return }
        for waiter in waiters { waiter.resume() }
        waiters = []
    }

    /// Begins the life of one more mount.
    func add(_ mount: Configuration.Mount) {
        let life = MountLife(nextID, mount, around)
        nextID += 1
        all[life.id] = life
        if isStopping { life.refuse() }
        start(life)
    }

    private func start(_ life: MountLife) {
        life.whenPending = { [weak self] in self?.whenPending() }
        life.whenEnded = { [weak self] life, ending in self?.ended(life, ending) }
        Task { await life.serve() }
    }

    private func ended(_ life: MountLife, _ ending: MountLife.Ending) {
        if life.isForgotten {
            note(ending, of: life)
            all[life.id] = nil
        }
        if let successor = life.successor { add(successor) }
        for other in all.values where other.mount.path == life.mount.path { other.retry() }
        endIfOver()
    }

    private func note(_ ending: MountLife.Ending, of life: MountLife) {
        var sum = endings[life.name] ?? MountLife.Ending()
        sum.dirtyFiles += ending.dirtyFiles
        sum.dirtyBytes = sum.dirtyBytes.addingSaturated(ending.dirtyBytes)
        sum.stagedPaths += ending.stagedPaths
        endings[life.name] = sum
    }

    /// No more of those that are over, by this name.
    func removeEnded(_ name: String) {
        for (id, life) in all where life.name == name && !life.hasNotEnded { all[id] = nil }
    }

    func beginReload() { isReloading = true }

    func endReload() {
        isReloading = false
        endIfOver()
    }

    /// From now on nothing begins.
    /// - Returns: false when that was so already.
    func beginStop() -> Bool {
        defer { isStopping = true }
        return !isStopping
    }

    // MARK: Looking

    /// In the order of the file; of one name, the older first.
    var sorted: [MountLife] {
        let places = Dictionary(order.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        func place(_ life: MountLife) -> Int { places[life.name] ?? .max }
        return all.values.sorted { (place($0), $0.id) < (place($1), $1.id) }
    }

    /// By name: the lives that are not over, nor out of the file system already.
    var current: [String: MountLife] {
        var lives: [String: MountLife] = [:]
        for life in all.values where life.hasNotEnded && !life.isUnwanted && !life.isForgotten && !life.isDetached {
            if let other = lives[life.name], other.id > life.id { continue }
            lives[life.name] = life
        }
        return lives
    }

    /// - Throws: `notFound`.
    func mounted(at path: String) throws(VFSError) -> (MountLife, any RunningMount) {
        for life in sorted {
            guard life.mount.path.utf8.elementsEqual(path.utf8), !life.isDetached,
                case .mounted(let running) = life.phase
            else { continue }
            return (life, running)
        }
        throw VFSError(.notFound, "nothing of this daemon is mounted at \(path)")
    }
}
