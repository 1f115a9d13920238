/// What is read of one directory's small files, and in which order. A value: time comes from outside, and so does what is in the directory.
struct FileCourse {
    enum Step: Equatable {
        case nothing
        /// The orders of the directory are wanted: `learn`.
        case learns
        /// These are to be fetched; `isEnd` says that the last file has been read, in such an order.
        case ahead([InodeID], isEnd: FileOrders.Kind?)
        /// Nobody reads in an order any more: what was about to be fetched here may stay where it is.
        case jumped
    }

    /// Readers at a time, each in another part of the directory.
    private static let mostWalks = 8
    private static let mostEarly = 32
    /// Nanoseconds a file for which the orders stand, however many files come that they do not have.
    private static let life: UInt64 = 50_000

    private var orders: FileOrders?
    /// By kind, the one that was followed last at the end.
    private var walks = FileOrders.Kind.allCases.map { _ in [FileWalk]() }
    /// Files that were read before the orders were known.
    private var early: [InodeID] = []
    private var isLearning = false
    private var learnsFrom: UInt64 = 0
    /// Nanoseconds until it is tried again.
    private var pause: UInt64 = 100_000_000
    /// The order in which the reader has just gone through another directory, to its end.
    private var trusted: FileOrders.Kind?

    init(trusted: FileOrders.Kind? = nil) { self.trusted = trusted }

    /// Files that the orders have.
    var count: Int { orders?.count ?? 0 }

    /// A file has been read that was not read since it was opened.
    mutating func read(_ inode: InodeID, now: UInt64, isCautious: Bool) -> Step {
        if let orders, let index = orders.index(of: inode) { return follow(index, orders, now, isCautious) }
        if early.count == Self.mostEarly { early.removeFirst() }
        if !early.contains(inode) { early.append(inode) }
        guard !isLearning, now >= learnsFrom, early.count > 1 || trusted != nil else { return .nothing }
        isLearning = true
        return .learns
    }

    /// - Parameter orders: nil: the directory is not known whole, or too long.
    mutating func learn(_ orders: FileOrders?, now: UInt64, isCautious: Bool) -> Step {
        isLearning = false
        guard let orders else {
            learnsFrom = now + pause
            pause = min(2 * pause, 100_000_000_000)
            return .nothing
        }
        self.orders = orders
        learnsFrom = now + UInt64(clamping: orders.count) * Self.life
        walks = walks.map { _ in [] }
        defer {
            early = []
            trusted = nil
        }
        var last = Step.nothing
        var wanted: [InodeID] = []
        for inode in early {
            guard let index = orders.index(of: inode) else { continue }
            last = follow(index, orders, now, isCautious)
            if case .ahead(let some, _) = last { wanted += some }
        }
        guard case .ahead(_, let isEnd) = last else { return last }
        return .ahead(wanted, isEnd: isEnd)
    }

    private mutating func follow(_ index: Int, _ orders: FileOrders, _ now: UInt64, _ isCautious: Bool) -> Step {
        var best: (kind: FileOrders.Kind, count: Int)?
        for kind in FileOrders.Kind.allCases {
            let walk = pass(orders.place(index, by: kind), by: kind, now)
            if walk.isSure, walk.count > best?.count ?? 0 { best = (kind, walk.count) }
        }
        guard let (kind, _) = best, let last = walks[kind.rawValue].indices.last else {
            return walks.contains { $0.contains { $0.isSure } } ? .nothing : .jumped
        }
        let places = walks[kind.rawValue][last].ahead(of: orders.count, isCautious: isCautious)
        let isAtEnd = walks[kind.rawValue][last].front == orders.count - 1
        return .ahead(places.map { orders.inode(at: $0, by: kind) }, isEnd: isAtEnd ? kind : nil)
    }

    /// - Returns: the walk that leads to `place`, which is the last one of its kind from now on.
    private mutating func pass(_ place: Int, by kind: FileOrders.Kind, _ now: UInt64) -> FileWalk {
        var nearest: (index: Int, distance: Int)?
        for (index, walk) in walks[kind.rawValue].enumerated() {
            // Whoever reads a file again is where he was.
            let distance = walk.front == place ? 0 : walk.distance(place)
            if let distance, distance < nearest?.distance ?? .max { nearest = (index, distance) }
        }
        var walk: FileWalk
        if let nearest {
            walk = walks[kind.rawValue].remove(at: nearest.index)
            if walk.front != place { walk.pass(place, now: now) }
        } else {
            walk = FileWalk(at: place, now: now, isTrusted: trusted == kind && place < Self.mostWalks)
            if walks[kind.rawValue].count == Self.mostWalks { walks[kind.rawValue].removeFirst() }
        }
        walks[kind.rawValue].append(walk)
        return walk
    }
}
