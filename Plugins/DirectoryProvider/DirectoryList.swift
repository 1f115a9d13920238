import CloudMountPlatform
import CloudMountVFS
import Glibc

/// Pages of the folder's objects.
struct DirectoryLister: Sendable {
    let objects: DirectoryObjects

    /// The continuation is the least key that the next page may begin with. Nothing is remembered between pages.
    func list(_ request: ListRequest, limit: Int) throws(VFSError) -> ListPage {
        var walk = ListingWalk(objects, request, most: limit + 1)
        try system("listing \(objects.folder.path)") { () throws(SystemError) in
            try walk.walkTree()
            try walk.walkHidden()
        }
        var page = ListPage()
        var previous: ObjectKey?
        var count = 0
        for item in walk.items.sorted(by: { ($0.key, $0.rank) < ($1.key, $1.rank) }) {
            if item.key == previous { continue }
            if count == limit {
                page.continuation = item.key.string
                break
            }
            previous = item.key
            count += 1
            if let info = item.info { page.objects.append(info) } else { page.commonPrefixes.append(item.key) }
        }
        return page
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

    init(_ objects: DirectoryObjects, _ request: ListRequest, most: Int) {
        self.objects = objects
        prefix = request.prefix
        delimited = request.delimited
        start = request.continuation.map { ObjectKey($0) } ?? ""
        self.most = most
    }

    /// Begins at the deepest directory that the prefix names.
    mutating func walkTree() throws(SystemError) {
        let bytes = prefix.utf8
        let end = bytes.lastIndex(of: UInt8(ascii: "/")).map { bytes.index(after: $0) } ?? bytes.startIndex
        let base = ObjectKey(String(prefix.string[..<end]))
        do throws(SystemError) {
            if base.isEmpty { return try walk(objects.folder.root, "") }
            guard let path = DirectoryPaths.plain(base) else { return }
            let directory = try objects.folder.root.open(path, for: .directory)
            if base == prefix, base >= start, let entry = try objects.entry(directory, base) {
                items.append(Item(key: base, info: entry.info))
            }
            try walk(directory, base)
        } catch {
            if ![ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG].contains(error.code) { throw error }
        }
    }

    private mutating func walk(_ directory: Descriptor, _ base: ObjectKey) throws(SystemError) {
        var children: [(key: ObjectKey, name: String)] = []
        for (name, type) in try directory.entries() {
            if base.isEmpty, name.utf8.elementsEqual(DirectoryPaths.area.utf8) { continue }
            var isDirectory = type == DT_DIR
            if type == DT_UNKNOWN {
                guard let status = try? directory.status(of: name) else { continue }
                isDirectory = status.kind == S_IFDIR
            }
            // With its slash a directory sorts where its keys do.
            let key = ObjectKey(base.string + name + (isDirectory ? "/" : ""))
            // A deeper key is none, and directories may lie as deep in each other as nobody's stack reaches.
            if key.byteCount > Self.longestKey { continue }
            let isWithin = key.hasPrefix(prefix) || (isDirectory && prefix.hasPrefix(key))
            let isAhead = isDirectory && !delimited ? start < key.afterAllWithin : start <= key
            if isWithin, isAhead { children.append((key, name)) }
        }
        children.sort { $0.key < $1.key }
        for (key, name) in children {
            if items.count >= most { return }
            do throws(SystemError) {
                try visit(key, name, in: directory)
            } catch {
                // Gone since the directory was read.
                if ![ENOENT, ENOTDIR, ELOOP].contains(error.code) { throw error }
            }
        }
    }

    private mutating func visit(_ key: ObjectKey, _ name: String, in directory: Descriptor) throws(SystemError) {
        guard key.endsWithSlash else {
            if let entry = try file(name, in: directory, key) { items.append(Item(key: key, info: entry.info)) }
            return
        }
        if delimited {
            items.append(Item(key: key, info: nil))
            return
        }
        let below = try directory.open(name, for: .directory)
        if key.hasPrefix(prefix), start <= key, let entry = try objects.entry(below, key) {
            items.append(Item(key: key, info: entry.info))
        }
        try walk(below, key)
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

    mutating func walkHidden() throws(SystemError) {
        do throws(SystemError) {
            try walkHidden(try objects.folder.root.open(DirectoryPaths.keys, for: .directory), "")
        } catch {
            if error.code != ENOENT { throw error }
        }
    }

    private static let longestKey = Capabilities().maxKeyBytes
    /// Pieces of the longest escaped key: three characters for each byte.
    private static let mostPieces = 3 * longestKey / 240 + 1

    private mutating func walkHidden(
        _ directory: Descriptor, _ base: String, pieces: Int = 1
    ) throws(SystemError) {
        for (name, _) in try directory.entries() {
            if name.utf8.last == UInt8(ascii: "+") {
                // Deeper, or no directory: nothing of ours.
                guard pieces < Self.mostPieces, let below = try? directory.open(name, for: .directory) else { continue }
                try walkHidden(below, base + String(name.unicodeScalars.dropLast()), pieces: pieces + 1)
                continue
            }
            guard let text = DirectoryPaths.unescape((base + name).utf8) else { continue }
            let key = ObjectKey(text)
            guard key.hasPrefix(prefix) else { continue }
            if delimited, let common = key.commonPrefix(after: prefix.byteCount) {
                if start <= common { items.append(Item(key: common, info: nil)) }
            } else if start <= key {
                if let file = try? directory.open(name, for: .reading), let entry = try objects.entry(file, key) {
                    items.append(Item(key: key, info: entry.info, rank: key.endsWithSlash ? 0 : 2))
                }
            }
        }
    }
}
