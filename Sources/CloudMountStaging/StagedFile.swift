import CloudMountPlatform
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
        /// Space reserved, in whole blocks.
        var blocks = ExtentMap()
        var exists = false
        var kept = false
        var descriptor: Descriptor?
    }

    /// Space is counted in blocks of the disk, not in bytes: one byte takes a block.
    static let block = 4096

    /// Where the bytes are once they are on disk.
    public let path: String
    let area: StagingArea
    private let mount: String
    let state: Mutex<State>
    /// Held over the disk's work by who brings the bytes from memory to disk, so that nobody does it twice.
    let spilling = Mutex(())

    init(area: StagingArea, path: String, mount: String, memory: MemoryShare?) {
        self.area = area
        self.mount = mount
        self.path = path
        state = Mutex(State(memory: memory.map { StagedMemory(share: $0) }))
    }

    deinit {
        let last = state.withLock { state in
            defer { state.descriptor = nil }
            return state
        }
        if let memory = last.memory { area.giveBackMemory(memory.room) }
        let (area, mount, path) = (area, mount, path)
        let count = last.blocks.total
        guard last.exists else { return area.giveBack(count, of: mount) }
        if last.kept {
            guard var leftover = leftover(path) else { return area.giveBack(count, of: mount) }
            leftover.size = count
            return area.adopt(leftover, of: mount)
        }
        let remove: @Sendable () -> Void = {
            unlink(path)
            area.giveBack(count, of: mount)
            withExtendedLifetime(last.descriptor) {}
        }
        guard count > 16 << 20 else { return remove() }
        // Freeing much space takes the disk a while.
        area.removalBegins()
        BlockingPool.shared.submit {
            // Not only when the descriptor is closed.
            Glibc.truncate(path, 0)
            remove()
            area.removalEnds()
        }
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

    func writeToDisk(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(VFSError) {
        try reserve(Extent(offset: offset, count: bytes.count))
        // A failure below leaves the reservation as it is: some of the bytes may be on disk.
        let descriptor = try open(creating: true)
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count = pwrite(descriptor.raw, rest.baseAddress, rest.count, offset + done)
            if count < 0 {
                let error = errno
                if error == EINTR || error == ENOSPC && area.waitForRemovals() { continue }
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

    /// Drops the bytes of `extent` and gives their space back, where the disk's file system can.
    public func punch(_ extent: Extent) throws(VFSError) {
        guard !extent.isEmpty, state.withLock({ $0.exists }) else { return }
        let descriptor = try open(creating: false)
        guard descriptor.punchHole(offset: extent.lowerBound, count: extent.count) else { return }
        let whole = Extent(
            StagedFile.roundUp(extent.lowerBound), extent.upperBound / StagedFile.block * StagedFile.block)
        area.giveBack(state.withLock { $0.blocks.remove(whole) }, of: mount)
    }

    /// Drops all bytes from `size` on. A file that is shorter stays so.
    public func truncate(to size: Int) throws(VFSError) {
        if truncateMemory(to: size) { return }
        let isLonger = state.withLock { $0.exists && $0.blocks.upperBound > size }
        guard isLonger else { return }
        let descriptor = try open(creating: false)
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0 else { throw localError("\(path) cannot be read") }
        if status.st_size > size, ftruncate(descriptor.raw, size) != 0 { throw localError("\(path) cannot be cut") }
        area.giveBack(state.withLock { $0.blocks.removeAll(from: StagedFile.roundUp(size)) }, of: mount)
    }

    /// Leaves the bytes that are on disk there when this object goes, listed among the area's leftovers.
    public func keep() { state.withLock { $0.kept = true } }

    /// Lets go of the descriptor until the next use; one that is in use stays open till then.
    func closeDescriptor() {
        let descriptor = state.withLock { state in
            defer { state.descriptor = nil }
            return state.descriptor
        }
        withExtendedLifetime(descriptor) {}
    }

    private static func roundUp(_ offset: Int) -> Int { (offset + block - 1) / block * block }

    private func reserve(_ extent: Extent) throws(VFSError) {
        let blocks = Extent(
            extent.lowerBound / StagedFile.block * StagedFile.block, StagedFile.roundUp(extent.upperBound))
        var looksLeft = 4
        while true {
            var wanted = 0
            let reservation: StagingArea.Reservation = state.withLock { state in
                wanted = state.blocks.gaps(in: blocks).reduce(0) { $0 + $1.count }
                guard wanted > 0 else { return .granted }
                let reservation = area.reserve(wanted, for: mount)
                if reservation == .granted { state.blocks.insert(blocks) }
                return reservation
            }
            switch reservation {
            case .granted: return
            case .diskUnknown where looksLeft > 0:
                do throws(VFSError) {
                    try area.askDisk(wanted, for: mount)
                } catch {
                    guard area.waitForRemovals() else { throw error }
                }
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

    private func open(creating: Bool) throws(VFSError) -> Descriptor {
        let (present, exists) = state.withLock { ($0.descriptor, $0.exists) }
        if let present { return present }
        let flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (creating && !exists ? O_CREAT : 0)
        let raw = Glibc.open(path, flags, 0o600)
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
