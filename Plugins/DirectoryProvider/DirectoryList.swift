import CloudMountPlatform
import CloudMountVFS
import Glibc

/// Pages of the folder's objects.
struct DirectoryLister: Sendable {
    let objects: DirectoryObjects
    /// Bytes of metadata on a page, twice over: what others have written beside their files is in memory whole.
    var mostMetadata = 8 << 20

    /// The continuation is the least key that the next page may begin with. Nothing is remembered between pages: each looks at all names
    /// of a directory and keeps as many as it has room for.
    func list(_ request: ListRequest, limit: Int) throws(VFSError) -> ListPage {
        if limit == 1, request.continuation == nil, let page = try first(request.prefix) { return page }
        var walk = ListingWalk(objects, request, most: limit + 1, mostMetadata: mostMetadata)
        try system("listing \(objects.folder.path)") { () throws(SystemError) in
            try walk.walkTree()
            try walk.walkHidden()
        }
        var page = ListPage()
        var previous: ObjectKey?
        var count = 0
        for item in walk.items.sorted(by: { ($0.key, $0.rank) < ($1.key, $1.rank) }) {
            if item.key == previous { continue }
            if count == limit || walk.end.map({ !(item.key < $0) }) ?? false {
                page.continuation = item.key.string
                break
            }
            previous = item.key
            count += 1
            if let info = item.info { page.objects.append(info) } else { page.commonPrefixes.append(item.key) }
        }
        return page
    }

    /// The first page of one key, where the prefix is that key: whoever looks something up asks so, and need not wait until all its
    /// neighbours have been looked at. Whether there are others, only the next page tells.
    private func first(_ prefix: ObjectKey) throws(VFSError) -> ListPage? {
        if prefix.isEmpty { return nil }
        do throws(VFSError) {
            guard let entry = try objects.find(prefix) else { return nil }
            return ListPage(objects: [entry.info], continuation: prefix.string + "\0")
        } catch {
            // A listing shows what may be seen and not read.
            guard error.code == .permissionDenied else { throw error }
            return nil
        }
    }

    /// Whether the hidden area holds an object whose key begins with `prefix`.
    func hidesAny(below prefix: ObjectKey) throws(VFSError) -> Bool {
        var walk = ListingWalk(
            objects, ListRequest(prefix: prefix, delimited: false), most: 1, mostMetadata: mostMetadata)
        try system("listing \(objects.folder.path)") { () throws(SystemError) in try walk.walkHidden() }
        return !walk.items.isEmpty
    }
}

/// Gathers the first keys of a listing, from the tree in key order and from the hidden area in any.
private struct ListingWalk {
    struct Item {
        var key: ObjectKey
        /// Nil for a common prefix.
        var info: ObjectInfo?
        /// Of two objects of one key, the one that `find` would find comes first.
        var rank = 1
    }

    private let objects: DirectoryObjects
    private let prefix: ObjectKey
    private let delimited: Bool
    private let start: ObjectKey
    private let most: Int
    private(set) var items: [Item] = []
    /// Where there was no more room: beyond it there is more than has been gathered.
    private(set) var end: ObjectKey?
    /// Bytes that are left for the metadata of the tree's objects, or of the hidden area's.
    private var left: Int
    private let mostMetadata: Int

    init(_ objects: DirectoryObjects, _ request: ListRequest, most: Int, mostMetadata: Int) {
        self.mostMetadata = mostMetadata
        left = mostMetadata
        self.objects = objects
        prefix = request.prefix
        delimited = request.delimited
        start = request.continuation.map { ObjectKey($0) } ?? ""
        self.most = most
    }

    private var isFull: Bool { items.count >= most || left < 0 }

    private mutating func add(_ key: ObjectKey, _ info: ObjectInfo?, rank: Int = 1) {
        items.append(Item(key: key, info: info, rank: rank))
        guard let metadata = info?.metadata else { return }
        // A place in a dictionary, half of whose places may be empty.
        left -= 96 * metadata.entries + metadata.userBytes + metadata.otherBytes
        if left < 0 { end = min(end ?? key, key) }
    }

    private static let longestKey = Capabilities().maxKeyBytes

    /// Names that are kept of one directory at a time: fewer of each the deeper it lies, for all on the way are in memory at once.
    private static func room(_ most: Int, depth: Int) -> Int { max(512, most >> min(depth, 32)) }

    /// Where most names of a directory turn out to be nothing, it is gone through again and again, and with more room each time.
    private static let mostRoom = 65_536

    // MARK: Tree

    /// Begins at the deepest directory that the prefix names.
    mutating func walkTree() throws(SystemError) {
        let bytes = prefix.utf8
        let end = bytes.lastIndex(of: UInt8(ascii: "/")).map { bytes.index(after: $0) } ?? bytes.startIndex
        let base = ObjectKey(String(prefix.string[..<end]))
        if !start.hasPrefix(base), base < start { return }
        do throws(SystemError) {
            if base.isEmpty { return try walk(objects.folder.root, "") }
            guard let path = DirectoryPaths.plain(base) else { return }
            let directory = try objects.folder.root.open(path, for: .directory)
            if base == prefix, base >= start, let entry = try objects.entry(directory, base) {
                add(base, entry.info)
            }
            try walk(directory, base)
        } catch {
            if ![ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG].contains(error.code) { throw error }
        }
    }

    private mutating func walk(_ directory: Descriptor, _ base: ObjectKey, depth: Int = 0) throws(SystemError) {
        var room = min(most - items.count, Self.room(most, depth: depth))
        var visited: ObjectKey?
        while true {
            let children = try least(of: directory, base, after: visited, room: room)
            let sorted = children.sorted
            for child in sorted {
                if isFull { return }
                do throws(SystemError) {
                    try visit(child.key, child.value, in: directory, depth: depth)
                } catch {
                    // Gone since the directory was read.
                    if ![ENOENT, ENOTDIR, ELOOP].contains(error.code) { throw error }
                }
            }
            guard children.hasMore, !isFull else { return }
            visited = sorted.last?.key
            room = min(max(room, 64) * 4, Self.room(Self.mostRoom, depth: depth))
        }
    }

    /// The first names of a directory that the listing may show, in the order of their keys: with its slash a directory sorts where its
    /// keys do.
    private func least(
        of directory: Descriptor, _ base: ObjectKey, after visited: ObjectKey?, room: Int
    ) throws(SystemError) -> LeastKeys<String> {
        var children = LeastKeys<String>(most: room)
        let count = base.byteCount
        let tail = Array(prefix.utf8.dropFirst(count))
        let from = start.hasPrefix(base) ? Array(start.utf8.dropFirst(count)) : []
        let past = visited.map { Array($0.utf8.dropFirst(count)) } ?? []
        var bound: [UInt8]?
        try directory.eachEntry { name, type throws(SystemError) in
            if base.isEmpty, name.elementsEqual(DirectoryPaths.area.utf8) { return }
            guard name.starts(with: tail), let isDirectory = directory.isDirectory(name, type) else { return }
            let last = isDirectory ? UInt8(ascii: "/") : nil
            // A deeper key is none, and directories may lie as deep in each other as nobody's stack reaches.
            if count + name.count + (isDirectory ? 1 : 0) > Self.longestKey { return }
            // `0` is the character after the slash.
            let end = isDirectory && !delimited ? UInt8(ascii: "0") : last
            if Self.isLess(name, end, from) || isDirectory && !delimited && Self.isEqual(name, end, from) { return }
            if visited != nil, !Self.isLess(past, name, last) { return }
            if let bound, !Self.isLess(name, last, bound) { return children.leaveOut() }
            guard let text = String(validating: name, as: UTF8.self) else { return }
            children.add(ObjectKey(base.string + text + (isDirectory ? "/" : ""))) { text }
            bound = children.bound.map { Array($0.utf8.dropFirst(count)) }
        }
        return children
    }

    private mutating func visit(
        _ key: ObjectKey, _ name: String, in directory: Descriptor, depth: Int
    ) throws(SystemError) {
        guard key.endsWithSlash else {
            if let entry = try file(name, in: directory, key) { add(key, entry.info) }
            return
        }
        if delimited {
            add(key, nil)
            return
        }
        let below = try directory.open(name, for: .directory)
        if key.hasPrefix(prefix), start <= key, let entry = try objects.entry(below, key) {
            add(key, entry.info)
        }
        try walk(below, key, depth: depth + 1)
    }

    private func file(_ name: String, in directory: Descriptor, _ key: ObjectKey) throws(SystemError) -> DirectoryEntry?
    {
        let status = try directory.status(of: name)
        switch status.kind {
        case S_IFLNK: return try objects.link(name, in: directory, key)
        case S_IFREG: break
        default: return nil
        }
        do throws(SystemError) {
            let file = try directory.open(name, for: .reading)
            return try objects.entry(file, key)
        } catch {
            if error.code != EACCES { throw error }
            return DirectoryEntry(key: key, content: .unreadable, status: status, record: nil)
        }
    }

    // MARK: Hidden area

    /// Its names are in no order that keys have: all of them are looked at, and those opened that the page has room for.
    mutating func walkHidden() throws(SystemError) {
        let area: Descriptor
        do throws(SystemError) {
            area = try objects.folder.root.open(DirectoryPaths.keys, for: .directory)
        } catch {
            if error.code != ENOENT { throw error }
            return
        }
        left = mostMetadata
        let escaped = Array(DirectoryPaths.escape(prefix.string, all: true).utf8)
        var (found, width) = (0, most)
        var seen: ObjectKey?
        while true {
            // Of each whether it is a common prefix.
            var keys = LeastKeys<Bool>(most: width)
            try gather(area, [], escaped, after: seen, &keys)
            let sorted = keys.sorted
            for entry in sorted where found < most && left >= 0 {
                if entry.value {
                    add(entry.key, nil)
                    found += 1
                } else if let info = try hidden(entry.key) {
                    add(entry.key, info, rank: entry.key.endsWithSlash ? 0 : 2)
                    found += 1
                }
            }
            guard keys.hasMore, found < most, left >= 0 else { return }
            seen = sorted.last?.key
            width = min(max(width, 64) * 4, Self.mostRoom)
        }
    }

    private func hidden(_ key: ObjectKey) throws(SystemError) -> ObjectInfo? {
        guard let file = try? objects.folder.root.open(DirectoryPaths.hidden(key), for: .reading) else { return nil }
        return try objects.entry(file, key)?.info
    }

    /// Pieces of the longest escaped key: three characters for each byte.
    private static let mostPieces = 3 * longestKey / 240 + 1

    private func gather(
        _ directory: Descriptor, _ base: [UInt8], _ wanted: [UInt8], after seen: ObjectKey?, pieces: Int = 1,
        _ keys: inout LeastKeys<Bool>
    ) throws(SystemError) {
        var deeper: [[UInt8]] = []
        try directory.eachEntry { name, type throws(SystemError) in
            if name.last == UInt8(ascii: "+") {
                let path = base + name.dropLast()
                // Deeper, or no directory: nothing of ours.
                guard pieces < Self.mostPieces, type == DT_DIR || type == DT_UNKNOWN,
                    path.starts(with: wanted) || wanted.starts(with: path)
                else { return }
                deeper.append(Array(name))
                return
            }
            guard type == DT_REG || type == DT_UNKNOWN, Self.mayBegin(base, name, with: wanted) else { return }
            let path = base + name
            guard path.starts(with: wanted), let text = DirectoryPaths.unescape(path) else { return }
            let key = ObjectKey(text)
            let common = delimited ? key.commonPrefix(after: prefix.byteCount) : nil
            let shown = common ?? key
            guard start <= shown, seen.map({ $0 < shown }) ?? true else { return }
            // What only unescapes to the key is not where the key is looked for.
            keys.add(shown) {
                DirectoryPaths.escape(text, all: true).utf8.elementsEqual(path) ? common != nil : nil
            }
        }
        for name in deeper {
            guard let below = try? directory.open(String(decoding: name, as: UTF8.self), for: .directory) else {
                continue
            }
            try gather(below, base + name.dropLast(), wanted, after: seen, pieces: pieces + 1, &keys)
        }
    }

    /// Without making anything: most names of the area are not asked for.
    private static func mayBegin(_ base: [UInt8], _ name: UnsafeRawBufferPointer, with wanted: [UInt8]) -> Bool {
        if wanted.count <= base.count { return true }
        return name.starts(with: wanted.dropFirst(base.count))
    }

    // MARK: Order

    /// Whether a name and what stands after it come before `bound`, in the order of bytes.
    private static func isLess(_ name: UnsafeRawBufferPointer, _ end: UInt8?, _ bound: [UInt8]) -> Bool {
        compare(name, end, bound) < 0
    }

    private static func isLess(_ bound: [UInt8], _ name: UnsafeRawBufferPointer, _ end: UInt8?) -> Bool {
        compare(name, end, bound) > 0
    }

    private static func isEqual(_ name: UnsafeRawBufferPointer, _ end: UInt8?, _ bound: [UInt8]) -> Bool {
        compare(name, end, bound) == 0
    }

    private static func compare(_ name: UnsafeRawBufferPointer, _ end: UInt8?, _ bound: [UInt8]) -> Int {
        for (index, byte) in bound.enumerated() {
            let own = index < name.count ? name[index] : index == name.count ? end : nil
            guard let own else { return -1 }
            if own != byte { return own < byte ? -1 : 1 }
        }
        return name.count + (end == nil ? 0 : 1) > bound.count ? 1 : 0
    }
}
