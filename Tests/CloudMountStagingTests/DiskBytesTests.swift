import Testing

@testable import CloudMountStaging

@Suite("What a file system says to have")
struct DiskBytesTests {
    @Test("No number of blocks is beyond sums, and none comes round to few")
    func limits() {
        #expect(diskBytes(3, of: 4096) == 12_288)
        #expect(diskBytes(0, of: .max) == 0)
        for (blocks, size) in [(UInt64.max, UInt64.max), (1 << 63, 2), (1 << 52, 4096), (1 << 63, 1), (.max, 1)] {
            #expect(diskBytes(blocks, of: size) == 1 << 60)
        }
    }
}
