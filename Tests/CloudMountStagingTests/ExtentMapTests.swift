import CloudMountStaging
import CloudMountVFS
import TestSeeds
import Testing

@Suite("ExtentMap")
struct ExtentMapTests {
    @Test("Extents that touch or overlap become one")
    func merging() {
        var map = ExtentMap()
        #expect(map.insert(Extent(10, 20)) == 10)
        #expect(map.insert(Extent(30, 40)) == 10)
        #expect(map.insert(Extent(20, 25)) == 5)
        #expect(map.extents == [Extent(10, 25), Extent(30, 40)])
        #expect(map.insert(Extent(5, 35)) == 10)
        #expect(map.extents == [Extent(5, 40)])
        #expect(map.total == 35)
        #expect(map.insert(Extent(7, 9)) == 0)
    }

    @Test("A removal in the middle leaves both sides")
    func splitting() {
        var map = ExtentMap([Extent(0, 100)])
        #expect(map.remove(Extent(40, 60)) == 20)
        #expect(map.extents == [Extent(0, 40), Extent(60, 100)])
        #expect(map.removeAll(from: 80) == 20)
        #expect(map.removeAll(from: 500) == 0)
        #expect(map.total == 60)
        #expect(map.upperBound == 80)
    }

    @Test("Empty extents change and match nothing")
    func emptiness() {
        var map = ExtentMap([Extent(5, 5)])
        #expect(map.isEmpty)
        map.insert(Extent(0, 10))
        #expect(map.remove(Extent(3, 3)) == 0)
        #expect(map.contains(Extent(50, 50)))
        #expect(!map.overlaps(Extent(3, 3)))
        #expect(map.intersections(in: Extent(3, 3)).isEmpty)
        #expect(map.gaps(in: Extent(20, 20)).isEmpty)
    }

    @Test("Boundaries come one after the other")
    func boundaries() {
        let map = ExtentMap([Extent(10, 20), Extent(30, 40)])
        #expect(map.nextBoundary(after: 0) == 10)
        #expect(map.nextBoundary(after: 10) == 20)
        #expect(map.nextBoundary(after: 19) == 20)
        #expect(map.nextBoundary(after: 20) == 30)
        #expect(map.nextBoundary(after: 40) == nil)
    }

    @Test("Random operations agree with a bitmap", arguments: seeds(200, "ExtentMap"))
    func bitmap(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var map = ExtentMap()
        var bits = [Bool](repeating: false, count: 256)
        for _ in 0..<200 {
            let start = Int.random(in: 0..<256, using: &generator)
            let extent = Extent(start, min(256, start + Int.random(in: 0...40, using: &generator)))
            let present = bits[extent.lowerBound..<extent.upperBound].count { $0 }
            switch Int.random(in: 0..<10, using: &generator) {
            case 0..<5:
                #expect(map.insert(extent) == extent.count - present, "seed \(seed)")
                for index in extent.lowerBound..<extent.upperBound { bits[index] = true }
            case 5..<9:
                #expect(map.remove(extent) == present, "seed \(seed)")
                for index in extent.lowerBound..<extent.upperBound { bits[index] = false }
            default:
                map.removeAll(from: start)
                for index in start..<256 { bits[index] = false }
            }
            #expect(map.extents == runs(bits, Extent(0, 256), true), "seed \(seed)")
            #expect(map.total == bits.count { $0 }, "seed \(seed)")

            let low = Int.random(in: 0..<256, using: &generator)
            let asked = Extent(low, min(256, low + Int.random(in: 0...60, using: &generator)))
            let inside = bits[asked.lowerBound..<asked.upperBound]
            #expect(map.intersections(in: asked) == runs(bits, asked, true), "seed \(seed)")
            #expect(map.gaps(in: asked) == runs(bits, asked, false), "seed \(seed)")
            #expect(map.contains(asked) == inside.allSatisfy { $0 }, "seed \(seed)")
            #expect(map.overlaps(asked) == inside.contains(true), "seed \(seed)")
            #expect(map.contains(low) == bits[low], "seed \(seed)")
            let next = ((low + 1)..<257).first { index in
                (index < 256 && bits[index]) != bits[index - 1]
            }
            #expect(map.nextBoundary(after: low) == next, "seed \(seed)")
            #expect(
                map.first(at: low) == runs(bits, Extent(0, 256), true).first { $0.upperBound > low }, "seed \(seed)")
        }
    }

    /// The runs of `value` within `extent`.
    private func runs(_ bits: [Bool], _ extent: Extent, _ value: Bool) -> [Extent] {
        var found: [Extent] = []
        var start: Int?
        for index in extent.lowerBound..<extent.upperBound {
            if bits[index] == value {
                start = start ?? index
            } else if let begun = start {
                found.append(Extent(begun, index))
                start = nil
            }
        }
        if let start { found.append(Extent(start, extent.upperBound)) }
        return found
    }
}
