import CloudMountVFS

extension ListPage {
    /// Pieces of it that are short steps. Directories first: an object of the same name knows then that it is to be hidden.
    var slices: [ListPage] {
        guard objects.count + commonPrefixes.count > LongWork.slice else { return [self] }
        func slices<Entry>(_ entries: [Entry]) -> [[Entry]] {
            stride(from: 0, to: entries.count, by: LongWork.slice).map {
                Array(entries[$0..<min($0 + LongWork.slice, entries.count)])
            }
        }
        var all =
            slices(commonPrefixes).map { ListPage(commonPrefixes: $0) } + slices(objects).map { ListPage(objects: $0) }
        all[0].unreadable = unreadable
        return all
    }

    /// Bytes that its keys and their nodes take, about.
    var weight: Int {
        var bytes = (objects.count + commonPrefixes.count) * 256
        for object in objects { bytes += object.key.byteCount }
        for prefix in commonPrefixes { bytes += prefix.byteCount }
        return bytes
    }
}

extension FileName {
    /// The name that a listed key has in the directory of `prefix`; nil when no path can say it.
    static func listed(_ key: ObjectKey, _ prefix: ObjectKey, isDirectory: Bool) -> FileName? {
        var rest = key.string.utf8.dropFirst(prefix.byteCount)
        if isDirectory { rest = rest.dropLast() }
        let text = String(Substring(rest))
        return FileName.isLegal(text) ? FileName(unchecked: text) : nil
    }
}
