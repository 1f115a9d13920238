package import CloudMountVFS

/// Ends a listing that would go round for ever: no continuation comes twice, and few pages in a row bring nothing new.
package struct PageOrder: Sendable {
    /// A store that filters as it lists may answer some pages with nothing.
    private static let mostIdle = 1000

    private let isSorted: Bool
    /// Hashes of the continuations so far.
    private var seen: Set<Int> = []
    private var last: ObjectKey?
    private var idle = 0

    package init(_ capabilities: Capabilities) { isSorted = capabilities.sortedListing }

    /// - Throws: `malformedResponse`.
    package mutating func check(_ page: ListPage) throws(VFSError) {
        guard let continuation = page.continuation else { return }
        let end = [page.objects.last?.key, page.commonPrefixes.last].compactMap { $0 }.max()
        if let end, last.map({ !isSorted || $0 < end }) ?? true {
            (last, idle) = (end, 0)
        } else {
            idle += 1
        }
        guard seen.insert(continuation.hashValue).inserted, idle <= Self.mostIdle else {
            throw VFSError(.malformedResponse, "the store's listing goes round in circles")
        }
    }
}
