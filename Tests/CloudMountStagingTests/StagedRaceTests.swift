import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization
import TestSeeds
import Testing

@testable import CloudMountStaging

/// Runs each body on a thread of its own and waits for all.
private func sideBySide(_ bodies: [@Sendable () -> Void]) {
    let threads = bodies.compactMap { NamedThread("beside", body: $0) }
    for thread in threads { thread.join() }
}

@Suite("Several at one staged file")
struct StagedRaceTests {
    let directory: TemporaryDirectory
    let pool = BufferPool(limit: 8 << 20)

    init() throws { directory = try TemporaryDirectory() }

    private func area(descriptors: Int? = nil) throws -> StagingArea {
        try StagingArea(directory: directory.path, limit: 1 << 30, keepFree: 0, descriptorLimit: descriptors)
    }

    @Test("What is cut off while the bytes are brought to disk does not come back")
    func cutWhileSpilling() throws {
        let area = try area()
        for round in 0..<300 {
            let file = try area.makeFile(label: "m", memory: pool.share())
            try file.write([UInt8](repeating: 7, count: 60_000), at: 0)
            sideBySide([
                { #expect(throws: Never.self) { try file.spill() } },
                {
                    for _ in 0..<round { sched_yield() }
                    #expect(throws: Never.self) { try file.truncate(to: 10) }
                },
            ])
            #expect(try file.bytes(Extent(0, 60_000)).count == 10, "round \(round)")
        }
    }

    @Test(
        "Whatever is written, cut and punched at once: what is on disk is reserved", arguments: seeds(8, "StagedRace"))
    func accounting(seed: UInt64) throws {
        let area = try area()
        let file = try area.makeFile(label: "m")
        let blocks = 64
        sideBySide(
            (0..<4).map { index in
                {
                    var generator = SeededGenerator(seed: seed &+ UInt64(index) << 32)
                    for _ in 0..<1500 {
                        let offset = Int.random(in: 0..<blocks, using: &generator) * StagedFile.block
                        switch (index, Int.random(in: 0..<4, using: &generator)) {
                        case (0, 0): try? file.truncate(to: offset)
                        case (1, 0...1): try? file.punch(Extent(offset: offset, count: 5 * StagedFile.block))
                        default: try? file.write([UInt8](repeating: 1, count: 5000), at: offset)
                        }
                    }
                }
            })
        let (reserved, writes, ended) = file.state.withLock { ($0.blocks, $0.writes, $0.endedWrites) }
        #expect(writes.isEmpty && ended.isEmpty && area.used == reserved.total)
        let bytes = try file.bytes(Extent(0, (blocks + 2) * StagedFile.block))
        for start in stride(from: 0, to: bytes.count, by: StagedFile.block)
        where bytes[start..<min(bytes.count, start + StagedFile.block)].contains(1) {
            #expect(reserved.contains(Extent(offset: start, count: StagedFile.block)), "seed \(seed), at \(start)")
        }
        try file.truncate(to: 0)
        #expect(area.used == 0, "seed \(seed)")
    }

    @Test("A write beside a cut keeps its reservation")
    func cutBesideWrite() throws {
        let area = try area()
        for round in 0..<200 {
            let file = try area.makeFile(label: "m")
            for block in 0..<8 { try file.write([2], at: block * StagedFile.block) }
            let go = Counter()
            let write: @Sendable () -> Void = {
                go.add()
                while go.value < 2 { sched_yield() }
                for block in 0..<8 { try? file.write([1], at: block * StagedFile.block) }
            }
            let cut: @Sendable () -> Void = {
                go.add()
                while go.value < 2 { sched_yield() }
                if round.isMultiple(of: 2) {
                    try? file.truncate(to: 0)
                } else {
                    try? file.punch(Extent(0, 8 * StagedFile.block))
                }
            }
            sideBySide([write, cut])
            let reserved = file.state.withLock { $0.blocks }
            let bytes = try file.bytes(Extent(0, 8 * StagedFile.block))
            for block in 0..<8 where bytes.count > block * StagedFile.block && bytes[block * StagedFile.block] == 1 {
                #expect(reserved.contains(block * StagedFile.block), "round \(round)")
            }
        }
    }

    @Test("Files that go while others come do not wait for themselves")
    func manyFiles() throws {
        let area = try area(descriptors: 1)
        sideBySide(
            (0..<4).map { _ in
                {
                    for _ in 0..<1500 {
                        guard let file = try? area.makeFile(label: "m") else { continue }
                        try? file.write([1], at: 0)
                    }
                }
            })
        area.finishRemovals(seconds: 60)
        #expect(area.used == 0)
    }

    @Test("Bytes that are there at once are had without the disk: of memory, and of the page cache")
    func readNow() throws {
        let area = try area()
        let file = try area.makeFile(label: "m", memory: pool.share())
        func now(_ extent: Extent) -> [UInt8]? {
            var bytes = [UInt8](repeating: 9, count: extent.count)
            let count = bytes.withUnsafeMutableBytes { file.readNow(at: extent.lowerBound, into: $0) }
            return count.map { Array(bytes[..<$0]) }
        }
        #expect(now(Extent(0, 4)) == nil)
        try file.write([1, 2, 3], at: 0)
        #expect(now(Extent(1, 9)) == [2, 3] && now(Extent(3, 9)) == nil)
        try file.spill()
        // A file system that cannot tell what is in memory answers nothing at all.
        #expect([nil, [2, 3]].contains(now(Extent(1, 9))) && now(Extent(3, 9)) == nil)
        #expect(file.path.hasSuffix("/" + file.name) && file.name.hasPrefix("m-"))
    }

    @Test("What is punched is zeros, in memory as on disk", arguments: [true, false])
    func punched(inMemory: Bool) throws {
        let file = try area().makeFile(label: "m", memory: inMemory ? pool.share() : nil)
        try file.write([UInt8](repeating: 5, count: 100), at: 0)
        try file.punch(Extent(10, 20))
        try file.punch(Extent(90, 400))
        let expected = (0..<100).map { (10..<20).contains($0) || $0 >= 90 ? UInt8(0) : 5 }
        #expect(try file.bytes(Extent(0, 200)) == expected)
    }

    @Test("A source that knows what follows is zeros gives them beyond what is staged")
    func zeroFilled() throws {
        let file = try area().makeFile(label: "m")
        try file.write([1, 2, 3], at: 0)
        let source = StagedSource(file: file, extent: Extent(1, 9), zeroFilled: true)
        var bytes = [UInt8](repeating: 7, count: 20)
        #expect(try bytes.withUnsafeMutableBytes { try source.read(at: 0, into: $0) } == 8)
        #expect(bytes[..<9] == [2, 3, 0, 0, 0, 0, 0, 0, 7])
        #expect(bytes.withUnsafeMutableBytes { source.readNow(at: 3, into: $0) } == nil)
        #expect(try bytes.withUnsafeMutableBytes { try source.read(at: 7, into: $0) } == 1)
    }
}

private final class Counter: Sendable {
    private let count = Atomic(0)
    var value: Int { count.load(ordering: .sequentiallyConsistent) }
    func add() { count.add(1, ordering: .sequentiallyConsistent) }
}
