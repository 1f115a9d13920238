public import CloudMountVFS
import Synchronization

extension MemoryProvider {
    /// The continuation is the least key that the next page may begin with.
    public func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        let limit = max(1, min(request.limit ?? capabilities.maxListKeys, capabilities.maxListKeys))
        var page = bucket.withLock { bucket in
            var page = ListPage()
            let from = request.continuation.map { max(ObjectKey($0), request.prefix) } ?? request.prefix
            var index = bucket.lowerBound(from)
            var count = 0
            while index < bucket.keys.count, bucket.keys[index].hasPrefix(request.prefix) {
                let key = bucket.keys[index]
                guard count < limit else {
                    page.continuation = key.string
                    break
                }
                count += 1
                if request.delimited, let common = key.commonPrefix(after: request.prefix.byteCount) {
                    page.commonPrefixes.append(common)
                    index = bucket.lowerBound(common.afterAllWithin)
                    continue
                }
                if var info = bucket.current(key)?.info {
                    if !capabilities.listingCarriesMetadata { info.metadata = nil }
                    page.objects.append(info)
                }
                index += 1
            }
            return page
        }
        if !capabilities.sortedListing { page.objects.reverse() }
        return page
    }
}

extension ObjectKey {
    /// The key up to and with the next `/` after its first `count` bytes; nil when there is none.
    func commonPrefix(after count: Int) -> ObjectKey? {
        let rest = utf8.dropFirst(count)
        guard let slash = rest.firstIndex(of: UInt8(ascii: "/")) else { return nil }
        return ObjectKey(String(Substring(utf8[...slash])))
    }

    /// For a key that ends in `/`: the least key above all that begin with it (`0` is the character after `/`).
    var afterAllWithin: ObjectKey { ObjectKey(String(string.unicodeScalars.dropLast()) + "0") }
}
