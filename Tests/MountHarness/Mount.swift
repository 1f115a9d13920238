package import CloudMountCache
package import CloudMountFilesystem
package import CloudMountLayers
package import CloudMountPlatform
package import CloudMountStaging
package import CloudMountVFS
import Glibc
package import MemoryProvider
import Synchronization

/// THE ADAPTER: a file system over a bucket in memory, asked as the kernel asks it, without a kernel. All that the tests
/// need to know of how a mount is put together is in this file.
package final class Mount: Sendable {
    package static let caller = Caller(uid: 1000, gid: 1000, pid: 1, umask: 0o022)
    package static let root: InodeID = 1
    package static let hung = VFSError(.busy, "HUNG: no answer within \(Watchdog.limit)")

    /// One run of the process on the bucket.
    package struct Life: Sendable {
        package var number: Int
        package var fs: MountedBucket
        package var memory: BufferPool
        package var staging: StagingArea
        package var versions: VersionStore?
        package var journal: Journal?
        package var names: NamesFolder?
        package var lifeline: Lifeline
    }

    package let store: MemoryProvider
    package let ledger: Ledger
    package let faults = Faults()
    package let hooks = Hooks()
    package let traffic = Traffic()
    /// Whether the store would not be asked.
    package let cut = CutOff()
    package let settings: MountSettings
    private let chaos: Chaos?
    private let bareAnswers: Bool
    private let journals: Bool
    private let keepsVersions: Bool
    private let keepsNames: Bool
    private let memoryLimit: Int
    private let clock: FilesystemClock
    private let directory: String
    private let current: Mutex<Life?>

    /// - Parameters:
    ///   - keepsBytes: the ledger keeps the bytes of every version.
    ///   - tagsBytes: versions with the same bytes have the same ETag, as on S3; the ledger cannot tell them apart.
    ///   - bareAnswers: what a change answers has no metadata, as on S3.
    ///   - journals: a new life has the disk that the one before left, and goes on with what was not stored.
    ///   - keepsVersions: there is a store of versions on the local disk, which a new life has too.
    ///   - keepsNames: a life that ends by `end` leaves what it knows of names to the next one, where the policy has it so.
    package init(
        _ capabilities: Capabilities = MemoryProvider.fullCapabilities, memory: Int = 64 << 20, chaos: Chaos? = nil,
        keepsBytes: Bool = false, tagsBytes: Bool = false, bareAnswers: Bool = false, journals: Bool = false,
        keepsVersions: Bool = false, keepsNames: Bool = false,
        clock: FilesystemClock = .system,
        _ adjust: (inout MountSettings) -> Void = { _ in }
    ) throws {
        var settings = MountSettings(name: "test", uid: 1000, gid: 1000)
        adjust(&settings)
        self.settings = settings
        self.chaos = chaos
        self.bareAnswers = bareAnswers
        self.journals = journals
        self.keepsVersions = keepsVersions
        self.keepsNames = keepsNames
        memoryLimit = memory
        self.clock = clock
        store = MemoryProvider(capabilities: capabilities, tagsBytes: tagsBytes)
        ledger = Ledger(keepsBytes: keepsBytes)
        var template = Array("/tmp/cloudmount-proof-XXXXXX".utf8CString)
        guard let path = mkdtemp(&template) else { throw VFSError(.io, "no directory for the test") }
        directory = String(cString: path)
        current = Mutex(nil)
        try start(1)
    }

    deinit { removeTree(directory) }

    private func start(
        _ number: Int, isReadOnly: Bool = false, _ adjust: (inout MountSettings) -> Void = { _ in }
    ) throws {
        let lifeline = Lifeline()
        let ledgered = LedgerLayer(store, ledger, .mount(number))
        let hooked: any ObjectProvider = HookLayer(inner: ledgered, hooks: hooks)
        let answering = bareAnswers ? BareLayer(inner: hooked) : hooked
        let line: any ObjectProvider =
            if let chaos { ChaosLayer(inner: answering, chaos: chaos, lifeline: lifeline) } else { answering }
        let provider = SeenLayer(
            inner: FaultLayer(TrafficLayer(inner: line, traffic: traffic), faults), ledger: ledger, life: number)
        let memory = BufferPool(limit: memoryLimit)
        let disk = "\(directory)/\(number)"
        if journals || keepsVersions || keepsNames, number > 1 { copyTree("\(directory)/\(number - 1)", disk) }
        let staging = try StagingArea(directory: disk, limit: 4 << 30, keepFree: 0)
        let journal = journals ? try Journal(directory: disk) : nil
        let versions = keepsVersions ? try VersionStore(staging) : nil
        let names = keepsNames ? try NamesFolder(staging) : nil
        var settings = self.settings
        settings.readOnly = isReadOnly
        adjust(&settings)
        let fs = MountedBucket(
            settings: settings, provider: provider, staging: staging, memory: memory, journal: journal,
            versions: versions, names: names, clock: clock, isCutOff: { [cut] in cut.isOn })
        fs.upkeep.takeUpNames()
        _ = try fs.upkeep.recovery.run(isReadOnly: isReadOnly)
        fs.upkeep.recovery.start()
        let life = Life(
            number: number, fs: fs, memory: memory, staging: staging, versions: versions, journal: journal,
            names: names, lifeline: lifeline)
        current.withLock { $0 = life }
    }

    package var life: Life {
        guard let life = current.withLock({ $0 }) else { preconditionFailure("a mount has a life from its beginning") }
        return life
    }
    package var fs: MountedBucket { life.fs }
    package var memory: BufferPool { life.memory }
    package var staging: StagingArea { life.staging }

    /// Returns when all that is to be kept on the local disk is.
    package func finishKeeping() async {
        let life = life
        await BlockingPool.shared.run {
            life.staging.finishRemovals(seconds: 10)
            life.versions?.finish(seconds: 10)
        }
    }

    /// The clean end of this life, before `remount`: stores what can be stored, and leaves what is known of names.
    package func end() async {
        await fs.drain()
        let fs = fs
        await BlockingPool.shared.run { fs.upkeep.saveNames() }
    }

    /// Another life of the mount in the same process, as a remount begins one while the one before still drains.
    package func second() throws(VFSError) -> MountedBucket {
        let life = life
        let fs = MountedBucket(
            settings: settings, provider: TrafficLayer(inner: store, traffic: traffic), staging: life.staging,
            memory: life.memory, names: life.names, clock: clock)
        fs.upkeep.takeUpNames()
        return fs
    }

    /// Where files of what is known of names lie in this life.
    package var namesFolder: String { "\(directory)/\(life.number)/names" }

    /// A new file system on the same bucket: nothing is remembered but what the store has, and the journal if there is one. The old one is not told; with
    /// `crash` nothing that it does reaches the store any more.
    package func remount(
        crash: Bool = false, isReadOnly: Bool = false, _ adjust: (inout MountSettings) -> Void = { _ in }
    ) throws {
        let old = life
        if crash { old.lifeline.sever() }
        try start(old.number + 1, isReadOnly: isReadOnly, adjust)
    }

    /// From now on this life can put nothing on record.
    package func breakJournal() { life.journal?.close() }

    /// What lies in the staging areas of all lives, file by file, at this moment; with a journal in that of the last one, which has all
    /// that those before have left.
    package func stagedFiles() -> [(path: String, bytes: [UInt8])] {
        let last = life.number
        return (journals ? last...last : 1...last).flatMap { number in
            let folder = "\(directory)/\(number)/staged"
            return names(in: folder).compactMap { name in
                bytes(ofFile: "\(folder)/\(name)").map { ("\(folder)/\(name)", $0) }
            }
        }
    }

    /// The staged files that `cloudmount status` would name.
    package var namedFiles: Set<String> {
        Set(fs.statistics().failedCommits.map(\.stagedPath)).union(staging.leftovers.map(\.path))
    }

    /// Bytes of the memory budget, and of the staging area, that this life uses.
    /// But for copies of what was just stored.
    package var memoryUsed: Int { memory.used - fs.bytesKept }
    package var stagingUsed: Int { staging.used }

    // MARK: The other client

    package var foreign: LedgerLayer { LedgerLayer(store, ledger, .foreign) }

    @discardableResult
    package func put(
        _ key: String, _ bytes: [UInt8], _ metadata: ObjectMetadata = ObjectMetadata()
    ) async throws(VFSError) -> ObjectInfo {
        try await foreign.put(PutRequest(key: ObjectKey(key), metadata: metadata), from: BytesSource(bytes))
    }

    package func delete(_ key: String) async throws(VFSError) {
        _ = try await foreign.delete([DeleteRequest(ObjectKey(key))])
    }

    package func head(_ key: String) async throws(VFSError) -> ObjectInfo { try await store.head(ObjectKey(key)) }

    /// The store throws away all uploads that have begun.
    package func dropUploads() async {
        for upload in ledger.account.uploads { try? await store.abortUpload(upload) }
    }

    package func object(_ key: String) async throws(VFSError) -> [UInt8]? {
        let sink = CollectingSink()
        do throws(VFSError) {
            _ = try await store.read(ReadRequest(key: ObjectKey(key)), into: sink)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        return sink.bytes
    }

    package func keys(_ prefix: String = "") async throws(VFSError) -> [String] {
        var keys: [String] = []
        var continuation: String?
        repeat {
            let page = try await store.list(
                ListRequest(prefix: ObjectKey(prefix), delimited: false, continuation: continuation))
            keys += page.objects.map(\.key.string)
            continuation = page.continuation
        } while continuation != nil
        return keys
    }

    /// The bytes of all current objects.
    package func contents() async throws(VFSError) -> [String: [UInt8]] {
        var contents: [String: [UInt8]] = [:]
        for key in try await keys() { contents[key] = try await object(key) }
        return contents
    }

    // MARK: In a few words

    /// The inode at `path`, counted once as looked up.
    package func inode(_ path: String) async throws(VFSError) -> InodeID {
        guard let attributes = try await attributes(path) else { throw VFSError(.notFound, "\(path) is not there") }
        return attributes.inode
    }

    package func attributes(_ path: String) async throws(VFSError) -> FileAttributes? {
        var found = try await fs.getattr(Mount.root)
        for name in path.split(separator: "/") {
            guard let next = try await fs.lookup(found.inode, String(name)) else { return nil }
            found = next
        }
        return found
    }

    package func readAll(_ inode: InodeID, _ handle: HandleID) async throws(VFSError) -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let some = try await read(inode, handle, bytes.count)
            if some.isEmpty { return bytes }
            bytes += some
        }
    }

    /// As the kernel reads: once more, one page, where its read-ahead is refused.
    private func read(_ inode: InodeID, _ handle: HandleID, _ offset: Int) async throws(VFSError) -> [UInt8] {
        do throws(VFSError) {
            return try await fs.read(inode, handle, offset, 128 << 10)
        } catch {
            guard error.code == .stale else { throw error }
            return try await fs.read(inode, handle, offset, 4096 - offset % 4096)
        }
    }

    package func read(_ path: String) async throws(VFSError) -> [UInt8] {
        let (inode, handle) = try await open(path)
        let bytes = await outcome { () async throws(VFSError) in try await self.readAll(inode, handle) }
        try await fs.close(inode, handle)
        return try bytes.get()
    }

    /// As the kernel opens a path: once more from the lookup when the inode that it had found is stale.
    package func open(_ path: String) async throws(VFSError) -> (inode: InodeID, handle: HandleID) {
        let inode = try await inode(path)
        do throws(VFSError) {
            return (inode, try await fs.open(inode))
        } catch {
            guard error.code == .stale else { throw error }
            let again = try await self.inode(path)
            return (again, try await fs.open(again))
        }
    }

    /// In requests of a mebibyte, as the kernel sends them.
    package func fill(
        _ inode: InodeID, _ handle: HandleID, _ bytes: [UInt8], at start: Int = 0
    ) async throws(VFSError) {
        for offset in stride(from: 0, to: bytes.count, by: 1 << 20) {
            try await fs.write(
                inode, handle, start + offset, Array(bytes[offset..<min(bytes.count, offset + (1 << 20))]))
        }
    }

    /// Creates or replaces the file `name` of a directory.
    package func write(_ name: String, _ bytes: [UInt8], in parent: InodeID = Mount.root) async throws(VFSError) {
        let (inode, handle) = try await fs.create(parent, name, flags: 0o1001)
        try await fill(inode, handle, bytes)
        try await fs.close(inode, handle)
    }
}

/// Bytes that differ from place to place and from seed to seed.
package func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 40)
    }
}

/// A folder of a test, which goes with it.
package final class ScratchFolder: Sendable {
    package let path: String

    package init(_ name: String) throws {
        var template = Array("/tmp/cloudmount-\(name)-XXXXXX".utf8CString)
        guard let path = mkdtemp(&template) else { throw VFSError(.io, "no directory for the test") }
        self.path = String(cString: path)
    }

    deinit { removeTree(path) }
}

private func names(in directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names
}

private func bytes(ofFile path: String) -> [UInt8]? {
    let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { Glibc.close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else { return nil }
    var bytes = [UInt8](repeating: 0, count: status.st_size)
    let count = pread(file, &bytes, bytes.count, 0)
    return Array(bytes.prefix(max(0, count)))
}

private func removeTree(_ path: String) {
    for name in names(in: path) where Glibc.unlink(path + "/" + name) != 0 { removeTree(path + "/" + name) }
    Glibc.rmdir(path)
}

/// Copies what a process has left on disk by now.
private func copyTree(_ from: String, _ to: String) {
    mkdir(to, 0o700)
    let folders = ["staged", "versions", "names"]
    for name in names(in: from) where name != "lock" && !folders.contains(name) {
        write(bytes(ofFile: "\(from)/\(name)") ?? [], to: "\(to)/\(name)")
    }
    for folder in folders { copyFolder("\(from)/\(folder)", "\(to)/\(folder)") }
}

private func copyFolder(_ from: String, _ to: String) {
    mkdir(to, 0o700)
    for name in names(in: from) {
        if let folder = opendir("\(from)/\(name)") {
            closedir(folder)
            copyFolder("\(from)/\(name)", "\(to)/\(name)")
        } else {
            write(bytes(ofFile: "\(from)/\(name)") ?? [], to: "\(to)/\(name)")
        }
    }
}

private func write(_ bytes: [UInt8], to path: String) {
    let raw = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    guard raw >= 0 else { return }
    _ = bytes.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) }
    Glibc.close(raw)
}
