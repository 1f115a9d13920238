import CloudMountStaging
import CloudMountVFS

extension UploadPlan {
    /// The stretches of `image` that are as the base has them, as long as they can be.
    static func baseExtents(_ image: FileImage) -> [Extent] {
        image.pieces(in: Extent(0, image.size)).compactMap { if case .base(let extent) = $0 { extent } else { nil } }
    }

    /// A stretch that is copied, in the best of plans that end with it.
    private struct Step {
        /// Index into the candidates; -1 for the start of the file.
        var candidate: Int
        /// What its front gives up so that the upload before it is long enough.
        var head: Int
        /// What the end of the step before gives up for the same reason.
        var tailOfPrevious: Int
        var previous: Int
        /// Base bytes that go up, and the requests' weight.
        var cost: Int
        /// What its own end could still give up.
        var slack: Int
    }

    /// Which of the stretches `unchanged` to copy, and how much of each, such that the copies and what lies between
    /// them are `minimum` bytes long or longer (but for what ends the file), at the least cost: base bytes not
    /// copied, and `requestCost` for each copy.
    ///
    /// Goes through the stretches in order and keeps, for each, the plans that end with a copy of it and that none
    /// other beats in both cost and slack. Of four stretches in a row, each long enough for a copy, some plan that
    /// copies one of the middle two costs less than any that copies none; so a step looks back at four.
    static func copies(of unchanged: [Extent], size: Int, minimum: Int, requestCost: Int) -> [Extent] {
        let candidates = unchanged.filter { $0.count >= minimum || ($0.upperBound == size && $0.count > requestCost) }
        var baseBytesBefore: [Int] = []
        var total = 0
        var next = 0
        for candidate in candidates {
            while next < unchanged.count, unchanged[next].lowerBound < candidate.lowerBound {
                total += unchanged[next].count
                next += 1
            }
            baseBytesBefore.append(total)
        }
        let allBaseBytes = unchanged.reduce(0) { $0 + $1.count }

        /// Base bytes of stretches that lie wholly between two candidates.
        func skipped(from previous: Int, to index: Int) -> Int {
            let before = previous < 0 ? 0 : baseBytesBefore[previous] + candidates[previous].count
            return (index < candidates.count ? baseBytesBefore[index] : allBaseBytes) - before
        }

        var steps = [Step(candidate: -1, head: 0, tailOfPrevious: 0, previous: -1, cost: 0, slack: 0)]
        var ranges: [Range<Int>] = [0..<1]
        for (index, candidate) in candidates.enumerated() {
            let isLast = candidate.upperBound == size
            var front: [Step] = []
            for range in ranges.suffix(4) {
                for previous in range {
                    let before = steps[previous]
                    let end = before.candidate < 0 ? 0 : candidates[before.candidate].upperBound
                    let run = candidate.lowerBound - end
                    let missing = run == 0 ? 0 : max(0, minimum - run)
                    let tail = min(before.slack, missing)
                    let length = candidate.count - (missing - tail)
                    guard length >= minimum || (isLast && length > requestCost) else { continue }
                    front.append(
                        Step(
                            candidate: index, head: missing - tail, tailOfPrevious: tail, previous: previous,
                            cost: before.cost + skipped(from: before.candidate, to: index) + missing + requestCost,
                            slack: isLast ? 0 : min(minimum, length - minimum)))
                }
            }
            front.sort { ($0.cost, -$0.slack) < ($1.cost, -$1.slack) }
            let start = steps.count
            var slack = -1
            for step in front.prefix(16) where step.slack > slack {
                slack = step.slack
                steps.append(step)
            }
            ranges.append(start..<steps.count)
        }

        var best = 0
        var bestCost = allBaseBytes
        for range in ranges.suffix(5) {
            for index in range where steps[index].candidate >= 0 {
                let cost = steps[index].cost + skipped(from: steps[index].candidate, to: candidates.count)
                if cost < bestCost { (best, bestCost) = (index, cost) }
            }
        }
        var copies: [Extent] = []
        var tail = 0
        while steps[best].candidate >= 0 {
            let step = steps[best]
            let stretch = candidates[step.candidate]
            copies.append(Extent(stretch.lowerBound + step.head, stretch.upperBound - tail))
            tail = step.tailOfPrevious
            best = step.previous
        }
        return copies.reversed()
    }
}
