public import CloudMountPlatform
public import CloudMountVFS
import Glibc
import Synchronization

/// The new bytes of one file until its commit: in memory while they are few and there is room, else in a sparse local
/// file. Gone when the last reference goes, unless `keep` was called.
///
/// Any thread may call; calls block on local disk only. Which of its bytes count is for the caller's `FileImage` to
/// say.
public final class StagedFile: Sendable {
    struct State {
        var memory: StagedMemory?
        /// Space reserved, in whole blocks: at least those that the file has on disk.
        var blocks = ExtentMap()
        /// Blocks of writes that are under way, by number, and of those that have ended since a cut began that is under way:
        /// a cut leaves their reservation alone.
        var writes: [Int: Extent] = [:]
        var endedWrites: [Extent] = []
        var nextWrite = 0
        var cuts = 0
        /// Counts changes of the bytes, begun ones too.
        var version = 0
        var heir: Heir?
        var isReopened = false
        var exists = false
        var kept = false
        /// A record of the journal names it.
        var isRecorded = false
        var hasExcess = false
        /// The directory's entry is on disk too.
        var isNamedOnDisk = false
        var syncFailure: VFSError?
        var descriptor: Descriptor?
    }

    /// What is left of the file when nobody needs it any more.
    public enum Remains: Sendable {
        /// At its path, from where it may be moved.
        case file(String)
        /// Its first bytes.
        case memory(PooledBuffer, count: Int)
    }

    struct Heir: Sendable {
        let version: Int
        let take: @Sendable (Remains) -> Void
    }

    /// Space is counted in blocks of the disk, not in bytes: one byte takes a block.
    static let block = 4096

    /// Where the bytes are once they are on disk.
    public let path: String
    /// The last component of `path`, by which the bytes are found when this object is gone.
    public var name: String { String(path[(path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex)...]) }
    let area: StagingArea
    private let mount: String
    let state: Mutex<State>
    /// Held over the disk's work by who brings the bytes from memory to disk, so that nobody does it twice.
    let spilling = Mutex(())
    /// Held over the making of the file on disk.
    private let making = Mutex(())

    init(area: StagingArea, path: String, mount: String, memory: MemoryShare?) {
        self.area = area
        self.mount = mount
        self.path = path
        state = Mutex(State(memory: memory.map { StagedMemory(share: $0) }))
    }

    /// A file of an earlier run.
    /// - Parameter blocks: that it has on disk; reserved already.
    init(area: StagingArea, path: String, mount: String, existing blocks: ExtentMap) {
        self.area = area
        self.mount = mount
        self.path = path
        var state = State(blocks: blocks)
        (state.exists, state.isRecorded, state.isNamedOnDisk) = (true, true, true)
        state.isReopened = true
        self.state = Mutex(state)
    }

    deinit {
        let last = state.withLock { state in
            defer { state.descriptor = nil }
            return state
        }
        if let memory = last.memory { area.giveBackMemory(memory.room) }
        let (area, mount, path) = (area, mount, path)
        let count = last.blocks.total
        let heir = last.heir.flatMap { $0.version == last.version ? $0 : nil }
        if let heir, let memory = last.memory, let buffer = memory.buffer {
            let length = memory.count
            area.removalBegins()
            BlockingPool.shared.submit(mount) {
                heir.take(.memory(buffer, count: length))
                area.removalEnds()
            }
        }
        guard last.exists else { return area.giveBack(count, of: mount) }
        // The last reference may go on a thread that must not wait for a disk, and freeing space takes it a while.
        if last.kept || last.isRecorded {
            area.adopt(StagingArea.Leftover(path: path, size: count, modified: SystemClock.now()), of: mount)
            return BlockingPool.shared.submit(mount) { withExtendedLifetime(last.descriptor) {} }
        }
        area.removalBegins()
        let isOnDisk = last.memory == nil
        BlockingPool.shared.submit(mount) {
            if isOnDisk, let heir {
                // Who takes it has the room.
                area.giveBack(count, of: mount)
                heir.take(.file(path))
            }
            // Not only when the descriptor is closed.
            if count > 16 << 20 { Glibc.truncate(path, 0) }
            unlink(path)
            withExtendedLifetime(last.descriptor) {}
            if !isOnDisk || heir == nil { area.giveBack(count, of: mount) }
            area.removalEnds()
        }
    }

    /// Counts changes of the bytes, wherever they are; nil while one is under way, and for a file of an earlier run: what that has sent of it
    /// is not known.
    public var version: Int? {
        state.withLock { $0.writes.isEmpty && $0.cuts == 0 && !$0.isReopened ? $0.version : nil }
    }

    /// When nobody needs the file any more, `take` has its bytes, if they are still those of `version`; what it leaves of them goes. It is
    /// called on the pool for blocking work.
    public func leave(_ version: Int, to take: @escaping @Sendable (Remains) -> Void) {
        state.withLock { $0.heir = Heir(version: version, take: take) }
    }

    /// Bytes of the area's limit that this file takes.
    public var used: Int { state.withLock { $0.blocks.total } }

    /// Writes all of `bytes` or throws; after a throw none of them counts as written.
    /// - Throws: `noSpace` (the area's limit, the space to be left free, the disk itself), `io`.
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(VFSError) {
        guard bytes.count > 0 else { return }
        if writeToMemory(bytes, at: offset) { return }
        try spill()
        try writeToDisk(bytes, at: offset)
    }

    /// - Parameter changes: the file's bytes become others.
    func writeToDisk(_ bytes: UnsafeRawBufferPointer, at offset: Int, changes: Bool = true) throws(VFSError) {
        let write = try reserve(Extent(offset: offset, count: bytes.count), changes: changes)
        defer { ended(write) }
        // A failure below leaves the reservation as it is: some of the bytes may be on disk.
        let descriptor = try open(creating: true)
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count = pwrite(descriptor.raw, rest.baseAddress, rest.count, offset + done)
            guard count > 0 else {
                let error = count == 0 ? EIO : errno
                if error == EINTR { continue }
                if error == ENOSPC, area.evict(rest.count) > 0 || area.waitForRemovals() { continue }
                throw localError("\(path) cannot be written", error)
            }
            done += count
        }
    }

    /// Reads up to `buffer.count` bytes; fewer only at the file's end. Bytes never written are zeros.
    public func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        if let count = readFromMemory(at: offset, into: buffer) { return count }
        guard state.withLock({ $0.exists }) else { return 0 }
        let descriptor = try open(creating: false)
        var done = 0
        while done < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let count = pread(descriptor.raw, rest.baseAddress, rest.count, offset + done)
            if count < 0 {
                if errno == EINTR { continue }
                throw localError("\(path) cannot be read")
            }
            if count == 0 { break }
            done += count
        }
        return done
    }

    /// - Parameter extents: of bytes that were written.
    /// - Throws: `io`, also when they are not there; `noSpace`.
    public func copy(_ extents: ExtentMap, to copy: StagedFile) throws(VFSError) {
        for extent in extents.extents(from: 0) {
            let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: extent.count, alignment: 16)
            defer { bytes.deallocate() }
            guard try read(at: extent.lowerBound, into: bytes) == bytes.count else {
                throw VFSError(.io, "bytes of \(path) are gone")
            }
            try copy.write(UnsafeRawBufferPointer(bytes), at: extent.lowerBound)
        }
    }

    /// As `read`, of bytes that memory or the kernel's page cache holds; nil, or fewer, where the disk would have to be
    /// asked. Never 0.
    public func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        if let count = readFromMemory(at: offset, into: buffer) { return count > 0 ? count : nil }
        guard buffer.count > 0, let descriptor = state.withLock({ $0.descriptor }) else { return nil }
        let count =
            area.isInMemory
            ? pread(descriptor.raw, buffer.baseAddress, buffer.count, offset)
            : descriptor.readNow(at: offset, into: buffer) ?? 0
        return count > 0 ? count : nil
    }

    /// Drops the bytes of `extent`, which are zeros from then on, and gives their space back, where the disk's file system
    /// can.
    public func punch(_ extent: Extent) throws(VFSError) {
        guard !extent.isEmpty else { return }
        if punchMemory(extent) { return }
        guard state.withLock({ $0.exists }) else { return }
        try cutting { () throws(VFSError) -> Extent? in
            let descriptor = try open(creating: false)
            guard descriptor.punchHole(offset: extent.lowerBound, count: extent.count) else { return nil }
            return Extent(
                StagedFile.roundUp(extent.lowerBound), extent.upperBound / StagedFile.block * StagedFile.block)
        }
    }

    /// Drops all bytes from `size` on. A file that is shorter stays so.
    public func truncate(to size: Int) throws(VFSError) {
        if truncateMemory(to: size) { return }
        try truncateOnDisk(to: size)
    }

    func truncateOnDisk(to size: Int) throws(VFSError) {
        // What is on disk is reserved.
        guard state.withLock({ $0.exists && $0.blocks.upperBound > size }) else { return }
        try cutting { () throws(VFSError) -> Extent? in
            let descriptor = try open(creating: false)
            var status = stat()
            guard fstat(descriptor.raw, &status) == 0 else { throw localError("\(path) cannot be read") }
            while status.st_size > size, ftruncate(descriptor.raw, size) != 0 {
                if errno != EINTR { throw localError("\(path) cannot be cut") }
            }
            return Extent(StagedFile.roundUp(size), .max)
        }
    }

    /// Gives back what `cut` says is no longer on disk, but for the blocks of writes that are under way at any time of it.
    private func cutting(_ cut: () throws(VFSError) -> Extent?) throws(VFSError) {
        state.withLock { state in
            state.cuts += 1
            state.version += 1
        }
        let result: Result<Extent?, VFSError>
        do throws(VFSError) { result = .success(try cut()) } catch { result = .failure(error) }
        let freed = state.withLock { state in
            state.cuts -= 1
            defer { if state.cuts == 0 { state.endedWrites = [] } }
            guard case .success(let gone?) = result, !gone.isEmpty else { return 0 }
            let kept = ExtentMap(Array(state.writes.values) + state.endedWrites)
            return kept.gaps(in: gone).reduce(0) { $0 + state.blocks.remove($1) }
        }
        area.giveBack(freed, of: mount)
        _ = try result.get()
    }

    /// Leaves the bytes that are on disk there when this object goes, listed among the area's leftovers.
    public func keep(_ isKept: Bool = true) { state.withLock { $0.kept = isKept } }

    /// As `keep`, for as long as a record names the bytes.
    public func setRecorded(_ isRecorded: Bool) { state.withLock { $0.isRecorded = isRecorded } }

    /// It holds bytes that its file has not.
    public var hasExcess: Bool { state.withLock { $0.hasExcess } }
    public func noteExcess() { state.withLock { $0.hasExcess = true } }

    /// Brings the bytes to disk, so that they outlive the machine too.
    /// - Throws: `noSpace`, `io`.
    public func sync() throws(VFSError) {
        try spill()
        guard state.withLock({ $0.exists }) else { return }
        let descriptor = try open(creating: false)
        if let failure = state.withLock({ $0.syncFailure }) { throw failure }
        while fdatasync(descriptor.raw) != 0 {
            if errno == EINTR { continue }
            // The kernel says so once, and has dropped what it could not write.
            let failure = localError("\(path) cannot be synced")
            state.withLock { $0.syncFailure = failure }
            throw failure
        }
        if state.withLock({ $0.isNamedOnDisk }) { return }
        try area.syncNames()
        state.withLock { $0.isNamedOnDisk = true }
    }

    /// Lets go of the descriptor until the next use; one that is in use stays open till then.
    func closeDescriptor() {
        let descriptor = state.withLock { state in
            defer { state.descriptor = nil }
            return state.descriptor
        }
        withExtendedLifetime(descriptor) {}
    }

    private static func roundUp(_ offset: Int) -> Int { (offset + block - 1) / block * block }

    /// Takes room for the blocks of `extent` and notes that they are being written, until `ended`.
    private func reserve(_ extent: Extent, changes: Bool) throws(VFSError) -> Int {
        let blocks = Extent(
            extent.lowerBound / StagedFile.block * StagedFile.block, StagedFile.roundUp(extent.upperBound))
        var looksLeft = 4
        while true {
            var wanted = 0
            var number = 0
            let reservation: StagingArea.Reservation = state.withLock { state in
                wanted = state.blocks.gaps(in: blocks).reduce(0) { $0 + $1.count }
                let reservation = wanted > 0 ? area.reserve(wanted, for: mount) : .granted
                guard case .granted = reservation else { return reservation }
                state.blocks.insert(blocks)
                state.nextWrite += 1
                number = state.nextWrite
                state.writes[number] = blocks
                if changes { state.version += 1 }
                return .granted
            }
            switch reservation {
            case .granted: return number
            case .diskUnknown where looksLeft > 0:
                do throws(VFSError) {
                    try area.askDisk(wanted, for: mount)
                } catch {
                    // As long as something comes back.
                    if area.evict(area.shortage(of: wanted)) > 0 { continue }
                    guard area.waitForRemovals() else { throw error }
                }
            case .crowded(let excess) where looksLeft > 0:
                if area.evict(excess) > 0 { continue }
                _ = area.waitForRemovals()
            case .full where area.waitForRemovals(): continue
            case .full where looksLeft > 0:
                // A leftover may have been removed by hand meanwhile.
                looksLeft = 1
                _ = area.leftovers
            default:
                throw VFSError(.noSpace, "the \(area.limit) bytes for staged files in \(area.directory) are used up")
            }
            looksLeft -= 1
        }
    }

    private func ended(_ write: Int) {
        state.withLock { state in
            guard let blocks = state.writes.removeValue(forKey: write), state.cuts > 0 else { return }
            state.endedWrites.append(blocks)
        }
    }

    private func open(creating: Bool) throws(VFSError) -> Descriptor {
        if !creating || state.withLock({ $0.exists }) { return try open(O_RDWR) }
        return try making.withLock { _ throws(VFSError) in
            // A file that is there already is somebody else's.
            try open(state.withLock { $0.exists } ? O_RDWR : O_RDWR | O_CREAT | O_EXCL)
        }
    }

    private func open(_ flags: Int32) throws(VFSError) -> Descriptor {
        if let present = state.withLock({ $0.descriptor }) { return present }
        let flags = flags | O_CLOEXEC | O_NOFOLLOW
        var raw = Glibc.open(path, flags, 0o600)
        while raw < 0, errno == EINTR { raw = Glibc.open(path, flags, 0o600) }
        // The disk may be out of names for files, of which what others could do without has some.
        for _ in 0..<8 where raw < 0 && errno == ENOSPC {
            if area.evict(Self.block) == 0, !area.waitForRemovals() {
                errno = ENOSPC
                break
            }
            raw = Glibc.open(path, flags, 0o600)
        }
        guard raw >= 0 else { throw localError("\(path) cannot be opened") }
        let mine = Descriptor(owning: raw)
        let (descriptor, isNew) = state.withLock { state in
            state.exists = true
            if let other = state.descriptor { return (other, false) }
            state.descriptor = mine
            return (mine, true)
        }
        if isNew { area.opened(self) }
        return descriptor
    }
}
