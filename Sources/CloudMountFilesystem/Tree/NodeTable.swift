import CloudMountVFS

/// What a node is found by, and has in it.
protocol NodeKey: Equatable {
    init(of node: Node)
    /// All of its bits count.
    var tableHash: UInt64 { get }
}

extension InodeID: NodeKey {
    init(of node: Node) { self = node.id }
    // Already derived from where the node was made; spread over all bits.
    var tableHash: UInt64 { self &* 0x9E37_79B9_7F4A_7C15 }
}

extension FileName: NodeKey {
    init(of node: Node) { self = node.name }
    var tableHash: UInt64 { UInt64(truncatingIfNeeded: hashValue) }
}

/// Nodes by something that they have in them. A dictionary would keep that a second time, and twice the room: this takes nine
/// bytes a slot and grows by half, where there may be a million nodes in memory.
///
/// Open addressing with linear probing. A byte of each hash lies beside the slots, so that nearly only the node that is looked
/// for is looked at. What a node is found by must not change while it is in the table.
struct NodeTable<Key: NodeKey>: Sequence {
    private static var free: UInt8 { 0 }
    /// Something was here: a search goes on.
    private static var gone: UInt8 { 1 }

    private var marks: [UInt8] = []
    private var slots: [Node?] = []
    private(set) var count = 0
    /// Slots in use or gone.
    private var spent = 0
    /// Another one when nodes get other slots.
    private(set) var layout = 0

    init() {}

    var isEmpty: Bool { count == 0 }

    subscript(key: Key) -> Node? {
        get { find(key, key.tableHash).flatMap { slots[$0] } }
        set {
            let hash = key.tableHash
            if let index = find(key, hash) {
                slots[index] = newValue
                if newValue == nil { clear(index) }
            } else if let newValue {
                if (spent + 1) * 8 > marks.count * 7 { rebuild(for: count + 1) }
                place(newValue, hash)
            }
        }
    }

    private static func mark(_ hash: UInt64) -> UInt8 { Swift.max(2, UInt8(truncatingIfNeeded: hash)) }

    /// Where the search for a hash begins.
    private func home(_ hash: UInt64) -> Int { Int(((hash >> 32) &* UInt64(marks.count)) >> 32) }

    private func find(_ key: Key, _ hash: UInt64) -> Int? {
        guard count > 0 else { return nil }
        let mark = Self.mark(hash)
        var index = home(hash)
        while marks[index] != Self.free {
            if marks[index] == mark, let node = slots[index], Key(of: node) == key { return index }
            index = index + 1 == marks.count ? 0 : index + 1
        }
        return nil
    }

    private mutating func place(_ node: Node, _ hash: UInt64) {
        var index = home(hash)
        while marks[index] > Self.gone { index = index + 1 == marks.count ? 0 : index + 1 }
        if marks[index] == Self.free { spent += 1 }
        marks[index] = Self.mark(hash)
        slots[index] = node
        count += 1
    }

    private mutating func clear(_ index: Int) {
        marks[index] = Self.gone
        count -= 1
        if count == 0 {
            let before = layout
            self = NodeTable()
            layout = before + 1
        } else if marks.count > 64, count * 8 < marks.count {
            rebuild(for: count)
        }
    }

    /// With room for `count` nodes and half as many again.
    private mutating func rebuild(for count: Int) {
        let old = slots
        let capacity = Swift.max(8, count * 12 / 7 + 1)
        marks = Array(repeating: Self.free, count: capacity)
        slots = Array(repeating: nil, count: capacity)
        self.count = 0
        spent = 0
        layout += 1
        for case let node? in old { place(node, Key(of: node).tableHash) }
    }

    /// Slots of a slice: some thousand nodes.
    static var slice: Int { 2000 }

    /// Whether one slice is all.
    var isShort: Bool { slots.count <= Self.slice }

    /// The nodes of the slots from `position` on, for who goes through a long table piece by piece. It is gone through once, unless the
    /// layout changes meanwhile.
    /// - Returns: also where it goes on; nil: there are no more.
    func slice(from position: Int) -> (nodes: [Node], next: Int?) {
        let end = Swift.min(slots.count, position + Self.slice)
        guard position < end else { return ([], nil) }
        return (slots[position..<end].compactMap { $0 }, end < slots.count ? end : nil)
    }

    func makeIterator() -> Iterator { Iterator(slots: slots) }

    struct Iterator: IteratorProtocol {
        let slots: [Node?]
        private var position = 0

        init(slots: [Node?]) { self.slots = slots }

        mutating func next() -> Node? {
            while position < slots.count {
                defer { position += 1 }
                if let node = slots[position] { return node }
            }
            return nil
        }
    }

    var underestimatedCount: Int { count }
}
