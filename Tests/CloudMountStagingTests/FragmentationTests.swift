import CloudMountStaging
import CloudMountVFS
import Foundation
import TestSeeds
import Testing

@Suite("Fragmented files")
struct FragmentationTests {
    private static let span = 40_000

    /// One extent for every other byte of the span.
    private func fragmented() -> ExtentMap {
        var generator = SeededGenerator(seed: 7)
        var map = ExtentMap()
        for index in (0..<Self.span / 2).shuffled(using: &generator) {
            map.insert(Extent(offset: 2 * index, count: 1))
        }
        return map
    }

    /// The extents of a set of bytes that is kept as one flag for each.
    private func runs(_ flags: [Bool]) -> [Extent] {
        var found: [Extent] = []
        for (offset, isSet) in flags.enumerated() where isSet {
            if found.last?.upperBound == offset {
                found[found.count - 1].upperBound += 1
            } else {
                found.append(Extent(offset: offset, count: 1))
            }
        }
        return found
    }

    @Test("Random changes of many extents agree with a set of bytes", arguments: seeds(4, "Fragmentation"))
    func agreement(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var map = ExtentMap()
        var flags = [Bool](repeating: false, count: Self.span)
        var isRight = true
        for round in 0..<20_000 {
            let start = Int.random(in: 0..<Self.span, using: &generator)
            let isLong = Int.random(in: 0..<200, using: &generator) == 0
            let length = Int.random(in: 1...(isLong ? 4000 : 3), using: &generator)
            let extent = Extent(start, min(Self.span, start + length))
            let range = extent.lowerBound..<extent.upperBound
            let present = flags[range].count { $0 }
            let adds = Int.random(in: 0..<5, using: &generator) > 0
            if adds, !isLong {
                isRight = isRight && map.insert(extent) == extent.count - present
            } else {
                isRight = isRight && map.remove(extent) == present
            }
            for index in range { flags[index] = adds && !isLong }
            isRight = isRight && map.contains(start) == flags[start]
            guard round % 1000 == 999 else { continue }
            #expect(isRight, "seed \(seed), round \(round)")
            let expected = runs(flags)
            #expect(map.extents == expected && map.count == expected.count, "seed \(seed)")
            #expect(map.total == flags.count { $0 } && map.last == expected.last, "seed \(seed)")
            #expect(map == ExtentMap(expected), "seed \(seed)")
            #expect(
                Array(map.extents(from: start)) == expected.filter { $0.upperBound > start }, "seed \(seed)")
        }
    }

    @Test("However many extents there are, a change moves a few hundred of them at most")
    func work() {
        var map = fragmented()
        #expect(map.count == Self.span / 2)
        let sizes = map.layout.map(\.count)
        #expect(sizes.allSatisfy { $0 <= 256 } && sizes.count < Self.span / 128)
        // What a change leaves in its place is where it was before: only what it moves is copied from the shared memory.
        for place in stride(from: 1, to: Self.span, by: 997) {
            let before = map
            let old = Set(before.layout.map(\.address))
            if place.isMultiple(of: 2) {
                map.remove(Extent(place, place + 9))
            } else {
                map.insert(Extent(place, place + 9))
            }
            let moved = map.layout.filter { !old.contains($0.address) }
            #expect(moved.count <= 3 && moved.reduce(0) { $0 + $1.count } <= 512)
            withExtendedLifetime(before) {}
        }
        // Chunks that have become small are joined.
        for index in 0..<Self.span / 2 where !index.isMultiple(of: 200) {
            map.remove(Extent(offset: 2 * index, count: 1))
        }
        #expect(map.layout.count < 20)
    }

    @Test("A copy keeps what it was when the original changes")
    func snapshots() {
        var map = fragmented()
        let before = map
        let extents = map.extents
        map.remove(Extent(100, Self.span - 100))
        map.insert(Extent(3, 50))
        #expect(before.extents == extents && before.total == Self.span / 2)
        #expect(map.upperBound == before.upperBound && map.total == 124)
    }

    @Test("A map and an image come back from JSON as they were; what contradicts itself is refused")
    func coding() throws {
        var image = FileImage(size: 50_000, baseSize: 45_000)
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<3000 {
            let start = Int.random(in: 0..<50_000, using: &generator)
            let extent = Extent(offset: start, count: 3)
            if start.isMultiple(of: 3) { image.zero(extent) } else { image.write(extent) }
        }
        let data = try JSONEncoder().encode(image)
        let copy = try JSONDecoder().decode(FileImage.self, from: data)
        #expect(copy == image && copy.allocated == image.allocated)
        for text in ["[3,2]", "[0,5,5,6]", "[-1,4]", "[1]", "[0,0]"] {
            #expect(throws: DecodingError.self) {
                try JSONDecoder().decode(ExtentMap.self, from: Data(text.utf8))
            }
        }
        for (limit, dirty, zeros) in [(11, "[]", "[]"), (-1, "[]", "[]"), (10, "[0,11]", "[]"), (10, "[0,5]", "[4,6]")]
        {
            let text = #"{"size":10,"baseSize":10,"baseLimit":\#(limit),"dirty":\#(dirty),"zeros":\#(zeros)}"#
            #expect(throws: DecodingError.self) {
                try JSONDecoder().decode(FileImage.self, from: Data(text.utf8))
            }
        }
    }
}
