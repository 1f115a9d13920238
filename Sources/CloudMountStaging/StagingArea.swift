public import CloudMountPlatform
public import CloudMountVFS
import Glibc
import Synchronization

/// Local disk for bytes that no store has yet: `DIRECTORY/staged`, held by one process at a time through
/// `DIRECTORY/lock`, under a hard limit that is reserved before anything is written.
public final class StagingArea: Sendable {
    /// Bytes that were staged and never committed: of an earlier run, or kept after a failed commit.
    public struct Leftover: Sendable, Equatable {
        public var path: String
        /// Bytes on disk.
        public var size: Int
        public var modified: Timestamp

        /// The last component of `path`.
        public var name: String {
            String(path[(path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex)...])
        }
    }

    struct State {
        var used = 0
        var clean = Clean()
        /// Bytes of memory that small files take.
        var memory = 0
        fileprivate var claims: [String: Claim] = [:]
        /// Bytes that may still be reserved before the disk is asked again how much is free.
        var allowance = 0
        /// Files that are about to give their room back.
        var removals = 0
        var waiters: [CloudMountPlatform.Semaphore] = []
        var counter = 0
        /// By their paths.
        var leftovers: [String: Leftover] = [:]
        /// Files that hold a descriptor, the one opened first in front.
        fileprivate var open: [WeakFile] = []
        var openHead = 0
        var limit: Int
        var keepFree: Int
    }

    /// One mount's part of `used`.
    fileprivate struct Claim {
        var bytes = 0
        /// Runs, so that its part is promised to it also while it uses nothing.
        var isEnrolled = false
    }

    fileprivate struct WeakFile: Sendable {
        weak var file: StagedFile?
    }

    /// How much may be written between two looks at the disk's free space, which others use too.
    static let allowanceStep = 16 << 20

    public let directory: String
    /// The directory's file system has no disk (tmpfs).
    public let isInMemory: Bool
    /// Bytes on disk, leftovers included.
    public var limit: Int { state.withLock { $0.limit } }
    /// Bytes of the disk that are left to others, give or take 16 MiB.
    public var keepFree: Int { state.withLock { $0.keepFree } }
    private let descriptorLimit: Int
    private let lock: Descriptor
    /// Of this process alone: what an earlier one has named is never another file's.
    private let run = String(UInt32.random(in: 0...UInt32.max), radix: 36)
    private let earlierPaths: Set<String>
    let state: Mutex<State>

    /// - Parameters:
    ///   - directory: made when missing, with mode 0700.
    ///   - descriptorLimit: staged files beyond this number are closed between uses; nil: a quarter of what the
    ///     process may open.
    /// - Throws: `busy`, naming the holder, when another process has the directory; `permissionDenied`, `noSpace`,
    ///   `io`.
    public init(directory: String, limit: Int, keepFree: Int, descriptorLimit: Int? = nil) throws(VFSError) {
        self.directory = directory
        self.descriptorLimit = max(1, descriptorLimit ?? StagingArea.processDescriptors() / 4)
        try makeDirectories(directory)
        try requireOwn(directory)
        lock = try lockDirectory(directory)
        try makeDirectories(directory + "/staged")
        try requireOwn(directory + "/staged", mode: 0o700)
        isInMemory = CloudMountPlatform.isInMemory(directory: directory + "/staged")
        var initial = State(limit: limit, keepFree: keepFree)
        for leftover in try listLeftovers(directory + "/staged") { initial.leftovers[leftover.path] = leftover }
        initial.used = initial.leftovers.values.reduce(0) { min($0 + $1.size, 1 << 61) }
        earlierPaths = Set(initial.leftovers.keys)
        state = Mutex(initial)
    }

    /// Another process may have the directory from now on: nothing is done with this area any more.
    public func unlock() { flock(lock.raw, LOCK_UN) }

    /// Other limits, for what is written from now on.
    public func limit(to limit: Int, keepFree: Int) {
        state.withLock { state in
            (state.limit, state.keepFree) = (limit, keepFree)
            state.allowance = 0
        }
    }

    /// Bytes taken from `limit`.
    public var used: Int { state.withLock { $0.used } }

    /// More than half of it is taken: who writes had better wait for what was written before.
    public var isCrowded: Bool { state.withLock { $0.used > $0.limit / 2 } }

    /// What lies on disk without an owner, oldest first. One that somebody has removed leaves the list and the limit.
    public var leftovers: [Leftover] {
        let gone = state.withLock { $0.leftovers.keys }.filter { access($0, F_OK) != 0 && errno == ENOENT }
        return state.withLock { state in
            for path in gone { state.used -= state.leftovers.removeValue(forKey: path)?.size ?? 0 }
            return state.leftovers.values.sorted { ($0.modified, $0.path) < ($1.modified, $1.path) }
        }
    }

    /// - Parameter name: of `StagedFile.name`.
    public func leftover(named name: String) -> Leftover? { state.withLock { $0.leftovers[path(of: name)] } }

    private func path(of name: String) -> String { "\(directory)/staged/\(name)" }

    /// Whether there is no such file, held by somebody or not.
    public func isGone(_ name: String) -> Bool { access(path(of: name), F_OK) != 0 && errno == ENOENT }

    /// A new, empty staged file, which takes no room before its first write.
    /// - Parameters:
    ///   - label: what `status` shall find in its name, such as the mount's.
    ///   - memory: whose memory it may take while it is small; nil: it is on disk from its first byte.
    public func makeFile(label: String, memory: MemoryShare? = nil) throws(VFSError) -> StagedFile {
        let plain = label.utf8.prefix(64).map { byte -> Character in
            let isPlain = byte.isLetterOrDigit || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
            return isPlain ? Character(UnicodeScalar(byte)) : "_"
        }
        let (pid, run) = (getpid(), run)
        let path = state.withLock { state in
            while true {
                state.counter += 1
                let path = "\(directory)/staged/\(String(plain))-\(state.counter)-\(pid)-\(run)"
                // A container's processes have the same few ids at each start.
                if !earlierPaths.contains(path) { return path }
            }
        }
        return StagedFile(area: self, path: path, mount: label, memory: memory)
    }

    /// Takes over a file of an earlier run, which is no leftover from then on. It is kept when it is let go of, until `setRecorded(false)`.
    /// - Parameter name: of `StagedFile.name`.
    /// - Returns: nil when it is not there.
    public func reopen(_ name: String, for mount: String) throws(VFSError) -> StagedFile? {
        guard let leftover = leftover(named: name) else { return nil }
        let path = leftover.path
        let blocks = try Self.blocks(path)
        state.withLock { state in
            state.leftovers[path] = nil
            state.used += blocks.total - leftover.size
            change(&state, mount, by: blocks.total)
        }
        return StagedFile(area: self, path: path, mount: mount, existing: blocks)
    }

    /// The blocks of a file that are on disk.
    private static func blocks(_ path: String) throws(VFSError) -> ExtentMap {
        let raw = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard raw >= 0 else { throw localError("\(path) cannot be opened") }
        let descriptor = Descriptor(owning: raw)
        var status = stat()
        guard fstat(raw, &status) == 0 else { throw localError("\(path) cannot be read") }
        var blocks = ExtentMap()
        var offset = 0
        guard status.st_size <= ObjectInfo.sizeLimit else {
            throw VFSError(.tooLarge, "\(path) is longer than any file")
        }
        while let data = descriptor.data(from: offset, before: Int(status.st_size)) {
            let block = StagedFile.block
            blocks.insert(Extent(data.lowerBound / block * block, (data.upperBound + block - 1) / block * block))
            offset = data.upperBound
        }
        return blocks
    }

    /// The names of the staged files are on disk when it returns.
    func syncNames() throws(VFSError) {
        let raw = open(directory + "/staged", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else { throw localError("\(directory)/staged cannot be opened") }
        let descriptor = Descriptor(owning: raw)
        while fsync(descriptor.raw) != 0 {
            if errno != EINTR { throw localError("\(directory)/staged cannot be synced") }
        }
    }

    // MARK: Memory

    /// What small files take of memory at most, and of the whole of it an eighth: a file may stay open for days.
    private static let mostMemory = 16 << 20

    func takeMemory(_ count: Int, of whole: Int) -> Bool {
        state.withLock { state in
            guard state.memory + count <= min(StagingArea.mostMemory, whole / 8) else { return false }
            state.memory += count
            return true
        }
    }

    func giveBackMemory(_ count: Int) { state.withLock { $0.memory -= count } }

    // MARK: Fair shares

    /// Promises `mount` its part: a quarter of the area goes to all mounts in equal parts, which no other mount can take.
    public func enrol(_ mount: String) { state.withLock { $0.claims[mount, default: Claim()].isEnrolled = true } }

    /// The mount is over.
    public func withdraw(_ mount: String) {
        state.withLock { state in
            state.claims[mount]?.isEnrolled = false
            change(&state, mount, by: 0)
        }
    }

    private func change(_ state: inout State, _ mount: String, by count: Int) {
        var claim = state.claims[mount] ?? Claim()
        claim.bytes += count
        state.claims[mount] = claim.bytes == 0 && !claim.isEnrolled ? nil : claim
    }

    /// What of `whole` the others may still take of their promised parts.
    private func promised(_ state: State, except mount: String, of whole: Int) -> Int {
        let part = whole / 4 / max(1, state.claims.count)
        return state.claims.reduce(0) { $1.key == mount ? $0 : $0 + max(0, part - $1.value.bytes) }
    }

    // MARK: For StagedFile

    enum Reservation {
        case granted, diskUnknown, full
        /// There would be room, but for so many clean bytes.
        case crowded(Int)
    }

    /// Takes `count` bytes from the limit, without I/O.
    func reserve(_ count: Int, for mount: String) -> Reservation {
        state.withLock { state in
            // All promises together are a quarter.
            if state.used + count > state.limit / 4 * 3 {
                guard state.used + count + promised(state, except: mount, of: state.limit) <= state.limit else {
                    return .full
                }
            }
            let excess = state.used + state.clean.bytes + count - state.limit
            if excess > 0 { return .crowded(excess) }
            guard state.allowance >= count else { return .diskUnknown }
            state.used += count
            change(&state, mount, by: count)
            state.allowance -= count
            return .granted
        }
    }

    /// Asks the disk whether `count` more bytes leave enough of it free.
    func askDisk(_ count: Int, for mount: String) throws(VFSError) {
        let keepFree = keepFree
        guard let spare = spareBytes() else { throw localError("the free space of \(directory) is not known") }
        let free = spare + keepFree
        guard spare >= count else {
            throw VFSError(
                .noSpace, "the disk of \(directory) has \(free) bytes free, of which \(keepFree) are to stay so")
        }
        let isGranted = state.withLock { state in
            // The disk may have less than the limit allows.
            let others = promised(state, except: mount, of: min(state.limit, state.used + free - keepFree))
            guard free - keepFree >= count + others else { return false }
            state.allowance = max(count, min(free - keepFree - others, StagingArea.allowanceStep))
            return true
        }
        guard isGranted else {
            throw VFSError(
                .noSpace, "the disk of \(directory) has \(free) bytes free, kept for others and for other mounts")
        }
    }

    /// Bytes that the disk has beyond what is to stay free; nil when it does not say.
    public func spareBytes() -> Int? {
        var disk = statvfs()
        guard statvfs(directory, &disk) == 0 else { return nil }
        return diskBytes(UInt64(disk.f_bavail), of: UInt64(disk.f_frsize)) - keepFree
    }

    /// Whether the disk has few names for files left, which others need more than what could be fetched again. Some file systems count none.
    public var isShortOfNames: Bool {
        var disk = statvfs()
        guard statvfs(directory, &disk) == 0 else { return false }
        return disk.f_files > 0 && disk.f_favail < disk.f_files / 32
    }

    func giveBack(_ count: Int, of mount: String) {
        guard count > 0 else { return }
        state.withLock { state in
            state.used -= count
            change(&state, mount, by: -count)
        }
    }

    func removalBegins() { state.withLock { $0.removals += 1 } }

    func removalEnds() {
        let waiters: [CloudMountPlatform.Semaphore] = state.withLock { state in
            state.removals -= 1
            // One by one: each may be enough.
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.signal() }
    }

    /// Returns when a file that was being removed has given its room back; false when none has.
    func waitForRemovals() -> Bool {
        let waiter = CloudMountPlatform.Semaphore()
        let isDue = state.withLock { state in
            guard state.removals > 0 else { return false }
            state.waiters.append(waiter)
            return true
        }
        // Not for ever: it may be behind the caller in the same queue of disk work.
        return isDue && waiter.wait(seconds: 2)
    }

    /// Returns when all files that have lost their last reference are gone from the disk, or after `seconds`. Blocks. Before the
    /// process ends: what is not removed by then would be a leftover.
    public func finishRemovals(seconds: Int) {
        let deadline = SystemClock.monotonic() + UInt64(seconds) * 1_000_000_000
        while state.withLock({ $0.removals > 0 }), SystemClock.monotonic() < deadline { _ = waitForRemovals() }
    }

    /// Its bytes stay, and stay counted.
    func adopt(_ leftover: Leftover, of mount: String) {
        state.withLock { state in
            change(&state, mount, by: -leftover.size)
            state.leftovers[leftover.path] = leftover
        }
    }

    /// Notes that `file` holds a descriptor, and lets go of the oldest one when there are too many.
    func opened(_ file: StagedFile) {
        // A file whose last reference is one of these goes outside the lock, which it takes.
        var seen: [StagedFile] = []
        let crowded: StagedFile? = state.withLock { state in
            state.open.append(WeakFile(file: file))
            if state.open.count > 2 * descriptorLimit + 64 {
                state.open.removeFirst(state.openHead)
                state.openHead = 0
                seen = state.open.compactMap(\.file)
                state.open = seen.map { WeakFile(file: $0) }
            }
            while state.open.count - state.openHead > descriptorLimit {
                state.openHead += 1
                if let file = state.open[state.openHead - 1].file { return file }
            }
            return nil
        }
        crowded?.closeDescriptor()
        withExtendedLifetime(seen) {}
    }

    /// Descriptors that the process may have.
    public static func processDescriptors() -> Int {
        var limits = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits) == 0 else { return 256 }
        return Int(clamping: limits.rlim_cur)
    }
}
