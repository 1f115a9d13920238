import CloudMountStaging
import CloudMountVFS
import TestSeeds
import Testing

@testable import CloudMountFilesystem

@Suite("Reads here and there")
struct DensityTests {
    @Test("A few reads fetch what they ask for, and no more")
    func isolated() {
        var density = Density(size: 1 << 30)
        for index in 0..<16 {
            #expect(density.missed(Extent(offset: index * 50_000_000, count: 4096), most: 16).isEmpty)
        }
        #expect(density.missed(Extent(offset: 800_000_000, count: 4096), most: 16) == [Extent(762 << 20, 763 << 20)])
        // In a large one, fewer than one in 64 MiB.
        var large = Density(size: 1 << 40)
        for index in 0..<16_000 { #expect(large.missed(Extent(offset: index << 20, count: 4096), most: 16).isEmpty) }
    }

    @Test(
        "No part is fetched twice, nothing lies beyond the end, and in the end all of it has come",
        arguments: [1, 2, 3])
    func whole(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let size = (64 << 20) + 12_345
        var density = Density(size: size)
        var fetched = ExtentMap()
        var total = 0
        for _ in 0..<400 {
            let low = Int.random(in: 0..<size - 4096, using: &random)
            for part in density.missed(Extent(offset: low, count: 4096), most: Int.random(in: 0...4, using: &random)) {
                #expect(part.upperBound <= size && part.count <= Density.unit)
                total += part.count
                fetched.insert(part)
            }
        }
        #expect(total == size && fetched.extents == [Extent(0, size)])
    }
}
