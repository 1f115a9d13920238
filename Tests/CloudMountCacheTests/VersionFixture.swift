import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import Synchronization
import TestSeeds
import TestServers

@testable import CloudMountCache

/// A store in a folder of its own, and what lies there.
final class Disk: Sendable {
    private let folder: TemporaryFolder
    var directory: String { folder.path }
    private let made: Mutex<(area: StagingArea, store: VersionStore)?>
    let time: Mutex<Timestamp>

    init(limit: Int = 1 << 30, openLimit: Int = 16) throws {
        folder = try TemporaryFolder("versions")
        made = Mutex(nil)
        time = Mutex(SystemClock.now())
        try start(limit: limit, openLimit: openLimit)
    }

    /// The next process.
    func start(limit: Int = 1 << 30, openLimit: Int = 16) throws {
        end()
        let area = try area(limit)
        let store = try VersionStore(
            area, openLimit: openLimit, now: { [weak self] in self?.time.withLock { $0 } ?? SystemClock.now() })
        store.finish(seconds: 60)
        made.withLock { $0 = (area, store) }
    }

    /// What the one before has still to do may take it a moment.
    private func area(_ limit: Int) throws -> StagingArea {
        for _ in 0..<1000 {
            do throws(VFSError) {
                return try StagingArea(directory: directory, limit: limit, keepFree: 0)
            } catch {
                guard error.code == .busy else { throw error }
                usleep(5000)
            }
        }
        throw VFSError(.busy, "the process before does not end")
    }

    deinit { end() }

    private func end() {
        let old = made.withLock { $0 }
        old?.store.finish(seconds: 60)
        old?.store.close()
        made.withLock { $0 = nil }
    }

    private var all: (area: StagingArea, store: VersionStore) {
        guard let all = made.withLock({ $0 }) else { preconditionFailure("it has been started") }
        return all
    }
    var area: StagingArea { all.area }
    var store: VersionStore { all.store }

    func mount(_ name: String = "photos", limit: Int = 0) -> MountVersions {
        MountVersions(store, mount: name, bucket: "bucket", limit: limit)
    }

    func settle() {
        area.finishRemovals(seconds: 60)
        store.finish(seconds: 60)
    }

    /// All files of the store.
    func files() -> [String] {
        (Folder.names(directory + "/versions") ?? []).flatMap { mount in
            (Folder.names("\(directory)/versions/\(mount)") ?? []).flatMap { shard in
                (Folder.names("\(directory)/versions/\(mount)/\(shard)") ?? []).map {
                    "\(directory)/versions/\(mount)/\(shard)/\($0)"
                }
            }
        }
    }

    /// What the disk takes for it.
    func blocks() -> Int {
        files().reduce(0) { sum, path in
            var status = stat()
            return lstat(path, &status) == 0 ? sum + Int(status.st_blocks) * 512 : sum
        }
    }

    func later(_ seconds: Int) {
        time.withLock { $0 = Timestamp(seconds: $0.seconds + seconds) }
    }
}

func info(_ key: String, _ size: Int, tag: String = "1") -> ObjectInfo {
    ObjectInfo(key: ObjectKey(key), size: size, etag: ETag(tag), stored: Timestamp(seconds: 0))
}

func bytes(_ info: ObjectInfo) -> [UInt8] {
    var random = SeededGenerator(
        seed: UInt64(truncatingIfNeeded: info.size) &+ UInt64(info.key.string.utf8.reduce(0) { $0 &* 31 &+ Int($1) }))
    var bytes = [UInt8](repeating: 0, count: info.size)
    for index in stride(from: 0, to: info.size, by: 8) {
        let word = random.next()
        for place in index..<min(index + 8, info.size) {
            bytes[place] = UInt8(truncatingIfNeeded: word >> UInt64((place - index) * 8))
        }
    }
    return bytes
}

extension MountVersions {
    func keep(_ info: ObjectInfo, _ extent: Extent? = nil, of known: [UInt8]? = nil) {
        let all = known ?? bytes(info)
        let extent = extent ?? Extent(0, info.size)
        let part = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, extent.count), alignment: 16)
        part.copyBytes(from: all[extent.lowerBound..<extent.upperBound])
        let address = UInt(bitPattern: part.baseAddress)
        fill(file(info), extent, most: .max) {
            UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: extent.count)
        } end: {
            UnsafeMutableRawPointer(bitPattern: address)?.deallocate()
        }
    }

    func read(_ info: ObjectInfo, _ extent: Extent? = nil) -> [UInt8]? {
        let extent = extent ?? Extent(0, info.size)
        var bytes = [UInt8](repeating: 0, count: extent.count)
        return bytes.withUnsafeMutableBytes { file(info).read(extent, into: $0) } ? bytes : nil
    }
}
