import CloudMountPlatform
public import CloudMountStaging
public import CloudMountVFS
import Glibc
import Synchronization

/// Bytes of stored versions on the local disk, `DIRECTORY/versions`, for all mounts: what was read or written once is not
/// fetched again. All of it may go at any time.
///
/// `versions/MOUNT/SHARD/VERSION`: a folder for each mount and store, in it 256 by the first byte of the version's name, so that an
/// eviction looks at a part of the versions and the store needs no list of all. Counting what is there is done once, behind the
/// start; before it is done nothing comes in.
public final class VersionStore: Sendable {
    static let mapSuffix = ".map"

    private struct Known: Sendable {
        let identity: ObjectIdentifier
        weak var file: VersionFile?

        init(_ file: VersionFile) { (identity, self.file) = (ObjectIdentifier(file), file) }
    }

    private struct State {
        var files: [VersionID: Known] = [:]
        /// Files that are kept open, the one used longest ago first.
        var recent: [VersionFile] = []
        /// Bytes of the disk by the folders of mounts.
        var usage: [String: Int] = [:]
        /// Beside them: what was taken for bytes that are being written.
        var reserved: [String: Int] = [:]
        /// Until all are: the shards that have been counted, as `FOLDER/SHARD`.
        var countedShards: Set<String> = []
        /// Mounts that run: how many lives of each, and its bound.
        var mounts: [String: (lives: Int, limit: Int)] = [:]
        var isCounted = false
        var isClosed = false
        /// Asked for room so often.
        var takes = 0
        var isShortOfNames = false
        var damaged = 0

        func taken(by folder: String) -> Int { (usage[folder] ?? 0) + (reserved[folder] ?? 0) }

        mutating func release(_ folder: String, _ count: Int) {
            let left = (reserved[folder] ?? 0) - count
            reserved[folder] = left > 0 ? left : nil
        }

        func known(_ id: VersionID) -> VersionFile? {
            // Not by optional chaining, of which Swift 6.3 makes a weak load of no address.
            guard let known = files[id] else { return nil }
            return known.file
        }
    }

    let area: StagingArea
    let directory: String
    /// Of this process: what another has written is checked before it is used.
    let run = UInt32.random(in: 1...UInt32.max)
    let now: @Sendable () -> Timestamp
    private let openLimit: Int
    private let uses = Atomic<UInt64>(1)
    private let work = Atomic(0)
    private let waiting = Atomic(0)
    private let evicting = Mutex(())
    private let relocating = Mutex(())
    private let state = Mutex(State())

    /// - Parameters:
    ///   - area: whose directory and limits it shares.
    ///   - openLimit: files that are kept open when nobody reads them.
    /// - Throws: `permissionDenied`, `noSpace`, `io`.
    public convenience init(_ area: StagingArea, openLimit: Int? = nil) throws(VFSError) {
        // Two descriptors each: a 16th of what the process may open.
        let most = max(8, min(128, StagingArea.processDescriptors() / 32))
        try self.init(area, openLimit: openLimit ?? most, now: { SystemClock.now() })
    }

    init(_ area: StagingArea, openLimit: Int, now: @escaping @Sendable () -> Timestamp) throws(VFSError) {
        self.area = area
        self.openLimit = openLimit
        self.now = now
        directory = area.directory + "/versions"
        try makeDirectories(directory)
        try requireOwn(directory, mode: 0o700)
        area.onPressure { [weak self] in self?.evict($0, for: nil) ?? 0 }
        submit("versions") { self.count() }
    }

    /// Bytes of the disk.
    public var used: Int { state.withLock { $0.usage.values.reduce(0, +) + $0.reserved.values.reduce(0, +) } }

    /// Chunks that were not what had been written.
    public var damaged: Int { state.withLock { $0.damaged } }

    /// What is there has been counted.
    public var isCounted: Bool { state.withLock { $0.isCounted } }

    /// Work that is to be done before the process ends.
    func submit(_ lane: String, _ body: @escaping @Sendable () -> Void) {
        work.add(1, ordering: .relaxed)
        BlockingPool.shared.submit(lane) {
            body()
            self.work.subtract(1, ordering: .releasing)
        }
    }

    /// Adopted files that wait for their checksums, each with its descriptors.
    private static let mostWaiting = 32

    /// - Returns: false when there are enough. Else `waits(-1)` follows.
    func mayWait() -> Bool {
        if waiting.add(1, ordering: .relaxed).newValue <= Self.mostWaiting { return true }
        waits(-1)
        return false
    }

    func waits(_ count: Int) { waiting.add(count, ordering: .relaxed) }

    /// Lets go of what is kept open. What others hold serves on.
    public func close() {
        let left = state.withLock { state in
            defer { (state.recent, state.isClosed) = ([], true) }
            return state.recent
        }
        withExtendedLifetime(left) {}
    }

    /// Returns when all that was to be kept is, or after `seconds`. Blocks.
    public func finish(seconds: Int) {
        let deadline = SystemClock.monotonic() + UInt64(seconds) * 1_000_000_000
        while work.load(ordering: .acquiring) > 0, SystemClock.monotonic() < deadline { usleep(2000) }
    }

    func nextUse() -> UInt64 { uses.add(1, ordering: .relaxed).newValue }
    func noteDamage() { state.withLock { $0.damaged += 1 } }
    func path(of id: VersionID) -> String { "\(directory)/\(id.folder)/\(Self.shard(id.shard))/\(id.name)" }

    private static func shard(_ index: Int) -> String {
        index < 16 ? "0" + String(index, radix: 16) : String(index, radix: 16)
    }

    // MARK: Files

    /// - Parameter isKept: open for who asks next.
    func file(_ id: VersionID, size: Int, isKept: Bool = true) -> VersionFile {
        // What loses its last reference does so outside the lock, which it takes.
        var left: [VersionFile] = []
        let file = state.withLock { state in
            let known = state.known(id)
            if let known {
                left.append(known)
                // By damage alone, for the size is part of the name.
                if known.size != size { return VersionFile(id, size: size, store: self, isIdle: true) }
            }
            let file = known ?? VersionFile(id, size: size, store: self)
            state.files[id] = Known(file)
            guard isKept, !state.isClosed, state.recent.last !== file else { return file }
            if let index = state.recent.firstIndex(where: { $0 === file }) { state.recent.remove(at: index) }
            state.recent.append(file)
            if state.recent.count > openLimit { left.append(state.recent.removeFirst()) }
            return file
        }
        withExtendedLifetime(left) {}
        return file
    }

    func unregister(_ file: VersionFile, _ id: VersionID) {
        let identity = ObjectIdentifier(file)
        state.withLock { state in if state.files[id]?.identity == identity { state.files[id] = nil } }
    }

    /// - Parameter limit: bytes; 0 for none of its own.
    func join(_ folder: String, limit: Int) {
        state.withLock { $0.mounts[folder] = (($0.mounts[folder]?.lives ?? 0) + 1, limit) }
    }

    func limit(_ folder: String, to limit: Int) { state.withLock { $0.mounts[folder]?.limit = limit } }

    /// Of a mount that is remounted the next life may run already.
    func leave(_ folder: String) {
        state.withLock { state in
            guard let mount = state.mounts[folder] else { return }
            state.mounts[folder] = mount.lives > 1 ? (mount.lives - 1, mount.limit) : nil
        }
    }

    func used(by folder: String) -> Int { state.withLock { $0.taken(by: folder) } }

    /// The same bytes are another version. Blocks.
    func relocate(_ old: VersionID, to new: VersionID, size: Int) {
        if old == new { return }
        // Of most of the files of a folder that gets another name nothing is kept.
        if state.withLock({ $0.known(old) }) == nil, access(path(of: old), F_OK) != 0, errno == ENOENT { return }
        let file = file(new, size: size, isKept: false)
        let sealing = relocating.withLock { _ in self.file(old, size: size, isKept: false).move(to: file) }
        // With nothing held: where no thread can be had it is done here.
        if let sealing { submit(sealing.lane) { file.sealAdopted(sealing.descriptor) } }
    }

    // MARK: Room

    /// Takes room for `file`, of what others have if need be. Blocks.
    /// - Parameter isOnDisk: the bytes lie there already.
    func take(_ count: Int, for file: VersionFile, isOnDisk: Bool = false) -> Bool {
        guard isCounted, !isShortOfNames() else { return false }
        let folder = file.id.folder
        let limit = state.withLock { $0.mounts[folder]?.limit ?? 0 }
        // Nothing goes for what can never be kept.
        guard count <= (limit > 0 ? min(limit, area.mostClean) : area.mostClean) else { return false }
        while true {
            let excess = state.withLock { state in
                let excess = limit > 0 ? state.taken(by: folder) + count - limit : 0
                if excess <= 0 { state.reserved[folder, default: 0] += count }
                return excess
            }
            if excess <= 0 { break }
            if evict(in: folder, excess, of: limit) == 0 { return false }
        }
        while !area.takeClean(count, isOnDisk: isOnDisk) {
            guard evict(count, for: folder) > 0 else {
                state.withLock { $0.release(folder, count) }
                return false
            }
        }
        return true
    }

    /// Nothing more comes in then; what is there goes when a writer wants its name. Looked at now and then.
    private func isShortOfNames() -> Bool {
        let isDue = state.withLock { state in
            state.takes += 1
            return state.takes % 256 == 1
        }
        if isDue {
            let isShort = area.isShortOfNames
            state.withLock { $0.isShortOfNames = isShort }
        }
        return state.withLock { $0.isShortOfNames }
    }

    /// - Parameter taken: what was taken for it.
    func changed(_ id: VersionID, by count: Int, taken: Int) {
        let shard = "\(id.folder)/\(Self.shard(id.shard))"
        let change: Int = state.withLock { state in
            state.release(id.folder, taken)
            // What has gone before it was counted is not found then.
            guard state.isCounted || state.countedShards.contains(shard) else { return 0 }
            state.usage[id.folder] = max(0, (state.usage[id.folder] ?? 0) + count)
            return count
        }
        area.changeClean(by: change - taken)
    }

    /// Bytes that are evicted at once, so that the next one has not to look again.
    private static let batch = 16 << 20

    private func evict(_ wanted: Int, for folder: String?) -> Int {
        var passed: Set<String> = []
        var freed = 0
        while freed < wanted, let victim = victim(for: folder, except: passed) ?? uncounted(except: passed) {
            let more = evict(in: victim, wanted - freed, of: area.limit)
            if more == 0 { passed.insert(victim) }
            freed += more
        }
        return freed
    }

    /// Whose versions go: first those of mounts that are no more, then those of the mount that asks, if it has its part, else those of the
    /// one that has most.
    private func victim(for folder: String?, except passed: Set<String>) -> String? {
        state.withLock { state in
            let used = state.usage.filter { $0.value > 0 && !passed.contains($0.key) }
            if let idle = used.keys.filter({ state.mounts[$0] == nil }).min() { return idle }
            let part = used.values.reduce(0, +) / max(1, used.count)
            if let folder, let own = used[folder], own >= part { return folder }
            return used.max { ($0.value, $0.key) < ($1.value, $1.key) }?.key
        }
    }

    /// Writers do not wait until all has been counted.
    private func uncounted(except passed: Set<String>) -> String? {
        if isCounted { return nil }
        return Folder.names(directory)?.filter { !passed.contains($0) }.randomElement()
    }

    private func evict(in folder: String, _ wanted: Int, of limit: Int) -> Int {
        evicting.withLock { _ in
            let batch = max(wanted, min(Self.batch, limit / 64))
            let before = state.withLock { $0.usage[folder] ?? 0 }
            guard let eviction = sample(folder, batch) else { return 0 }
            if eviction.candidates.isEmpty, isCounted {
                // Somebody has removed them by hand.
                let gone = state.withLock { state in
                    let gone = min(before, state.usage[folder] ?? 0)
                    state.usage[folder] = (state.usage[folder] ?? 0) - gone
                    return gone
                }
                area.changeClean(by: -gone)
            }
            var freed = 0
            for candidate in eviction.order {
                if freed >= batch { break }
                let known = state.withLock { $0.known(candidate.id) }
                let file = known ?? file(candidate.id, size: candidate.size, isKept: false)
                freed += file.evict(batch - freed)
            }
            return freed
        }
    }

    /// Nil when the disk does not say what there is.
    private func sample(_ folder: String, _ wanted: Int) -> Eviction? {
        var eviction = Eviction()
        let now = now().seconds
        let uptime = SystemClock.monotonic()
        for shard in (0..<256).shuffled() {
            guard let versions = Folder.versions("\(directory)/\(folder)/\(Self.shard(shard))") else { return nil }
            for entry in versions {
                guard let id = VersionID(name: entry.name, in: folder), id.shard == shard else { continue }
                let used = state.withLock { $0.known(id) }?.lastUse() ?? 0
                let age = used > 0 ? Int(uptime.elapsed(since: used) / 1_000_000_000) : now - entry.modified
                eviction.add(
                    Eviction.Candidate(
                        id: id, size: entry.size, age: age, isSettled: entry.mode & 0o7777 == Eviction.settledMode,
                        bytes: entry.bytes))
            }
            if eviction.isEnough(for: wanted) { break }
        }
        return eviction
    }

    // MARK: The start

    /// A shard at a time; of that nobody evicts meanwhile.
    private func count() {
        for folder in Folder.names(directory) ?? [] {
            for shard in Folder.names("\(directory)/\(folder)") ?? [] {
                evicting.withLock { _ in
                    let versions = Folder.versions("\(directory)/\(folder)/\(shard)") ?? []
                    let bytes = versions.reduce(0) { min($0 + $1.bytes, stat.mostBytes) }
                    state.withLock { state in
                        state.usage[folder] = min((state.usage[folder] ?? 0) + bytes, stat.mostBytes)
                        state.countedShards.insert("\(folder)/\(shard)")
                    }
                    area.changeClean(by: bytes)
                }
            }
        }
        state.withLock { ($0.isCounted, $0.countedShards) = (true, []) }
    }
}
