/// Paths, and everything below them.
package struct PathScope: Sendable {
    private let paths: Set<ObjectKey>

    /// - Parameter paths: without slashes at their ends; an empty one: everything is below it.
    package init(_ paths: some Sequence<ObjectKey>) { self.paths = Set(paths) }

    /// As quick for many paths as for one.
    package func holds(_ path: ObjectKey) -> Bool {
        if paths.contains("") || paths.contains(path) { return true }
        var above = Substring(path.string).utf8
        while let slash = above.lastIndex(of: UInt8(ascii: "/")) {
            above = above[..<slash]
            if paths.contains(ObjectKey(String(Substring(above)))) { return true }
        }
        return false
    }
}
