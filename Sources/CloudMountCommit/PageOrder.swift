package import CloudMountVFS

/// Ends a listing that would go round for ever: no continuation comes twice, and few pages in a row bring nothing new.
package struct PageOrder: Sendable {
    /// A store that filters as it lists may answer some pages with nothing.
    private static let mostIdle = 1000

    private let isSorted: Bool
    /// Hashes of the continuations so far.
    private var seen: Set<Int> = []
    /// Where the last page ended, of a listing that is sorted.
    private var last: ObjectKey?
    /// Hashes of the ends of all pages, of one that is not.
    private var ends: Set<Int> = []
    private var idle = 0

    package init(_ capabilities: Capabilities) { isSorted = capabilities.sortedListing }

    /// - Throws: `malformedResponse`.
    package mutating func check(_ page: ListPage) throws(VFSError) {
        guard let continuation = page.continuation else { return }
        idle = isNew(page) ? 0 : idle + 1
        guard seen.insert(continuation.hashValue).inserted, idle <= Self.mostIdle else {
            throw VFSError(.malformedResponse, "the store's listing goes round in circles")
        }
    }

    private mutating func isNew(_ page: ListPage) -> Bool {
        let (object, prefix) = (page.objects.last?.key, page.commonPrefixes.last)
        guard let end = [object, prefix].compactMap({ $0 }).max() else { return false }
        guard isSorted else { return ends.insert([object, prefix].hashValue).inserted }
        if let last, last >= end { return false }
        last = end
        return true
    }
}

/// Objects of a listing that are all kept in memory at once: no more than that is worth, and than there is room for.
package struct Gathered: Sendable {
    /// Bytes: some 700,000 objects with keys of usual length.
    package static let most = 256 << 20
    /// A move has them as they were and as they are, by their paths besides, and lists them once more.
    private static let copies = 4

    package private(set) var objects: [ObjectInfo] = []
    private var bytes = 0
    private let most: Int
    private let room: NameRoom

    package init(in room: NameRoom, most: Int = Gathered.most) { (self.room, self.most) = (room, most) }

    /// - Throws: `tooLarge` when there are more than can be kept.
    package mutating func take(_ more: some Sequence<ObjectInfo>, below prefix: ObjectKey) async throws(VFSError) {
        for object in more {
            bytes += object.footprint
            guard bytes <= most else {
                throw VFSError(
                    .tooLarge, "'\(prefix)' holds more than can be done in one step: \(objects.count) objects and more")
            }
            objects.append(object)
        }
        try await room.cover(bytes * Self.copies)
    }
}

extension ObjectInfo {
    /// Bytes that it takes in memory, about.
    fileprivate var footprint: Int {
        var bytes = MemoryLayout<ObjectInfo>.stride + key.byteCount + etag.value.utf8.count + 64
        guard let metadata else { return bytes }
        for fields in [metadata.user, metadata.headers] {
            for (name, value) in fields { bytes += name.utf8.count + value.utf8.count + 128 }
        }
        return bytes
    }
}
