// swift run -c release names-bench DIRECTORY [NAMES]
//
// What it costs to save and to take up what is known of so many names (a million), in folders of a thousand: run twice over one directory, the first
// run lists them all and saves them, the second takes them up and looks at all of them, without a request.
import CloudMountCache
import CloudMountFilesystem
import CloudMountLayers
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import MemoryProvider
import MountHarness
import Synchronization

let arguments = Array(CommandLine.arguments.dropFirst())
guard let directory = arguments.first else {
    print("usage: names-bench DIRECTORY [NAMES]")
    exit(64)
}
let count = arguments.count > 1 ? max(1000, Int(arguments[1]) ?? 0) : 1_000_000

/// Says what the bucket has without having it.
struct ManyNames: ProviderLayer {
    let inner: any ObjectProvider
    let count: Int
    let requests: Requests

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        requests.add()
        return try await body(inner)
    }

    func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        requests.add()
        var page = ListPage()
        if request.prefix.isEmpty {
            page.commonPrefixes = (0..<count / 1000).map { ObjectKey("folder-\($0)/") }
        } else {
            page.objects = (0..<1000).map { object(ObjectKey("\(request.prefix)photograph-\($0).jpg")) }
        }
        return page
    }

    func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        requests.add()
        if key.endsWithSlash { throw VFSError(.notFound, "no such object") }
        var info = object(key)
        info.metadata = ObjectMetadata()
        return info
    }

    private func object(_ key: ObjectKey) -> ObjectInfo {
        ObjectInfo(
            key: key, size: 100_000, etag: ETag("0123456789abcdef0123456789abcdef"),
            stored: Timestamp(seconds: 1_700_000_000), storageClass: "STANDARD")
    }
}

final class Requests: Sendable {
    private let total = Atomic(0)
    func add() { total.add(1, ordering: .relaxed) }
    var all: Int { total.load(ordering: .relaxed) }
}

/// MiB of memory that are the process's own.
func memory() -> Int {
    let raw = open("/proc/self/statm", O_RDONLY)
    defer { close(raw) }
    var bytes = [UInt8](repeating: 0, count: 200)
    let got = read(raw, &bytes, bytes.count)
    let fields = String(decoding: bytes.prefix(max(0, got)), as: UTF8.self).split(separator: " ").compactMap { Int($0) }
    return fields.count > 2 ? (fields[1] - fields[2]) / 256 : 0
}

func measure(_ what: String, _ work: () async throws -> Void) async rethrows {
    let before = clock()
    let time = try await ContinuousClock().measure { try await work() }
    print("\(what): \(time.formatted), \((clock() - before) / 1000) ms of processors, \(memory()) MiB")
}

extension Duration {
    var formatted: String { "\(Int(self / .microseconds(1))) µs" }
}

/// As find(1) goes through all.
func walk(_ fs: MountedBucket) async throws -> Int {
    var seen = 0
    for folder in try await fs.list(1, plus: false, capacity: 1000) {
        guard let found = try await fs.lookup(1, folder.name) else { continue }
        seen += try await fs.list(found.inode, plus: true, capacity: 1000).count
    }
    return seen
}

let staging = try StagingArea(directory: directory, limit: 50 << 30, keepFree: 0)
let folder = try NamesFolder(staging)
var settings = MountSettings(name: "bench", uid: 0, gid: 0)
settings.policy.data = .disk
settings.policy.metadataTTL = .seconds(86_400)
settings.mostNodes = 2 * count
let requests = Requests()
let fs = MountedBucket(
    settings: settings, provider: ManyNames(inner: MemoryProvider(), count: count, requests: requests),
    staging: staging, memory: BufferPool(limit: 128 << 20), names: folder)
print("at first: \(memory()) MiB")
await measure("start") { fs.upkeep.takeUpNames() }
for _ in 0..<2 {
    let before = requests.all
    var seen = 0
    await measure("walk") { seen = (try? await walk(fs)) ?? 0 }
    print("  \(seen) names, \(requests.all - before) requests")
}
await measure("save") { fs.upkeep.saveNames() }
