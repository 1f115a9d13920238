import CloudMountPlatform
import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import CloudMountCache
@testable import CloudMountStaging

/// All threads of a lane wait until `end`.
private final class BlockedLane: Sendable {
    private let gate = Semaphore()
    private let hasEnded = Atomic(false)
    private let all: Int

    init(_ lane: String, width: Int = 8) {
        all = width
        let (gate, begun) = (gate, Semaphore())
        for _ in 0..<width {
            BlockingPool.shared.submit(lane) {
                begun.signal()
                _ = gate.wait(seconds: 120)
            }
        }
        for _ in 0..<width { _ = begun.wait(seconds: 5) }
    }

    func end() {
        if hasEnded.exchange(true, ordering: .relaxed) { return }
        for _ in 0..<all { gate.signal() }
    }
}

/// What comes between: while checksums are made, while room is taken, while nothing has been counted yet.
@Suite("The store of versions, half way")
struct VersionRoomTests {
    @Test("Of what goes while an adopted file gets its checksums nothing is made up")
    func sealing() throws {
        let disk = try Disk()
        let info = info("large", 70 << 20)
        let content = [UInt8](repeating: 0x5A, count: 1 << 20)
        var staged: StagedFile? = try disk.area.makeFile(label: "photos")
        for index in 0..<70 {
            try content.withUnsafeBytes { bytes throws in try staged?.write(bytes, at: index << 20) }
        }
        let mount = disk.mount()
        let blocked = BlockedLane("photos/versions")
        defer { blocked.end() }
        if let staged, let version = staged.version { mount.adopt(staged, version, as: info) }
        staged = nil
        disk.area.finishRemovals(seconds: 60)
        // Beside it a chunk is fetched, and goes again.
        let file = mount.file(info)
        let isThere = Semaphore()
        file.fill(Extent(5 << 20, 6 << 20), lane: "another") {
            content.withUnsafeBytes { UnsafeRawBufferPointer($0) }
        } end: {
            isThere.signal()
        }
        #expect(isThere.wait(seconds: 60))
        #expect(mount.read(info, Extent(5 << 20, 6 << 20)) == content)
        #expect(file.evict(1) > 0)
        blocked.end()
        disk.settle()
        #expect(mount.read(info, Extent(5 << 20, 6 << 20)) == nil)
        #expect(mount.read(info, Extent(6 << 20, 7 << 20)) == content)
        #expect(disk.store.used == disk.blocks())
    }

    @Test("An adopted file that gets another name meanwhile gets its checksums under that")
    func sealingMoved() throws {
        let disk = try Disk()
        let (old, new) = (info("old", 3 << 20), info("new", 3 << 20))
        var staged: StagedFile? = try disk.area.makeFile(label: "photos")
        try bytes(old).withUnsafeBytes { bytes throws in try staged?.write(bytes, at: 0) }
        let mount = disk.mount()
        let blocked = BlockedLane("photos/versions")
        defer { blocked.end() }
        if let staged, let version = staged.version { mount.adopt(staged, version, as: old) }
        staged = nil
        disk.area.finishRemovals(seconds: 60)
        disk.store.relocate(mount.id(old), to: mount.id(new), size: old.size)
        #expect(mount.read(new) == nil)
        blocked.end()
        disk.settle()
        #expect(mount.read(new) == bytes(old))
        #expect(mount.read(old) == nil)
    }

    @Test("Room that was taken for bytes on their way stays taken while others look for room")
    func reserved() throws {
        let disk = try Disk()
        let mount = disk.mount(limit: 2 << 20)
        #expect(disk.store.take(1_500_000, for: mount.file(info("a", 1_500_000))))
        #expect(!disk.store.take(1_500_000, for: mount.file(info("b", 1_500_000))))
        #expect(disk.store.used == 1_500_000 && disk.area.clean == 1_500_000)
        disk.store.changed(mount.id(info("a", 1_500_000)), by: 0, taken: 1_500_000)
        #expect(disk.store.used == 0 && disk.area.clean == 0)
    }

    @Test("Writers get the room of what is clean before all of it has been counted")
    func uncounted() throws {
        let folder = try TemporaryFolder("versions")
        let content = [UInt8](repeating: 1, count: 1 << 20)
        do {
            let area = try StagingArea(directory: folder.path, limit: 64 << 20, keepFree: 0)
            let store = try VersionStore(area)
            store.finish(seconds: 60)
            let mount = MountVersions(store, mount: "photos", bucket: "bucket", limit: 0)
            for number in 0..<40 { mount.keep(info("\(number)", 1 << 20), of: content) }
            store.finish(seconds: 60)
            #expect(store.used >= 40 << 20)
            store.close()
            area.unlock()
        }
        let blocked = BlockedLane("versions")
        defer { blocked.end() }
        let area = try StagingArea(directory: folder.path, limit: 64 << 20, keepFree: 0)
        let store = try VersionStore(area)
        #expect(!store.isCounted)
        // As where the disk is full: the pressure comes from the disk, for the account is empty yet.
        #expect(area.evict(1 << 20) >= 1 << 20)
        blocked.end()
        store.finish(seconds: 60)
        #expect(store.isCounted && store.used < 40 << 20 && store.used > 0 && area.clean == store.used)
        store.close()
    }
}
