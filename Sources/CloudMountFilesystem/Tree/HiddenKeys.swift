import CloudMountVFS

/// Keys that no path can say, counted, with a few of them to be shown.
struct HiddenKeys {
    private var keys: Set<ObjectKey> = []
    private var bytes = 0
    private(set) var examples: [String] = []
    /// More are not counted: each takes memory.
    private static let most = 100_000
    private static let mostBytes = 16 << 20
    /// Characters of one that are kept.
    private static let longest = 2000

    var count: Int { keys.count }
    /// As they were counted, cut where they were too long.
    var all: [String] { keys.map(\.string) }

    func contains(_ key: ObjectKey) -> Bool { keys.contains(key) }

    /// Counts a key, once.
    mutating func insert(_ key: ObjectKey) {
        // Of one that no store could have, the beginning is enough to be counted and shown.
        let key = key.byteCount <= Self.longest ? key : ObjectKey(key.string.cut(to: Self.longest))
        guard keys.count < Self.most, bytes < Self.mostBytes, keys.insert(key).inserted else { return }
        bytes += key.byteCount
        if examples.count < 10 { examples.append(key.string) }
    }

    /// Its name shows the object, or it has gone.
    /// - Returns: whether it was counted.
    @discardableResult
    mutating func remove(_ key: ObjectKey) -> Bool {
        guard !keys.isEmpty, keys.remove(key) != nil else { return false }
        bytes -= key.byteCount
        examples.removeAll { $0 == key.string }
        return true
    }

    /// A directory has gone, and what could not be shown below it too.
    mutating func remove(below prefix: ObjectKey) {
        for key in keys where key.hasPrefix(prefix) { remove(key) }
    }
}
