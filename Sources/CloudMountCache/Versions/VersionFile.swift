import CloudMountPlatform
import CloudMountStaging
public import CloudMountVFS
import Glibc
import Synchronization

/// The bytes of one version of one object on the local disk, as far as they are there.
///
/// Changes of what is on the disk are in order by `changes`, held over disk I/O. Readers take only `state`, and look after a
/// read whether what they have read was there all the time.
public final class VersionFile: Sendable {
    private struct State {
        var presence: Presence
        var isOpened = false
        /// It stays empty.
        var isIdle = false
        var descriptor: Descriptor?
        var map: Descriptor?
        /// Counts evictions.
        var evictions = 0
        /// Bytes of the disk that the store has counted for it.
        var counted = 0
        /// Fills that are waiting to be written, and whether somebody is at it.
        var fills: [Fill] = []
        var isFilling = false
        var lastUse: UInt64 = 0
        /// The bytes of an adopted file are getting their checksums.
        var sealing: Sealing?

        /// Nothing is there any more.
        mutating func clear() {
            (descriptor, map, counted, sealing) = (nil, nil, 0, nil)
            presence.removeAll()
            evictions += 1
        }
    }

    struct Sealing: Sendable {
        let lane: String
        /// Chunks that have gone meanwhile: what is in their place is none of the version's bytes.
        var dropped: Set<Int> = []
    }

    private struct Fill: Sendable {
        let extent: Extent
        let bytes: @Sendable () -> UnsafeRawBufferPointer
        let end: @Sendable () -> Void
    }

    /// Where the bytes of an extent are.
    public enum Place: Sendable {
        /// The disk has to be asked.
        case unknown
        case here
        case absent
    }

    let id: VersionID
    let size: Int
    private let store: VersionStore
    private let path: String
    private let changes = Mutex(())
    private let state: Mutex<State>

    /// - Parameter isIdle: it keeps nothing, for another object has the files of that name.
    init(_ id: VersionID, size: Int, store: VersionStore, isIdle: Bool = false) {
        (self.id, self.size, self.store) = (id, size, store)
        path = store.path(of: id)
        var state = State(presence: Presence(size: size))
        (state.isOpened, state.isIdle) = (isIdle, isIdle)
        self.state = Mutex(state)
    }

    deinit { store.unregister(self, id) }

    private var isSmall: Bool { VersionMap.isSmall(size) }

    // MARK: Reading

    public func place(of extent: Extent) -> Place {
        state.withLock { state in
            guard state.isOpened else { return .unknown }
            return state.presence.holds(extent) ? .here : .absent
        }
    }

    /// What of `extent` is not there; all of it as long as the disk has not been asked.
    public func missing(in extent: Extent) -> [Extent] { state.withLock { $0.presence.missing(in: extent) } }

    /// When it was last used, in nanoseconds of the system's monotonic clock; 0 for never by this process.
    func lastUse() -> UInt64 { state.withLock { $0.lastUse } }

    /// Reads what has been checked, and what no disk has to be asked for.
    /// - Returns: false when that is not all of `extent`.
    public func readNow(_ extent: Extent, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        read(extent) { descriptor in
            let count =
                self.store.area.isInMemory
                ? pread(descriptor.raw, buffer.baseAddress, extent.count, extent.lowerBound)
                : descriptor.readNow(
                    at: extent.lowerBound, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<extent.count])) ?? 0
            return count == extent.count
        }
    }

    /// Blocks on the disk.
    /// - Returns: false when the bytes are not there, or not what they were.
    public func read(_ extent: Extent, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        open()
        let unchecked = state.withLock { $0.presence.unchecked(in: extent, run: store.run) }
        for index in unchecked { check(index) }
        var isBroken = false
        let isRead = read(extent) { descriptor in
            errno = 0
            let isRead = Self.read(descriptor, extent.lowerBound, buffer, extent.count)
            isBroken = !isRead && [0, EIO].contains(errno)
            return isRead
        }
        if isBroken { changes.withLock { _ in drop(Array(Presence.indices(extent))) } }
        return isRead
    }

    private func read(_ extent: Extent, _ body: (Descriptor) -> Bool) -> Bool {
        let use = store.nextUse()
        let view: (descriptor: Descriptor, evictions: Int)? = state.withLock { state in
            guard let descriptor = state.descriptor, state.presence.holds(extent),
                state.presence.unchecked(in: extent, run: store.run).isEmpty
            else { return nil }
            state.presence.used(extent, at: use)
            return (descriptor, state.evictions)
        }
        guard let view, body(view.descriptor) else { return false }
        return state.withLock { $0.evictions == view.evictions }
    }

    private static func read(
        _ descriptor: Descriptor, _ offset: Int, _ buffer: UnsafeMutableRawBufferPointer, _ count: Int
    ) -> Bool {
        var done = 0
        while done < count, let start = buffer.baseAddress {
            let got = pread(descriptor.raw, start + done, count - done, offset + done)
            if got < 0, errno == EINTR { continue }
            guard got > 0 else { return false }
            done += got
        }
        return done == count
    }

    /// Who reads it says so now and then.
    /// - Returns: whether the disk is to be told.
    public func used() -> Bool {
        let now = SystemClock.monotonic()
        return state.withLock { state in
            defer { state.lastUse = max(now, state.lastUse) }
            return state.lastUse == 0 || now.elapsed(since: state.lastUse) > 60_000_000_000
        }
    }

    /// Tells the disk that it is in use; one that has been used before stays longer. Blocks.
    public func noteUse() {
        guard let descriptor = state.withLock({ $0.descriptor }) else { return }
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0 else { return }
        let now = store.now()
        if now.seconds - status.modified > 60 { fchmod(descriptor.raw, Eviction.settledMode) }
        let times = [
            timespec(tv_sec: now.seconds, tv_nsec: now.nanoseconds), timespec(tv_sec: now.seconds, tv_nsec: 0),
        ]
        futimens(descriptor.raw, times)
    }

    // MARK: What is on the disk

    /// Looks what is there. Blocks.
    public func open() {
        if state.withLock({ $0.isOpened }) { return }
        changes.withLock { _ in _ = openHeld() }
    }

    /// - Returns: bytes of the disk that came back, of what was no version.
    @discardableResult
    private func openHeld() -> Int {
        if state.withLock({ $0.isOpened }) { return 0 }
        let found = look()
        // What cannot be looked at now may be there all the same.
        if found == nil, ![0, ENOENT, ENOTDIR, ELOOP].contains(errno) { return 0 }
        state.withLock { state in
            state.isOpened = true
            guard let found else { return }
            (state.descriptor, state.map, state.presence) = (found.descriptor, found.map, found.presence)
            state.counted = found.counted
        }
        return found == nil ? removeUnknown() : 0
    }

    /// What lies under the name and is no version.
    private func removeUnknown() -> Int {
        let bytes = [path, path + VersionStore.mapSuffix].reduce(0) { $0 + (Folder.status($1)?.bytes ?? 0) }
        removeFiles()
        if bytes > 0 { store.changed(id, by: -bytes, taken: 0) }
        return bytes
    }

    private struct Found {
        var descriptor: Descriptor
        var map: Descriptor?
        var presence: Presence
        var counted: Int
    }

    private func look() -> Found? {
        errno = 0
        guard let descriptor = Self.open(path, creating: false) else { return nil }
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_uid == geteuid()
        else { return nil }
        var presence = Presence(size: size)
        if isSmall {
            var trailer = [UInt8](repeating: 0, count: VersionMap.headerCount)
            guard status.st_size == size + trailer.count,
                trailer.withUnsafeMutableBytes({ Self.read(descriptor, size, $0, $0.count) }),
                let entry = VersionMap.decode(trailer, size: size)
            else { return nil }
            presence.set(0, entry)
            return Found(descriptor: descriptor, presence: presence, counted: Self.blocks(descriptor))
        }
        var header = [UInt8](repeating: 0, count: VersionMap.headerCount)
        guard let map = Self.open(path + VersionStore.mapSuffix, creating: false),
            header.withUnsafeMutableBytes({ Self.read(map, 0, $0, $0.count) }),
            VersionMap.decode(header, size: size) != nil
        else { return nil }
        read(map, into: &presence)
        return Found(
            descriptor: descriptor, map: map, presence: presence,
            counted: Self.blocks(descriptor) + Self.blocks(map))
    }

    /// The entries that are there; a map has holes where its version has.
    private func read(_ map: Descriptor, into presence: inout Presence) {
        let end = VersionMap.offset(VersionMap.chunks(size))
        var offset = VersionMap.headerCount
        while let data = map.data(from: offset, before: end) {
            let first = (max(data.lowerBound, VersionMap.headerCount) - VersionMap.headerCount) / VersionMap.entryCount
            // A page at a time.
            let last = min(VersionMap.chunks(size), first + 512)
            var bytes = [UInt8](repeating: 0, count: (last - first) * VersionMap.entryCount)
            let got = bytes.withUnsafeMutableBytes {
                pread(map.raw, $0.baseAddress, $0.count, VersionMap.offset(first))
            }
            guard got > 0 else { return }
            for index in 0..<got / VersionMap.entryCount {
                let entry = VersionMap.entry(bytes[(index * VersionMap.entryCount)...].prefix(VersionMap.entryCount))
                if let entry { presence.set(first + index, entry) }
            }
            offset = VersionMap.offset(last)
        }
    }

    private static func open(_ path: String, creating: Bool) -> Descriptor? {
        let raw = Glibc.open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (creating ? O_CREAT : 0), 0o600)
        return raw < 0 ? nil : Descriptor(owning: raw)
    }

    private static func blocks(_ descriptor: Descriptor?) -> Int {
        var status = stat()
        guard let descriptor, fstat(descriptor.raw, &status) == 0 else { return 0 }
        return status.bytes
    }

    /// Tells the store what the disk takes for it by now, beyond what was taken from the store already.
    private func recount(taken: Int = 0) {
        let (descriptor, map, before) = state.withLock { ($0.descriptor, $0.map, $0.counted) }
        var status = stat()
        if let descriptor, fstat(descriptor.raw, &status) == 0, status.st_nlink == 0 {
            // Somebody has removed it by hand.
            removeHeld()
            return store.changed(id, by: 0, taken: taken)
        }
        let blocks = Self.blocks(descriptor) + Self.blocks(map)
        state.withLock { $0.counted = blocks }
        store.changed(id, by: blocks - before, taken: taken)
    }

    /// Looks whether a chunk is what was written; if not, it is gone. Blocks.
    private func check(_ index: Int) {
        changes.withLock { _ in
            let known: (Descriptor, VersionMap.Entry)? = state.withLock { state in
                guard let descriptor = state.descriptor, let entry = state.presence.chunks[index],
                    entry.run != store.run
                else { return nil }
                return (descriptor, entry)
            }
            guard let (descriptor, entry) = known else { return }
            if checksum(index, descriptor) == entry.checksum {
                var checked = entry
                checked.run = store.run
                set(index, checked)
            } else {
                store.noteDamage()
                drop([index])
            }
        }
    }

    /// Nil when the bytes cannot be read.
    private func checksum(_ index: Int, _ descriptor: Descriptor) -> UInt32? {
        let extent = VersionMap.extent(index, of: size)
        return withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 16) { buffer in
            var checksum = CRC32C()
            var offset = extent.lowerBound
            while offset < extent.upperBound {
                let count = min(buffer.count, extent.upperBound - offset)
                guard Self.read(descriptor, offset, buffer, count) else { return nil }
                checksum.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                offset += count
            }
            return checksum.value
        }
    }

    /// With `changes` held.
    /// - Returns: whether the disk knows it too.
    @discardableResult
    private func set(_ index: Int, _ entry: VersionMap.Entry?) -> Bool {
        let (descriptor, map) = state.withLock { state in
            state.presence.set(index, entry)
            return (state.descriptor, state.map)
        }
        if isSmall {
            return write(VersionMap.header(size, entry), to: descriptor, at: size)
        }
        return write(VersionMap.encode(entry), to: map, at: VersionMap.offset(index))
    }

    private func write(_ bytes: [UInt8], to descriptor: Descriptor?, at offset: Int) -> Bool {
        guard let descriptor else { return true }
        return bytes.withUnsafeBytes { Self.write(descriptor, offset, $0) }
    }

    private static func write(_ descriptor: Descriptor, _ offset: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
        (try? descriptor.write(bytes, at: offset)) != nil
    }

    // MARK: Filling

    /// Writes bytes of the version behind the caller.
    /// - Parameters:
    ///   - bytes: called once, later; they stay valid until `end`.
    ///   - end: called once, on the pool for blocking work, with nothing held.
    func fill(
        _ extent: Extent, lane: String, _ bytes: @escaping @Sendable () -> UnsafeRawBufferPointer,
        end: @escaping @Sendable () -> Void
    ) {
        let begins = state.withLock { state in
            state.fills.append(Fill(extent: extent, bytes: bytes, end: end))
            defer { state.isFilling = true }
            return !state.isFilling
        }
        if begins { store.submit(lane) { self.writeFills(lane) } }
    }

    private func writeFills(_ lane: String) {
        let fills = state.withLock { state in
            defer { state.fills = [] }
            return state.fills
        }
        for fill in fills {
            write(fill.extent, fill.bytes())
            fill.end()
        }
        let goesOn = state.withLock { state in
            state.isFilling = !state.fills.isEmpty
            return state.isFilling
        }
        // Others have their turn first.
        if goesOn { store.submit(lane) { self.writeFills(lane) } }
    }

    /// Writes all of the version. Blocks.
    func write(_ bytes: UnsafeRawBufferPointer) { write(Extent(0, size), bytes) }

    private func write(_ extent: Extent, _ bytes: UnsafeRawBufferPointer) {
        open()
        let missing = missing(in: extent)
        // A block more at each end of each.
        let cost = missing.reduce(0) { $0 + $1.count + 8192 }
        guard cost > 0, !state.withLock({ $0.isIdle }), store.take(cost, for: self) else { return }
        changes.withLock { _ in
            defer { recount(taken: cost) }
            guard let descriptor = madeHeld() else { return }
            for part in missing {
                let low = part.lowerBound - extent.lowerBound
                let slice = UnsafeRawBufferPointer(rebasing: bytes[low..<low + part.count])
                guard Self.write(descriptor, part.lowerBound, slice) else { return }
                for index in state.withLock({ $0.presence.wrote(part) }) { seal(index, extent, bytes, descriptor) }
            }
        }
    }

    /// A chunk is all there.
    private func seal(_ index: Int, _ extent: Extent, _ bytes: UnsafeRawBufferPointer, _ descriptor: Descriptor) {
        let chunk = VersionMap.extent(index, of: size)
        var checksum: UInt32?
        if extent.contains(chunk) {
            let low = chunk.lowerBound - extent.lowerBound
            var sum = CRC32C()
            sum.update(UnsafeRawBufferPointer(rebasing: bytes[low..<low + chunk.count]))
            checksum = sum.value
        } else {
            checksum = self.checksum(index, descriptor)
        }
        guard let checksum else { return drop([index]) }
        set(index, VersionMap.Entry(checksum: checksum, run: store.run, use: store.nextUse()))
    }

    /// The file to write to; nil when it cannot be made.
    private func madeHeld() -> Descriptor? {
        if let descriptor = state.withLock({ $0.descriptor }) { return descriptor }
        makeFolder()
        guard let descriptor = Self.open(path, creating: true) else { return nil }
        var map: Descriptor?
        if !isSmall {
            guard let made = Self.open(path + VersionStore.mapSuffix, creating: true) else {
                removeFiles()
                return nil
            }
            guard write(VersionMap.header(size), to: made, at: 0) else {
                removeFiles()
                return nil
            }
            map = made
        }
        let opened = map
        state.withLock { ($0.descriptor, $0.map) = (descriptor, opened) }
        return descriptor
    }

    private func makeFolder() {
        let folder = String(path[..<(path.lastIndex(of: "/") ?? path.endIndex)])
        try? makeDirectories(folder)
    }

    /// Takes over a file of just these bytes, which lie on the disk already. Their checksums are made behind that, and so long they are not read.
    func adopt(_ file: String, lane: String) {
        // What waits for its checksums has its file open: where there is much of that, this is not kept.
        guard isSmall || store.mayWait() else { return }
        var waits = !isSmall
        defer { if waits { store.waits(-1) } }
        guard let raw = Self.open(file, creating: false) else { return }
        let cost = Self.blocks(raw) + 8192
        guard !state.withLock({ $0.isIdle }), store.take(cost, for: self, isOnDisk: true) else { return }
        let isTaken = changes.withLock { _ in
            openHeld()
            defer { recount(taken: cost) }
            guard state.withLock({ $0.presence.isEmpty }), ftruncate(raw.raw, size) == 0 else { return false }
            removeHeld()
            makeFolder()
            guard rename(file, path) == 0 else { return false }
            fchmod(raw.raw, 0o600)
            guard isSmall else {
                guard let map = Self.open(path + VersionStore.mapSuffix, creating: true),
                    write(VersionMap.header(size), to: map, at: 0)
                else {
                    removeFiles()
                    return false
                }
                state.withLock { ($0.descriptor, $0.map, $0.sealing) = (raw, map, Sealing(lane: lane)) }
                return true
            }
            state.withLock { ($0.descriptor, $0.sealing) = (raw, Sealing(lane: lane)) }
            return true
        }
        guard isTaken else { return }
        if isSmall { return sealAdopted(raw) }
        waits = false
        store.submit(lane) {
            self.sealAdopted(raw)
            self.store.waits(-1)
        }
    }

    func sealAdopted(_ adopted: Descriptor) {
        for index in 0..<VersionMap.chunks(size) {
            // Others come between: one large file holds up nobody.
            let goesOn = changes.withLock { _ in
                guard state.withLock({ $0.descriptor === adopted }) else { return false }
                let isDue = state.withLock { state in
                    state.presence.chunks[index] == nil && !(state.sealing?.dropped.contains(index) ?? true)
                }
                if isDue, let checksum = checksum(index, adopted) {
                    set(index, VersionMap.Entry(checksum: checksum, run: store.run, use: store.nextUse()))
                }
                return true
            }
            if !goesOn { return }
        }
        state.withLock { if $0.descriptor === adopted { $0.sealing = nil } }
    }

    // MARK: Letting go

    /// The same bytes are another version. Both files' changes are held, this one's first.
    /// - Returns: what the other is to be sealed with, where this one has not been sealed to its end.
    func move(to other: VersionFile) -> (descriptor: Descriptor, lane: String)? {
        changes.withLock { _ in
            openHeld()
            return other.changes.withLock { _ -> (descriptor: Descriptor, lane: String)? in
                other.openHeld()
                let isUseful =
                    state.withLock { !$0.presence.isEmpty || $0.sealing != nil }
                    && other.state.withLock { $0.presence.isEmpty && $0.sealing == nil }
                guard isUseful else { return nil }
                other.removeHeld()
                other.makeFolder()
                guard rename(path, other.path) == 0 else { return nil }
                if !isSmall, rename(path + VersionStore.mapSuffix, other.path + VersionStore.mapSuffix) != 0 {
                    unlink(other.path)
                    return nil
                }
                let moved = state.withLock { state in
                    defer { state.clear() }
                    return (state.descriptor, state.map, state.counted, state.presence, state.sealing)
                }
                other.state.withLock { ($0.descriptor, $0.map, $0.counted, $0.presence, $0.sealing) = moved }
                store.changed(id, by: -moved.2, taken: 0)
                store.changed(other.id, by: moved.2, taken: 0)
                guard let descriptor = moved.0, let sealing = moved.4 else { return nil }
                return (descriptor, sealing.lane)
            }
        }
    }

    /// A large version gives back what was not used for longest; a small one goes.
    /// - Returns: bytes of the disk that have come back.
    func evict(_ wanted: Int) -> Int {
        changes.withLock { _ in
            let unknown = openHeld()
            let before = state.withLock { $0.counted }
            if before > max(wanted, Self.whole) {
                // Sorted without the lock that readers take, and so many that it is not done for each MiB of a TiB.
                let presence = state.withLock { $0.presence }
                drop(presence.oldest(max(wanted / VersionMap.chunk + 1, presence.chunks.count / 64)))
                recount()
            }
            // Also one that gave nothing back: it has bytes that no entry tells of, or a disk that cannot punch holes.
            if before > 0, state.withLock({ $0.counted }) >= before || before <= max(wanted, Self.whole) {
                removeHeld()
            }
            return unknown + before - state.withLock { $0.counted }
        }
    }

    /// Bytes beyond which a version is evicted by chunks.
    private static let whole = 64 << 20

    /// Nobody wants it any more.
    func remove() {
        changes.withLock { _ in
            openHeld()
            removeHeld()
        }
    }

    private func removeHeld() {
        let counted = state.withLock { state in
            defer { state.clear() }
            return state.counted
        }
        removeFiles()
        store.changed(id, by: -counted, taken: 0)
    }

    private func removeFiles() {
        unlink(path)
        unlink(path + VersionStore.mapSuffix)
    }

    /// Chunks go: first nobody finds them, then the disk gets their room.
    private func drop(_ indices: [Int]) {
        var isTold = true
        for index in indices { isTold = set(index, nil) && isTold }
        let descriptor = state.withLock { state in
            state.evictions += 1
            state.sealing?.dropped.formUnion(indices)
            return state.descriptor
        }
        // Entries that the disk still has would tell of bytes that are gone.
        guard isTold else { return removeHeld() }
        guard let descriptor else { return }
        for index in indices {
            let extent = VersionMap.extent(index, of: size)
            _ = descriptor.punchHole(offset: extent.lowerBound, count: extent.count)
        }
    }
}
