import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Small files that a program will read in a moment are fetched ahead of it, when it goes through their directory in an order
/// (`FileCourse`). Each has a `VersionReader` before it is opened; whoever reads that version first takes it over, with the bytes that it has
/// and those on their way: the next to read them joins, and asks for nothing.
///
/// Nobody waits for these fetches: they leave room for others (`ReadRequest.isAhead`), and one that fails is forgotten.
final class FilesAhead: Sendable {
    /// Bytes. A larger file is worth a request of its own, and is read ahead in itself.
    static let largest = 128 << 10
    /// Bytes of memory, and a 16th of it all.
    private static let most = 16 << 20
    /// Fetches under way.
    private static let widest = 48
    /// Nanoseconds that bytes wait for their reader, and that it is remembered who reads where.
    private static let life: UInt64 = 20_000_000_000
    /// Nanoseconds after which they make room for others.
    private static let patience: UInt64 = 5_000_000_000
    private static let courseLife: UInt64 = 60_000_000_000
    /// Nanoseconds for which a fetch may be under way and others still join it.
    private static let late: UInt64 = 2_000_000_000
    /// Nanoseconds without fetches when the store cannot be reached, or asks for less.
    private static let rest: UInt64 = 2_000_000_000
    private static let mostCourses = 32
    /// Files of directories whose orders are known, together.
    private static let mostOrdered = 1 << 18

    private struct Course {
        var course: FileCourse
        var use: UInt64
    }

    private struct Entry {
        let reader: VersionReader
        let cost: Int
        let since: UInt64
    }

    private struct Wanted {
        let inode: InodeID
        let directory: InodeID
        let isAgain: Bool
    }

    private struct State {
        var courses: [InodeID: Course] = [:]
        /// In order; those before `next` have been taken.
        var wanted: [Wanted] = []
        var next = 0
        var entries: [StoredVersion: Entry] = [:]
        var bytes = 0
        var underWay = 0
        /// How many may be under way: fewer after each failure.
        var width = FilesAhead.widest
        var restsUntil: UInt64 = 0
        /// Bytes that have been read, and that nobody wanted.
        var used = 0
        var wasted = 0
        /// How the last directory was read that was read to its end.
        var ended: (order: FileOrders.Kind, at: UInt64)?
        var isTidying = false

        /// More than a tenth is for nothing.
        var isCautious: Bool { wasted > used / 10 + 256 << 10 }

        mutating func count(used: Int = 0, wasted: Int = 0) {
            self.used += used
            self.wasted += wasted
            if self.used + self.wasted > 64 << 20 { (self.used, self.wasted) = (self.used / 2, self.wasted / 2) }
        }

        mutating func dropWanted(where matches: (Wanted) -> Bool) {
            if next == wanted.count { return }
            wanted = wanted[next...].filter { !matches($0) }
            next = 0
        }

        mutating func takeWanted(_ most: Int) -> [Wanted] {
            let some = Array(wanted[next..<min(wanted.count, next + max(0, most))])
            next += some.count
            if next == wanted.count { (wanted, next) = ([], 0) }
            return some
        }
    }

    private let context: MountContext
    private let files: SmallFiles
    private let state = Mutex(State())
    private let count = Atomic(0)

    init(context: MountContext, tree: Tree) {
        self.context = context
        files = SmallFiles(tree: tree)
    }

    deinit { for entry in state.withLock({ $0.entries }) { _ = entry.value.reader.retire() } }

    // MARK: Who reads

    /// A reader is about to get the first bytes of an open file.
    func begins(_ file: OpenFile) {
        guard let read = files.wasRead(file.inode), !file.canWrite, read.directory != 0, read.size > 0,
            read.size <= Self.largest, context.capabilities.distinctTags, context.policy().effectivePrefetch > 0
        else { return }
        let now = context.clock.monotonic()
        let (step, tidies) = state.withLock { state in
            if state.courses[read.directory] == nil { begin(read.directory, &state, now) }
            state.courses[read.directory]?.use = now
            let isCautious = state.isCautious
            let step = state.courses[read.directory]?.course.read(file.inode, now: now, isCautious: isCautious)
            defer { state.isTidying = true }
            return (step, !state.isTidying)
        }
        if tidies { tidyLater() }
        follow(step ?? .nothing, read)
    }

    /// Under the lock.
    private func begin(_ directory: InodeID, _ state: inout State, _ now: UInt64) {
        let trusted = state.ended.flatMap { now.elapsed(since: $0.at) < Self.life ? $0.order : nil }
        state.courses[directory] = Course(course: FileCourse(trusted: trusted), use: now)
        limit(&state, keeping: directory)
    }

    private func limit(_ state: inout State, keeping directory: InodeID) {
        while state.courses.count > Self.mostCourses
            || state.courses.values.reduce(0, { $0 + $1.course.count }) > Self.mostOrdered
        {
            let others = state.courses.filter { $0.key != directory }
            guard let oldest = others.min(by: { $0.value.use < $1.value.use }) else { return }
            state.courses[oldest.key] = nil
        }
    }

    private func follow(_ step: FileCourse.Step, _ read: SmallFiles.FirstRead) {
        switch step {
        case .nothing: break
        case .learns: learn(read)
        case .jumped: state.withLock { $0.dropWanted { $0.directory == read.directory } }
        case .ahead(let inodes, let isEnd):
            if inodes.isEmpty, isEnd == nil { break }
            let now = context.clock.monotonic()
            state.withLock { state in
                if let isEnd { state.ended = (isEnd, now) }
                for inode in inodes {
                    state.wanted.append(Wanted(inode: inode, directory: read.directory, isAgain: read.isAgain))
                }
            }
        }
        fetch()
    }

    private func learn(_ read: SmallFiles.FirstRead) {
        // A long list of names is sorted away from the thread that all transfers share.
        Task.detached { [weak self, files] in
            let orders = await files.orders(of: read.directory, largest: Self.largest, most: Self.mostOrdered)
            guard let self else { return }
            let now = context.clock.monotonic()
            let step = state.withLock { state in
                let isCautious = state.isCautious
                defer { limit(&state, keeping: read.directory) }
                return state.courses[read.directory]?.course.learn(orders, now: now, isCautious: isCautious)
            }
            follow(step ?? .nothing, read)
        }
    }

    // MARK: Fetching

    /// Begins as many fetches as there is room for.
    private func fetch() {
        while state.withLock({ $0.next < $0.wanted.count }) {
            let now = context.clock.monotonic()
            let most = min(Self.most, context.memory.limit / 16)
            let (some, gone): ([Wanted], [VersionReader]) = state.withLock { state in
                if state.next == state.wanted.count || now < state.restsUntil { return ([], []) }
                let gone = state.bytes < most ? [] : drop(&state, olderThan: Self.patience, now)
                guard state.bytes < most else { return ([], gone) }
                // Not beyond the limit by more than one.
                let fit = (most - state.bytes) / Self.largest + 1
                let some = state.takeWanted(min(16, fit, state.width - state.underWay))
                state.underWay += some.count
                return (some, gone)
            }
            for reader in gone { _ = reader.retire() }
            if some.isEmpty { return }
            var begun = 0
            for one in some {
                guard let info = files.fetchable(one.inode, largest: Self.largest, again: one.isAgain) else { continue }
                guard context.memory.makeRoomAhead(info.size), let buffer = context.memory.take(info.size) else {
                    state.withLock { $0.dropWanted { _ in true } }
                    break
                }
                if begin(info, one.inode, buffer, now) { begun += 1 }
            }
            let idle = some.count - begun
            state.withLock { $0.underWay -= idle }
        }
    }

    private func begin(_ info: ObjectInfo, _ inode: InodeID, _ buffer: PooledBuffer, _ now: UInt64) -> Bool {
        let reader = VersionReader(base: info, context: context)
        let cost = BufferPool.cost(info.size)
        let (isNew, tidies) = state.withLock { state in
            guard state.entries[StoredVersion(info)] == nil else { return (false, false) }
            state.entries[StoredVersion(info)] = Entry(reader: reader, cost: cost, since: now)
            count.store(state.entries.count, ordering: .relaxed)
            state.bytes += cost
            defer { state.isTidying = true }
            return (true, !state.isTidying)
        }
        guard isNew else { return false }
        if tidies { tidyLater() }
        let asked = context.clock.monotonic()
        reader.fetchAhead(into: buffer) { [weak self] result in
            if case .success(let found) = result { self?.files.describe(inode, found, asked: asked) }
            self?.ended(reader, result)
        }
        return true
    }

    private func ended(_ reader: VersionReader, _ result: Result<ObjectInfo, VFSError>) {
        let now = context.clock.monotonic()
        state.withLock { state in
            state.underWay -= 1
            switch result {
            case .success: state.width = min(Self.widest, state.width + 1)
            case .failure(let error):
                if state.entries[StoredVersion(reader.base)]?.reader === reader { take(reader.base, &state) }
                if error.code == .cancelled { break }
                state.width = max(1, state.width / 2)
                guard error.code.isUnreachable else { break }
                state.restsUntil = now + Self.rest
                state.dropWanted { _ in true }
            }
        }
        fetch()
    }

    // MARK: Letting go

    /// Who reads a version takes over what was fetched of it, or is on its way. Takes no other lock than a reader's.
    func take(_ base: ObjectInfo) -> VersionReader? {
        if count.load(ordering: .relaxed) == 0 { return nil }
        guard let entry = state.withLock({ take(base, &$0) }) else { return nil }
        // Memory may have been short meanwhile.
        let isOfUse = entry.reader.holdsAll() && !isLate(entry)
        state.withLock { isOfUse ? $0.count(used: base.size) : $0.count(wasted: base.size) }
        if isOfUse { return entry.reader }
        context.begin { _ = entry.reader.retire() }
        return nil
    }

    /// A fetch that has taken so long may end with its deadline: who joined it now would have no time of his own.
    private func isLate(_ entry: Entry) -> Bool {
        let age = context.clock.monotonic().elapsed(since: entry.since)
        return age > min(Self.late, context.policy().deadline.nanoseconds / 8) && !entry.reader.hasArrived()
    }

    @discardableResult
    private func take(_ base: ObjectInfo, _ state: inout State) -> Entry? {
        guard let entry = state.entries.removeValue(forKey: StoredVersion(base)) else { return nil }
        count.store(state.entries.count, ordering: .relaxed)
        state.bytes -= entry.cost
        return entry
    }

    private func tidyLater() {
        let sleep = context.clock.sleep
        context.begin { [weak self] in
            repeat { await sleep(.nanoseconds(Self.life / 2)) } while self?.tidy() ?? false
        }
    }

    /// Lets go of what has waited too long.
    /// - Returns: whether there is more.
    func tidy() -> Bool {
        let now = context.clock.monotonic()
        let (gone, goesOn): ([VersionReader], Bool) = state.withLock { state in
            let old = drop(&state, olderThan: Self.life, now)
            state.courses = state.courses.filter { now.elapsed(since: $0.value.use) < Self.courseLife }
            state.isTidying = !state.entries.isEmpty || !state.courses.isEmpty
            return (old, state.isTidying)
        }
        for reader in gone { _ = reader.retire() }
        return goesOn
    }

    private func drop(_ state: inout State, olderThan age: UInt64, _ now: UInt64) -> [VersionReader] {
        let old = state.entries.values.filter { now.elapsed(since: $0.since) >= age }.map(\.reader)
        for reader in old {
            take(reader.base, &state)
            state.count(wasted: reader.base.size)
        }
        return old
    }

    /// No fetch is under way.
    var isQuiet: Bool { state.withLock { $0.underWay == 0 } }

    /// Bytes of memory that wait for their readers.
    var used: Int { state.withLock { $0.bytes } }
}
