import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Foundation
import Synchronization
import Testing

@testable import CloudMountFilesystem

@Suite("Prefetcher")
struct PrefetcherTests {
    @Test(
        "The first read at the start is rounded up; the window grows with each read that follows, and what is planned has no gaps"
    )
    func sequential() {
        var prefetcher = Prefetcher(maximum: 64 << 20)
        let size = 1 << 30
        #expect(prefetcher.plan(Extent(0, 4096), size: size) == .init(needed: Extent(0, 128 << 10)))
        var end = 128 << 10
        var window = 0
        for offset in stride(from: 128 << 10, to: 64 << 20, by: 1 << 20) {
            let plan = prefetcher.plan(Extent(offset, offset + (1 << 20)), size: size)
            #expect(!plan.collapsed && prefetcher.window >= window && prefetcher.window <= 64 << 20)
            window = prefetcher.window
            for ahead in plan.ahead {
                #expect(ahead.lowerBound >= end - (1 << 20))
                end = ahead.upperBound
            }
        }
        #expect(window == 64 << 20)
    }

    @Test("A reader that jumps gets what it asks for and no more, until reads follow each other again")
    func random() {
        var prefetcher = Prefetcher(maximum: 64 << 20)
        _ = prefetcher.plan(Extent(0, 4096), size: 1 << 30)
        _ = prefetcher.plan(Extent(4096, 8192), size: 1 << 30)
        let jump = prefetcher.plan(Extent(500_000_001, 500_000_100), size: 1 << 30)
        #expect(jump.collapsed && jump.ahead.isEmpty && jump.needed.count <= 8192)
        #expect(!prefetcher.plan(Extent(500_000_100, 500_004_196), size: 1 << 30).ahead.isEmpty)
    }

    @Test("A window larger than any memory is planned piece by piece, and nothing of it twice")
    func enormous() {
        var prefetcher = Prefetcher(maximum: 1 << 60)
        var planned = 0
        var end = 0
        for index in 0..<100 {
            let plan = prefetcher.plan(Extent(offset: index << 20, count: 1 << 20), size: 1 << 53)
            #expect(plan.ahead.count <= 256)
            for extent in plan.ahead {
                #expect(extent.lowerBound >= end)
                end = extent.upperBound
            }
            planned += plan.ahead.count
        }
        #expect(planned > 1000)
    }

    @Test("Without read-ahead exactly what is asked for is wanted")
    func off() {
        var largest = Prefetcher(maximum: .max)
        for index in 0..<100 { _ = largest.plan(Extent(offset: index * 4096, count: 4096), size: 1 << 20) }
        #expect(largest.window == .max)
        var prefetcher = Prefetcher(maximum: 0)
        #expect(prefetcher.plan(Extent(0, 10), size: 100) == .init(needed: Extent(0, 10)))
        #expect(prefetcher.plan(Extent(10, 20), size: 100) == .init(needed: Extent(10, 20)))
    }
}

@Suite("SingleFlight")
struct SingleFlightTests {
    @Test("Equal questions are asked once, and again when they have been answered")
    func joined() async throws {
        let flight = SingleFlight<Int, Int>(executor: nil)
        let calls = Calls()
        let answers = await withTaskGroup(of: Int?.self) { group in
            for _ in 0..<20 {
                group.addTask { @Sendable in
                    try? await flight.run(1) { @Sendable () async throws(VFSError) in
                        for _ in 0..<100 { await Task.yield() }
                        return calls.count()
                    }
                }
            }
            return await group.reduce(into: Set()) { $0.insert($1) }
        }
        #expect(answers.count == calls.count() - 1)
        #expect(try await flight.run(1) { 100 } == 100)
    }

    private final class Calls: Sendable {
        private let calls = Atomic(0)
        func count() -> Int { calls.add(1, ordering: .relaxed).newValue }
    }

    @Test("An error is everybody's, and the next one asks anew")
    func failing() async throws {
        let flight = SingleFlight<Int, Int>(executor: nil)
        await #expect(throws: VFSError.self) {
            try await flight.run(1) { () async throws(VFSError) in throw VFSError(.io, "no") }
        }
        #expect(try await flight.run(1) { 5 } == 5)
    }
}

@Suite("NameGate")
struct NameGateTests {
    @Test("Who is in holds its names as often as it entered; what is doomed is so until its work ends")
    func counts() {
        var gate = NameGate()
        gate.enter(using: [5, 5, 6], changing: [7], doomed: [7], moving: true)
        #expect(gate.inUse == [5: 2, 6: 1] && gate.changing == [7] && gate.isDoomed(7) && gate.moves == 1)
        gate.enter(using: [5], changing: [], doomed: [], moving: false)
        gate.leave(using: [5, 5, 6], changing: [7])
        #expect(gate.inUse == [5: 1] && gate.changing.isEmpty && !gate.isDoomed(7))
    }
}

@Suite("Directory")
struct DirectoryTests {
    @Test("What is distrusted while it is listed is not known whole when the listing ends")
    func distrusted() {
        let directory = Directory()
        directory.distrust()
        #expect(!directory.hasPassedOver)
        directory.listing = Listing(HeldNames())
        directory.distrust()
        #expect(directory.hasPassedOver && directory.completeUntil == 0)
    }
}

@Suite("Copies of what was just stored or read")
struct RecentBytesTests {
    private let memory = BufferPool(limit: 64 << 20)

    private func stored(_ bytes: [UInt8], size: Int? = nil) throws -> (ContentSnapshot, ObjectInfo) {
        let folder = FileManager.default.temporaryDirectory.appending(path: "recent-\(UUID())").path
        let area = try StagingArea(directory: folder, limit: 1 << 20, keepFree: 0)
        let staged = try area.makeFile(label: "test", memory: memory.share())
        try bytes.withUnsafeBytes { try staged.write($0, at: 0) }
        var state = ContentState(storedSize: 0, size: 0)
        var image = FileImage(size: 0, baseSize: 0)
        image.write(Extent(0, bytes.count))
        state.publish(image)
        (state.staged, state.bytesVersion) = (staged, staged.version)
        let info = ObjectInfo(
            key: "f", size: size ?? bytes.count, etag: ETag("e"), stored: Timestamp(seconds: 0))
        return (state.snapshot, info)
    }

    @Test("They are of one size: a store that says another for the same tag gets nobody beyond their end")
    func size() throws {
        let recent = RecentBytes(memory.share(), Capabilities(), lane: "test")
        let (snapshot, info) = try stored([1, 2, 3])
        recent.note(snapshot, as: info)
        #expect(recent.find(info).map { Array($0.bytes($0.extent)) } == [1, 2, 3])
        var larger = info
        larger.size = 1 << 40
        #expect(recent.find(larger) == nil)
        recent.note(try stored([1, 2, 3], size: 4).0, as: larger)
        #expect(recent.find(larger) == nil)
        // Another object under its key is another.
        var other = info
        other.key = "g"
        recent.relocate(from: other, to: info)
        #expect(recent.find(info) == nil)
        _ = recent.drop(1)
        #expect(recent.used == 0)
    }

    @Test("Small ones share memory; those unused for longest go first; what was only read is found for changes alone")
    func sharing() throws {
        let recent = RecentBytes(memory.share(), Capabilities(), lane: "test")
        func info(_ index: Int) -> ObjectInfo {
            ObjectInfo(key: ObjectKey("f\(index)"), size: 1000, etag: ETag("e"), stored: Timestamp(seconds: 0))
        }
        func note(_ index: Int) {
            let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: 1000)
            bytes.withUnsafeBytes { recent.noteRead(info(index), $0) }
        }
        for index in 0..<60 { note(index) }
        #expect(recent.used == 64 << 10)
        #expect(recent.find(info(7)) == nil)
        let copy = try #require(recent.find(info(7), forChange: true))
        #expect(Array(copy.bytes(Extent(998, 1000))) == [7, 7])
        #expect(copy.holds(Extent(0, 1000)) && !copy.holds(Extent(0, 1001)))
        for index in 60..<3000 {
            note(index)
            _ = recent.find(info(7), forChange: true)
        }
        #expect(recent.used <= 2 << 20)
        #expect(recent.find(info(7), forChange: true) != nil && recent.find(info(2999), forChange: true) != nil)
        #expect(recent.find(info(100), forChange: true) == nil)
        #expect(recent.drop(1 << 30) > 0 && recent.used == 0 && memory.used == 64 << 10)
        withExtendedLifetime(copy) {}
    }

    @Test("Of a large file the end is kept that is no whole page")
    func end() throws {
        let recent = RecentBytes(memory.share(), Capabilities(), lane: "test")
        let bytes = (0..<600_000).map { UInt8(truncatingIfNeeded: $0 / 4096) }
        let (snapshot, info) = try stored(bytes)
        recent.note(snapshot, as: info)
        let copy = try #require(recent.find(info))
        #expect(copy.extent == Extent(600_000 / 4096 * 4096, 600_000))
        #expect(Array(copy.bytes(copy.extent)) == Array(bytes[copy.extent.lowerBound...]))
    }

    @Test("Bytes that were changed since they were stored are not kept as those of the version")
    func changed() throws {
        let recent = RecentBytes(memory.share(), Capabilities(), lane: "test")
        let (snapshot, info) = try stored([1, 2, 3])
        try [9].withUnsafeBytes { try snapshot.staged?.write($0, at: 1) }
        recent.note(snapshot, as: info)
        #expect(recent.find(info) == nil)
    }

    @Test("Where tags do not tell versions apart there are none")
    func indistinct() throws {
        var capabilities = Capabilities()
        capabilities.distinctTags = false
        let recent = RecentBytes(memory.share(), capabilities, lane: "test")
        let (snapshot, info) = try stored([1, 2, 3])
        recent.note(snapshot, as: info)
        #expect(recent.find(info) == nil && recent.used == 0)
    }
}
