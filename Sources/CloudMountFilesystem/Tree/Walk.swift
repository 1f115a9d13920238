/// A program that walks a tree, seen from one directory: its subdirectories are opened in their order. What comes next is
/// listed ahead of it, more and more of it. A value: no clock, no I/O.
struct Walk {
    /// Most directories that are listed ahead of the walker.
    static let widest = 16
    /// How many subdirectories a walker may leave out and still be one.
    static let stride = 4

    /// The listing that `order` is of.
    let generation: UInt32
    private let order: [FileName]
    private var last: Int?
    private var frontier = 0
    private var window = 0

    /// - Parameter names: the subdirectories, in any order.
    init(_ names: [FileName], generation: UInt32) {
        order = names.sorted()
        self.generation = generation
    }

    /// - Returns: what to list ahead now that `name` has been opened.
    mutating func opened(_ name: FileName) -> ArraySlice<FileName> {
        guard let index = index(of: name) else { return [] }
        // To open one directory, whichever it is, is no walk.
        let follows = last.map { index > $0 && index <= $0 + Self.stride } ?? false
        window = follows ? min(max(2, window * 2), Self.widest) : 0
        if last.map({ index < $0 }) ?? true { frontier = 0 }
        last = index
        let low = max(frontier, index + 1)
        let high = min(order.count, index + 1 + window)
        guard low < high else { return [] }
        frontier = high
        return order[low..<high]
    }

    private func index(of name: FileName) -> Int? {
        // Mostly it is the next one.
        if let last, last + 1 < order.count, order[last + 1] == name { return last + 1 }
        var (low, high) = (0, order.count)
        while low < high {
            let middle = (low + high) / 2
            if order[middle] < name { low = middle + 1 } else { high = middle }
        }
        return low < order.count && order[low] == name ? low : nil
    }
}
