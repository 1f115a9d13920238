import CloudMountFilesystem
import CloudMountLayers
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import MemoryProvider
import MountHarness
import Synchronization

/// A file system over a bucket in memory, asked as the kernel asks it, without a kernel.
final class TestMount: Sendable {
    static let caller = Caller(uid: 1000, gid: 1000, pid: 1, umask: 0o022)
    static let root: InodeID = 1

    let store: MemoryProvider
    let faults = Faults()
    let memory: BufferPool
    let staging: StagingArea
    let settings: MountSettings
    let traffic = Traffic()
    let time = HeldClock()
    private let clock: FilesystemClock
    private let current: Mutex<MountedBucket>

    /// - Parameter wrap: puts a layer on top of all.
    init(
        capabilities: Capabilities = MemoryProvider.fullCapabilities, memory: Int = 64 << 20,
        clock: FilesystemClock? = nil, _ adjust: (inout MountSettings) -> Void = { _ in },
        wrap: (any ObjectProvider) -> any ObjectProvider = { $0 }
    ) throws {
        var settings = MountSettings(name: "test", uid: 1000, gid: 1000)
        adjust(&settings)
        self.settings = settings
        self.clock = clock ?? time.clock
        self.memory = BufferPool(limit: memory)
        store = MemoryProvider(capabilities: capabilities)
        var template = Array("/tmp/cloudmount-test-XXXXXX".utf8CString)
        guard let path = mkdtemp(&template) else { throw VFSError(.io, "no directory for the test") }
        staging = try StagingArea(directory: String(cString: path), limit: 4 << 30, keepFree: 0)
        let layers = FaultLayer(TrafficLayer(inner: store, traffic: traffic), faults)
        current = Mutex(
            MountedBucket(
                settings: settings, provider: wrap(layers), staging: staging, memory: self.memory, clock: self.clock))
    }

    deinit { removeTree(staging.directory) }

    var fs: MountedBucket { current.withLock { $0 } }

    /// Bytes of memory in use, but for copies of what was just stored.
    var memoryUsed: Int { memory.used - fs.bytesKept }

    /// A new file system on the same bucket: nothing is remembered but what the store has.
    func remount() {
        let layers = FaultLayer(TrafficLayer(inner: store, traffic: traffic), faults)
        let fresh = MountedBucket(
            settings: settings, provider: layers, staging: staging, memory: memory, clock: clock)
        current.withLock { $0 = fresh }
    }

    // MARK: The store's side

    func put(_ key: String, _ bytes: [UInt8], _ metadata: ObjectMetadata = ObjectMetadata()) async throws {
        _ = try await store.put(PutRequest(key: ObjectKey(key), metadata: metadata), from: BytesSource(bytes))
    }

    func object(_ key: String) async throws -> [UInt8]? {
        let sink = CollectingSink()
        do throws(VFSError) {
            _ = try await store.read(ReadRequest(key: ObjectKey(key)), into: sink)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        return sink.bytes
    }

    func keys(_ prefix: String = "") async throws -> [String] {
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

    // MARK: In a few words

    /// The inode at `path`, counted once as looked up.
    func inode(_ path: String) async throws -> InodeID {
        guard let attributes = try await attributes(path) else { throw VFSError(.notFound, "\(path) is not there") }
        return attributes.inode
    }

    func attributes(_ path: String) async throws -> FileAttributes? {
        var found = try await fs.getattr(TestMount.root)
        for name in ObjectKey(path).names {
            guard let next = try await fs.lookup(found.inode, name) else { return nil }
            found = next
        }
        return found
    }

    /// As the kernel opens a path: once more from the lookup when what it knew of the file is stale.
    func open(_ path: String) async throws -> (InodeID, HandleID) {
        let known = try await inode(path)
        do throws(VFSError) {
            return (known, try await fs.open(known))
        } catch {
            guard error.code == .stale else { throw error }
            let inode = try await inode(path)
            return (inode, try await fs.open(inode))
        }
    }

    func read(_ path: String) async throws -> [UInt8] {
        let (inode, handle) = try await open(path)
        var bytes: [UInt8] = []
        while true {
            let some = try await fs.read(inode, handle, bytes.count, 128 << 10)
            if some.isEmpty { break }
            bytes += some
        }
        try await fs.close(inode, handle)
        return bytes
    }

    /// Creates or replaces the file `name` of the top directory.
    func write(_ name: String, _ bytes: [UInt8], in parent: InodeID = TestMount.root) async throws {
        let (inode, handle) = try await fs.create(parent, name, flags: 0o1001)
        for offset in stride(from: 0, to: bytes.count, by: 1 << 20) {
            try await fs.write(inode, handle, offset, Array(bytes[offset..<min(bytes.count, offset + (1 << 20))]))
        }
        try await fs.close(inode, handle)
    }
}

/// Makes every call wait a random while, so that answers overtake each other.
struct JitterLayer: ProviderLayer {
    let inner: any ObjectProvider
    /// Microseconds.
    let most: UInt64

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        try? await Task.sleep(for: .microseconds(UInt64.random(in: 0...most)))
        let value = try await body(inner)
        try? await Task.sleep(for: .microseconds(UInt64.random(in: 0...most)))
        return value
    }
}

func removeTree(_ path: String) {
    guard let stream = opendir(path) else { return }
    var names: [String] = []
    while let entry = readdir(stream) {
        names.append(
            withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
    }
    closedir(stream)
    for name in names where name != "." && name != ".." {
        if Glibc.unlink(path + "/" + name) != 0 { removeTree(path + "/" + name) }
    }
    Glibc.rmdir(path)
}
