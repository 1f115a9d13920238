import CloudMountVFS

/// The least of any number of keys, each once: a page has room for so many, and a directory for more than memory.
struct LeastKeys<Value> {
    struct Entry {
        var key: ObjectKey
        var value: Value
    }

    private let most: Int
    /// The greatest one first (a binary heap).
    private var heap: [Entry] = []
    private var keys: Set<ObjectKey> = []
    /// There are greater ones than those that are kept.
    private(set) var hasMore = false

    init(most: Int) { self.most = max(1, most) }

    /// What is not less than this is left out; nil while there is room.
    var bound: ObjectKey? { heap.count < most ? nil : heap[0].key }

    var sorted: [Entry] { heap.sorted { $0.key < $1.key } }

    /// Something was left out that would have been beyond the bound.
    mutating func leaveOut() { hasMore = true }

    /// - Parameter value: is made of keys that are kept only; nil: it is none after all.
    mutating func add(_ key: ObjectKey, _ value: () -> Value?) {
        if let bound, !(key < bound) {
            if key != bound { hasMore = true }
            return
        }
        guard !keys.contains(key), let value = value() else { return }
        keys.insert(key)
        if heap.count < most {
            heap.append(Entry(key: key, value: value))
            rise(heap.count - 1)
        } else {
            hasMore = true
            keys.remove(heap[0].key)
            heap[0] = Entry(key: key, value: value)
            sink()
        }
    }

    private mutating func rise(_ start: Int) {
        var index = start
        while index > 0, heap[(index - 1) / 2].key < heap[index].key {
            heap.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }

    private mutating func sink() {
        var index = 0
        while true {
            var greatest = index
            for child in [2 * index + 1, 2 * index + 2] where child < heap.count {
                if heap[greatest].key < heap[child].key { greatest = child }
            }
            if greatest == index { return }
            heap.swapAt(index, greatest)
            index = greatest
        }
    }
}
