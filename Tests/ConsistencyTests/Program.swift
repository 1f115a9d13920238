import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Synchronization
import TestSeeds

/// One program on the mount: what it does is chosen by its seed, one call after the other.
final class Program {
    struct Open {
        var id: Int
        var life: Mount.Life
        var inode: InodeID
        var handle: HandleID
        var path: String
        var canWrite: Bool
        var isExclusive: Bool
        /// When it was looked for.
        var begin: Int
    }

    static let span = 768
    static let paths = ["a", "b", "x/a", "x/b", "y/a", "x/y/a"]
    static let folders = ["x", "y", "z", "x/y"]

    let round: Round
    let writer: UInt16
    var random: SeededGenerator
    var number: UInt32 = 0
    var open: [Open] = []
    var lookups: [(Mount.Life, InodeID)] = []

    init(_ round: Round, writer: UInt16, seed: UInt64) {
        self.round = round
        self.writer = writer
        random = SeededGenerator(seed: seed)
    }

    private func pick<Element>(_ elements: [Element]) -> Element {
        elements[Int.random(in: 0..<elements.count, using: &random)]
    }
    private func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
    private func tick() -> Int { round.mount.ledger.tick() }

    /// A call whose failure is an answer like any other, unless it is none.
    private func call<Value>(_ what: String, _ work: () async throws(VFSError) -> Value) async -> Value? {
        let begin = tick()
        let result = await outcome(work)
        if Round.isTraced {
            let end = tick()
            let text = if case .failure(let error) = result { "\(error.code)" } else { "" }
            round.history.withLock { $0.log.append("\(begin)-\(end) program \(writer): \(what) \(text)") }
        }
        switch result {
        case .success(let value): return value
        case .failure(let error):
            if error == Mount.hung { round.violate("(d) a call that never ends: \(what)", "\(what): \(error)") }
            return nil
        }
    }

    /// Notes that something is wanted of a name, for as long as the work runs.
    private func meaning<Value>(
        _ kind: History.Intent.Kind, _ path: String, found: Int, _ work: () async -> Value
    ) async -> Value {
        let begin = tick()
        let index = round.history.withLock { history in
            history.intents.append(History.Intent(kind: kind, path: path, found: found, begin: begin))
            return history.intents.count - 1
        }
        let value = await work()
        let end = tick()
        round.history.withLock { $0.intents[index].end = end }
        return value
    }

    // MARK: Steps

    func step() async {
        open.removeAll { $0.life.number != round.mount.life.number }
        switch number(0...99) {
        case 0..<14: await openFile()
        case 14..<24: await createFile()
        case 24..<50: await write()
        case 50..<58: await read()
        case 58..<62: await truncate()
        case 62..<72: await flush()
        case 72..<80: await close()
        case 80..<83: await chmod()
        case 83..<88: await rename()
        case 88..<90: await renameFolder()
        case 90..<92: await unlink()
        case 92..<94: await mkdir()
        case 94..<95: await rmdir()
        case 95..<99: await list()
        default: await restart()
        }
    }

    /// The parent of a path, looked up name by name.
    private func parent(_ path: String) async -> (Mount.Life, InodeID, String)? {
        let life = round.mount.life
        var names = path.split(separator: "/").map(String.init)
        let last = names.removeLast()
        var inode = Mount.root
        for name in names {
            guard let next = await find(life, inode, name) else { return nil }
            inode = next
        }
        return (life, inode, last)
    }

    private func find(_ life: Mount.Life, _ parent: InodeID, _ name: String) async -> InodeID? {
        let found = await call("lookup \(parent) \(name)") { () async throws(VFSError) in
            try await life.fs.lookup(parent, name)
        }
        guard let found, let attributes = found else { return nil }
        lookups.append((life, attributes.inode))
        return attributes.inode
    }

    private func register(_ opened: Open) {
        var opened = opened
        opened.id = round.history.withLock { history in
            history.handles.append(
                History.Handle(path: opened.path, isExclusive: opened.isExclusive, opened: opened.begin))
            return history.handles.count - 1
        }
        open.append(opened)
    }

    private func openFile() async {
        guard open.count < 4 else { return }
        let path = pick(Self.paths)
        let begin = tick()
        let mode: Int32 = pick([0, 1, 2, 2])
        let truncates = mode != 0 && number(0...3) == 0
        guard let (life, parent, name) = await parent(path), let inode = await find(life, parent, name) else { return }
        let work = { [self] () async -> HandleID? in
            await call("open \(path) \(inode) mode \(mode) \(truncates)") { () async throws(VFSError) in
                try await life.fs.open(inode, flags: mode | (truncates ? Flags.truncate : 0))
            }
        }
        let handle: HandleID?
        if truncates {
            handle = await meaning(.change(exclusive: false), path, found: begin) {
                await cutting(life, inode, path, 0, work)
            }
        } else {
            handle = await work()
        }
        guard let handle else { return }
        register(
            Open(
                id: 0, life: life, inode: inode, handle: handle, path: path, canWrite: mode != 0, isExclusive: false,
                begin: begin))
    }

    private func cutting<Value>(
        _ life: Mount.Life, _ inode: InodeID?, _ path: String, _ size: Int, _ work: () async -> Value
    ) async -> Value {
        let begin = tick()
        let index = round.history.withLock { history in
            history.cuts.append(
                History.Cut(life: life.number, inode: inode, path: path, size: size, begin: begin))
            return history.cuts.count - 1
        }
        let value = await work()
        let end = tick()
        round.history.withLock { $0.cuts[index].end = end }
        return value
    }

    private func createFile() async {
        guard open.count < 4 else { return }
        let path = pick(Self.paths)
        let begin = tick()
        let isExclusive = number(0...2) == 0
        let flags: Int32 = isExclusive ? Flags.exclusive | Flags.readWrite : Flags.truncate | Flags.readWrite
        guard let (life, parent, name) = await parent(path) else { return }
        let work = { [self] () async -> (inode: InodeID, handle: HandleID)? in
            await call("create \(path) excl \(isExclusive)") { () async throws(VFSError) in
                try await life.fs.create(parent, name, flags: flags)
            }
        }
        let made: (inode: InodeID, handle: HandleID)?
        if isExclusive {
            made = await meaning(.change(exclusive: true), path, found: begin, work)
        } else {
            made = await meaning(.change(exclusive: false), path, found: begin) {
                await cutting(life, nil, path, 0, work)
            }
        }
        guard let made else { return }
        lookups.append((life, made.inode))
        register(
            Open(
                id: 0, life: life, inode: made.inode, handle: made.handle, path: path, canWrite: true,
                isExclusive: isExclusive, begin: begin))
    }

    private func bind(_ file: Open) {
        let now = tick()
        round.history.withLock { $0.handles[file.id].bound = min($0.handles[file.id].bound, now) }
    }

    private func write() async {
        let writable = open.filter(\.canWrite)
        guard !writable.isEmpty else { return }
        let file = pick(writable)
        let start = number(0...3) == 0 ? number(0...Self.span) : number(0...40)
        let offset = start * Block.size
        let count = (number(0...4) == 0 ? number(1...400) : number(1...60)) * Block.size
        number += 1
        let key = Block.Key(writer: writer, number: number)
        let begin = tick()
        round.history.withLock { history in
            history.writes[key] = History.Write(
                handle: file.id, life: file.life.number, inode: file.inode, path: file.path, offset: offset,
                count: count, begin: begin)
        }
        let bytes = Block.bytes(writer, number, at: offset, count: count)
        let written = await meaning(.change(exclusive: file.isExclusive), file.path, found: file.begin) {
            await call("write \(number) \(file.id) \(file.path) \(file.inode) \(offset)+\(count)") {
                () async throws(VFSError) in
                try await file.life.fs.write(file.inode, file.handle, offset, bytes)
            }
        }
        bind(file)
        let end = tick()
        round.history.withLock { history in
            history.writes[key]?.end = end
            history.writes[key]?.isDone = written != nil
        }
    }

    private func read() async {
        guard !open.isEmpty else { return }
        let file = pick(open)
        let offset = number(0...40) * Block.size
        let count = number(1...800) * Block.size
        guard
            let bytes = await call(
                "read \(file.id) \(file.path)",
                { () async throws(VFSError) in try await file.life.fs.read(file.inode, file.handle, offset, count) })
        else { return }
        let content = Block.parse(bytes, at: offset)
        round.history.withLock { history in
            let bound = history.handles[file.id].bound
            history.handles[file.id].foreign.formUnion(content.foreign)
            let all = history.handles[file.id].foreign
            if all.count > 1 {
                history.violate("(b) a handle reads two foreign versions", "\(file.path): contents \(all)")
            }
            if let late = content.foreign.first(where: { history.foreignPuts[$0] ?? 0 > bound }) {
                history.violate(
                    "(b) a handle reads a version that came after its first bytes", "\(file.path): content \(late)")
            }
            if let torn = content.torn.first {
                history.violate("(b) a read has bytes that nobody wrote there", "\(file.path) at \(torn)")
            }
        }
        bind(file)
    }

    private func truncate() async {
        let writable = open.filter(\.canWrite)
        guard !writable.isEmpty else { return }
        let file = pick(writable)
        let size = number(0...60) * Block.size
        _ = await meaning(.change(exclusive: file.isExclusive), file.path, found: file.begin) {
            await cutting(file.life, file.inode, file.path, size) {
                await call("truncate \(file.id) \(file.path) \(file.inode) to \(size)") { () async throws(VFSError) in
                    try await file.life.fs.setattr(file.inode) { $0.size = size }
                }
            }
        }
        bind(file)
    }

    private func chmod() async {
        let path = pick(Self.paths)
        let begin = tick()
        guard let (life, parent, name) = await parent(path), let inode = await find(life, parent, name) else { return }
        let mode = UInt32(number(0o600...0o677))
        _ = await meaning(.change(exclusive: false), path, found: begin) {
            await call("chmod \(path) \(inode)") { () async throws(VFSError) in
                try await life.fs.setattr(inode) { $0.permissions = mode }
            }
        }
    }

    /// What was written before by this handle is stored when it says so.
    private func flush() async {
        guard !open.isEmpty else { return }
        await flush(pick(open), isSync: number(0...1) == 0)
    }

    private func flush(_ file: Open, isSync: Bool) async {
        let begin = tick()
        let done: Void? = await call("flush \(file.id) \(file.path)") { () async throws(VFSError) in
            if isSync {
                try await file.life.fs.fsync(file.inode, file.handle)
            } else {
                try await file.life.fs.flush(file.inode, file.handle)
            }
        }
        guard done != nil, file.canWrite else { return }
        round.history.withLock { history in
            for (key, write) in history.writes
            where write.handle == file.id && write.isDone && write.end < begin {
                history.writes[key]?.isAcknowledged = true
            }
        }
    }

    private func close() async {
        guard !open.isEmpty else { return }
        await close(open.remove(at: number(0...open.count - 1)))
    }

    private func close(_ file: Open) async {
        await flush(file, isSync: false)
        _ = await call("release \(file.id)") { () async throws(VFSError) in
            try await file.life.fs.release(file.inode, file.handle)
        }
    }

    private func rename() async {
        let (from, to) = (pick(Self.paths), pick(Self.paths))
        if from != to { await rename(from, to) }
    }

    private func renameFolder() async {
        let (from, to) = (pick(Self.folders), pick(Self.folders))
        if from != to { await rename(from, to) }
    }

    private func rename(_ from: String, _ to: String) async {
        let noReplace = number(0...2) == 0
        let begin = tick()
        guard let (life, parent, name) = await parent(from), let (other, newParent, newName) = await self.parent(to),
            life.number == other.number
        else { return }
        await meaning(.rename(to: to, noReplace: noReplace), from, found: begin) {
            _ = await call("rename \(from) \(to) \(noReplace)") { () async throws(VFSError) in
                try await life.fs.rename(parent, name, newParent, newName, flags: noReplace ? .noReplace : [])
            }
        }
    }

    private func unlink() async {
        let path = pick(Self.paths)
        let begin = tick()
        guard let (life, parent, name) = await parent(path) else { return }
        await meaning(.unlink, path, found: begin) {
            _ = await call("unlink \(path)") { () async throws(VFSError) in try await life.fs.unlink(parent, name) }
        }
    }

    private func mkdir() async {
        guard let (life, parent, name) = await parent(pick(Self.folders)) else { return }
        let made = await call("mkdir") { () async throws(VFSError) in try await life.fs.mkdir(parent, name) }
        if let made { lookups.append((life, made)) }
    }

    private func rmdir() async {
        let path = pick(Self.folders)
        let begin = tick()
        guard let (life, parent, name) = await parent(path) else { return }
        await meaning(.rmdir, path, found: begin) {
            _ = await call("rmdir \(path)") { () async throws(VFSError) in try await life.fs.rmdir(parent, name) }
        }
    }

    private func list() async {
        let life = round.mount.life
        var inode = Mount.root
        if number(0...1) == 0 {
            guard let (_, parent, name) = await parent(pick(Self.folders)), let found = await find(life, parent, name)
            else { return }
            inode = found
        }
        _ = await call("readdir \(inode)") { () async throws(VFSError) in try await life.fs.list(inode) }
    }

    /// The process ends, with a drain or without, and another one begins.
    private func restart() async {
        guard number(0...1) == 0 else { return }
        await round.restart(crash: number(0...1) == 0)
        open = []
    }

    /// Closes all and forgets all.
    func end() async {
        let life = round.mount.life.number
        for file in open where file.life.number == life { await close(file) }
        open = []
        for (owner, inode) in lookups where owner.number == life { owner.fs.forget(inode, count: 1) }
        lookups = []
    }
}
