/// The small files of one directory in the orders in which programs go through them. Takes 32 bytes a file.
struct FileOrders: Sendable {
    enum Kind: Int, CaseIterable, Sendable {
        /// Who sorts them, or counts them up: shells, loaders.
        case name
        /// As readdir gives them: tar, grep.
        case listed
        /// By the number of the inode: cp, and fts(3) in large directories.
        case inode
    }

    /// Rising.
    private let inodes: [InodeID]
    /// By kind: the index in `inodes` of what is at a place.
    private var order: [[Int32]] = []
    /// By kind: the place of what has an index.
    private var places: [[Int32]] = []

    /// - Parameter files: in the order in which they are listed.
    init(_ files: [(inode: InodeID, name: FileName)]) {
        let listed = files.indices.map { Int32(clamping: $0) }
        let byInode = listed.sorted { files[Int($0)].inode < files[Int($1)].inode }
        let byName = listed.sorted { files[Int($0)].name < files[Int($1)].name }
        inodes = byInode.map { files[Int($0)].inode }
        let index = Self.inverse(byInode)
        for kind in Kind.allCases {
            let order =
                switch kind {
                case .name: byName.map { index[Int($0)] }
                case .listed: index
                case .inode: listed
                }
            self.order.append(order)
            places.append(Self.inverse(order))
        }
    }

    private static func inverse(_ order: [Int32]) -> [Int32] {
        var inverse = [Int32](repeating: 0, count: order.count)
        for (place, index) in order.enumerated() { inverse[Int(index)] = Int32(clamping: place) }
        return inverse
    }

    var count: Int { inodes.count }

    /// Where a file is; nil when it was not there.
    func index(of inode: InodeID) -> Int? {
        var (low, high) = (0, inodes.count)
        while low < high {
            let middle = (low + high) / 2
            if inodes[middle] < inode { low = middle + 1 } else { high = middle }
        }
        return low < inodes.count && inodes[low] == inode ? low : nil
    }

    func place(_ index: Int, by kind: Kind) -> Int { Int(places[kind.rawValue][index]) }
    func inode(at place: Int, by kind: Kind) -> InodeID { inodes[Int(order[kind.rawValue][place])] }
}
