import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import TestSeeds
import Testing

@Suite("Staged in memory")
struct StagedMemoryTests {
    let directory: TemporaryDirectory
    let pool = BufferPool(limit: 8 << 20)

    init() throws { directory = try TemporaryDirectory() }

    private func area(limit: Int = 1 << 30) throws -> StagingArea {
        try StagingArea(directory: directory.path, limit: limit, keepFree: 0)
    }

    private func isThere(_ path: String) -> Bool { access(path, F_OK) == 0 }

    @Test("Few bytes take memory and no disk, and go with the file")
    func small() throws {
        let area = try area()
        var file: StagedFile? = try area.makeFile(label: "m", memory: pool.share())
        let path = try #require(file?.path)
        try file?.write([1, 2, 3], at: 10)
        #expect(try file?.bytes(Extent(0, 20)) == [UInt8](repeating: 0, count: 10) + [1, 2, 3])
        #expect(file != nil && file?.place == nil && !isThere(path) && area.used == 0 && pool.used == 4096)
        file = nil
        #expect(pool.used == 0)
    }

    @Test("Many bytes, and those of a file that has been on disk, are on disk")
    func large() throws {
        let area = try area()
        let file = try area.makeFile(label: "m", memory: pool.share())
        try file.write([UInt8](repeating: 1, count: 60_000), at: 0)
        #expect(area.used == 0 && pool.used == 64 << 10)
        try file.write([UInt8](repeating: 2, count: 10_000), at: 60_000)
        #expect(area.used == 72 << 10 && pool.used == 0 && file.place == file.path && isThere(file.path))
        try file.truncate(to: 5)
        try file.write([3], at: 5)
        #expect(pool.used == 0)
        #expect(try file.bytes(Extent(0, 10)) == [1, 1, 1, 1, 1, 3])
    }

    @Test("Spilled bytes are where the path says, and stay when they are to be kept")
    func spill() throws {
        let area = try area()
        var file: StagedFile? = try area.makeFile(label: "m", memory: pool.share())
        let path = try #require(file?.path)
        try file?.write([1, 2, 3], at: 0)
        try file?.spill()
        try file?.spill()
        file?.keep()
        file = nil
        #expect(area.leftovers.map(\.path) == [path] && area.used == 4096 && pool.used == 0)
    }

    @Test("Without room on disk the bytes stay in memory, and a write that needs it is refused")
    func full() throws {
        let area = try area(limit: 0)
        let file = try area.makeFile(label: "m", memory: pool.share())
        try file.write([1, 2, 3], at: 0)
        #expect(throws: VFSError.self) { try file.spill() }
        #expect(throws: VFSError.self) { try file.write([4], at: 100_000) }
        #expect(try file.bytes(Extent(0, 10)) == [1, 2, 3])
        #expect(file.place == nil && area.used == 0)
    }

    @Test("Small files take an eighth of the memory at most, and no more than their mount may have")
    func bounded() throws {
        let area = try area()
        let share = pool.share()
        let files = try (0..<300).map { _ in try area.makeFile(label: "m", memory: share) }
        for file in files { try file.write([1], at: 0) }
        #expect(pool.used == 1 << 20)
        #expect(area.used == 44 * 4096)
        let small = BufferPool(limit: 4096)
        let other = try area.makeFile(label: "m", memory: small.share())
        try other.write([1], at: 0)
        #expect(small.used == 0 && area.used == 45 * 4096)
    }

    @Test("Random writes, cuts and spills agree with an array of bytes", arguments: seeds(200, "StagedMemory"))
    func random(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let area = try area()
        let file = try area.makeFile(label: "m", memory: pool.share())
        var model: [UInt8] = []
        for step in 0..<40 {
            switch Int.random(in: 0..<20, using: &generator) {
            case 0: try file.spill()
            case 1...4:
                let size = Int.random(in: 0...80_000, using: &generator)
                try file.truncate(to: size)
                if size < model.count { model.removeSubrange(size...) }
            default:
                let offset = Int.random(in: 0...(step < 20 ? 9000 : 70_000), using: &generator)
                let bytes = (0..<Int.random(in: 1...3000, using: &generator)).map { _ in
                    UInt8.random(in: 1...255, using: &generator)
                }
                try file.write(bytes, at: offset)
                if model.count < offset { model += [UInt8](repeating: 0, count: offset - model.count) }
                model.replaceSubrange(offset..<min(model.count, offset + bytes.count), with: bytes)
            }
            // A hole at the end may be left by a cut; it is zeros, as all that was never written.
            let bytes = try file.bytes(Extent(0, 100_000))
            let isEqual = bytes.starts(with: model) && bytes.dropFirst(model.count).allSatisfy { $0 == 0 }
            #expect(isEqual, "seed \(seed), step \(step): \(bytes.count) bytes of \(model.count)")
        }
    }

    @Test("What is written while the bytes are brought to disk is there too")
    func race() async throws {
        let area = try area()
        for round in 0..<50 {
            let file = try area.makeFile(label: "m", memory: pool.share())
            try file.write([UInt8](repeating: 1, count: 8000), at: 0)
            async let spilled: Void = BlockingPool.shared.run { () throws(VFSError) in try file.spill() }
            for index in 0..<200 { try file.write([UInt8(truncatingIfNeeded: round + index)], at: index * 40) }
            try await spilled
            let bytes = try file.bytes(Extent(0, 8000))
            #expect((0..<200).allSatisfy { bytes[$0 * 40] == UInt8(truncatingIfNeeded: round + $0) })
            #expect(file.place == file.path)
        }
    }
}
