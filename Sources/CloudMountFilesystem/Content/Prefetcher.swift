import CloudMountVFS

/// Decides how much to read around what one handle was asked for. A value: no clock, no I/O.
///
/// The window starts at the first request, rounded to 128 KiB, and grows fourfold with every sequential read up to `maximum`;
/// a read elsewhere collapses it, and from then on exactly what is asked for is fetched until reads follow each other
/// again.
struct Prefetcher {
    static let unit = 128 << 10
    static let page = 4096
    /// How far from the expected offset a read still counts as sequential: the kernel's read-ahead requests overtake
    /// each other.
    static let slack = 2 << 20

    /// Extents that one read plans ahead: a window may be larger than any memory, and the next read goes on.
    private static let mostAhead = 256

    var maximum: Int
    /// Bytes wanted ahead of the reader; 0 while it reads at random.
    private(set) var window = 0
    /// The end of the last read; -1 before the first.
    private var next = -1
    /// How far ahead bytes have been asked for.
    private var frontier = 0

    init(maximum: Int) { self.maximum = maximum }

    struct Plan: Equatable {
        /// What has to be fetched for the read, if it is not there or on its way.
        var needed: Extent
        /// What to fetch beyond, in order.
        var ahead: [Extent] = []
        /// The reader went elsewhere: what was fetched ahead for it is of no use.
        var collapsed = false
        /// It reads here and there.
        var isRandom = false
    }

    /// - Parameters:
    ///   - extent: what is asked for, within `size`.
    ///   - size: bytes of the whole object.
    mutating func plan(_ extent: Extent, size: Int) -> Plan {
        defer { next = next < 0 || !isSequential(extent) ? extent.upperBound : max(next, extent.upperBound) }
        if maximum == 0 {
            defer { window = 0 }
            return Plan(needed: extent, collapsed: window > 0)
        }
        if next < 0 && extent.lowerBound == 0 {
            window = max(extent.count, Self.unit)
            frontier = min(size, Self.roundUp(extent.upperBound, Self.unit))
            return Plan(needed: Extent(0, frontier))
        }
        guard next >= 0, isSequential(extent) else {
            let collapsed = window > 0
            window = 0
            let low = extent.lowerBound / Self.page * Self.page
            frontier = min(size, Self.roundUp(extent.upperBound, Self.page))
            return Plan(needed: Extent(low, frontier), collapsed: collapsed, isRandom: true)
        }
        window = window > maximum / 4 ? maximum : min(maximum, max(window * 4, Self.unit, extent.count))
        var plan = Plan(needed: extent)
        frontier = max(frontier, extent.upperBound)
        let target = size - extent.upperBound > window ? extent.upperBound + window : size
        let part = min(max(window / 8, Self.unit), 4 << 20)
        while frontier < target, target - frontier >= part || target == size, plan.ahead.count < Self.mostAhead {
            let end = min(target, (frontier / part + 1) * part)
            plan.ahead.append(Extent(frontier, end))
            frontier = end
        }
        return plan
    }

    /// Bytes that were planned ahead could not be had (no memory): they are asked for again later.
    mutating func retreat(to offset: Int) { frontier = min(frontier, offset) }

    private func isSequential(_ extent: Extent) -> Bool {
        extent.lowerBound >= next - Self.slack
            && extent.lowerBound <= max(next, min(frontier, next + 8 * Self.slack)) + Self.slack
    }

    private static func roundUp(_ value: Int, _ unit: Int) -> Int { (value + unit - 1) / unit * unit }
}
