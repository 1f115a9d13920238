import CloudMountVFS
import TestSeeds
import Testing

@testable import CloudMountCommit

@Suite("Choice of copies")
struct CopiesTests {
    @Test("The chosen copies cost no more than the best of all choices", arguments: seeds(2000, "Copies"))
    func bruteForce(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let size = Int.random(in: 1...70, using: &generator)
        let minimum = Int.random(in: 2...7, using: &generator)
        let requestCost = Int.random(in: 0..<minimum, using: &generator)
        let density = Int.random(in: 2...12, using: &generator)
        let unchanged = (0..<size).map { _ in Int.random(in: 0..<density, using: &generator) != 0 }
        let copies = UploadPlan.copies(
            of: stretches(unchanged), size: size, minimum: minimum, requestCost: requestCost)

        var copied = [Bool](repeating: false, count: size)
        var offset = 0
        for copy in copies {
            #expect(copy.lowerBound == 0 || copy.lowerBound - offset >= minimum, "seed \(seed)")
            #expect(copy.count >= minimum || copy.upperBound == size, "seed \(seed)")
            #expect(!copy.isEmpty && copy.upperBound <= size, "seed \(seed)")
            for index in copy.lowerBound..<copy.upperBound {
                #expect(unchanged[index], "seed \(seed)")
                copied[index] = true
            }
            offset = copy.upperBound
        }
        let cost = zip(unchanged, copied).count { $0 && !$1 } + copies.count * requestCost
        #expect(cost == best(unchanged, minimum, requestCost), "seed \(seed)")
    }

    private func stretches(_ unchanged: [Bool]) -> [Extent] {
        var found: [Extent] = []
        for (index, isUnchanged) in unchanged.enumerated() where isUnchanged {
            if let last = found.last, last.upperBound == index {
                found[found.count - 1].upperBound = index + 1
            } else {
                found.append(Extent(index, index + 1))
            }
        }
        return found
    }

    /// The least cost, found by trying every sequence of copies and uploads.
    private func best(_ unchanged: [Bool], _ minimum: Int, _ requestCost: Int) -> Int {
        let size = unchanged.count
        let never = Int.max / 2
        // The least cost of `[0, end)` when it ends with an upload, and when with a copy.
        var uploaded = [Int](repeating: never, count: size + 1)
        var copied = uploaded
        for end in 1...size {
            for start in 0..<end where end - start >= minimum || end == size {
                let run = unchanged[start..<end]
                let before = start == 0 ? (0, 0) : (uploaded[start], copied[start])
                uploaded[end] = min(uploaded[end], before.1 + run.count { $0 })
                if run.allSatisfy({ $0 }) { copied[end] = min(copied[end], before.0 + requestCost) }
            }
        }
        return min(uploaded[size], copied[size])
    }
}
