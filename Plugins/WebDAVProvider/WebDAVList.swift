import CloudMountVFS

/// Lists.
struct WebDAVLister: Sendable {
    let dav: WebDAVFolder
    /// Bytes of the folders that are held at once.
    var mostHeld = WebDAVClient.mostHeld

    private var client: WebDAVClient { dav.client }
    private var server: WebDAVServer { dav.server }

    /// PROPFIND of one folder, or of one after the other; in byte order of the keys.
    ///
    /// WebDAV has no pages: a page goes on behind a key, and the folders on the way to it are asked for again.
    func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        if let limit = request.limit, limit <= 0 { throw VFSError(.invalidArgument, "a page of nothing") }
        // The first of them is the folder itself: whether it is there is all that is asked.
        if request.limit == 1, request.continuation == nil, request.prefix.endsWithSlash, !request.delimited {
            guard let there = try await client.look(at: request.prefix), there.isFolder else { return ListPage() }
            return ListPage(objects: [there.info()], continuation: request.prefix.string)
        }
        // Whether anything answers: a page of nothing, with more to come, is a small answer however large the folder is.
        if request.limit == 1, request.continuation == nil, request.prefix.isEmpty, !request.delimited {
            guard try await client.look(at: "")?.isFolder == true else { throw client.missing(nil) }
            return ListPage(continuation: "")
        }
        let (folder, _) = Self.split(request.prefix)
        var walk = Walk(request: request)
        let isWhole = try await visit(folder, itself: nil, &walk)
        if !isWhole { walk.page.continuation = walk.last?.string }
        return walk.page
    }

    /// Keys of a page of a listing of everything below; what a folder that has just been fetched has more comes along.
    private static let usualPage = 1000
    /// Deeper than any key can say.
    private static let mostDepth = WebDAVRoot.maxKeyBytes / 2

    private struct Walk {
        let request: ListRequest
        let after: ObjectKey?
        let most: Int
        var page = ListPage()
        var last: ObjectKey?
        /// Bytes of the folders that are being gone through.
        var held = 0

        init(request: ListRequest) {
            self.request = request
            after = request.continuation.map { ObjectKey($0) }
            most = request.limit ?? (request.delimited ? .max : WebDAVLister.usualPage)
        }

        /// Nothing more is taken, whatever has been fetched already.
        var isClosed: Bool { request.limit != nil && isFull }

        var isFull: Bool { page.objects.count + page.commonPrefixes.count >= most }

        /// Whether a key has been told on a page before.
        func isPast(_ key: ObjectKey) -> Bool { after.map { !($0 < key) } ?? false }

        /// Whether all that is in a folder has been.
        func isPastAll(in folder: ObjectKey) -> Bool { isPast(folder) && !(after?.hasPrefix(folder) ?? false) }
    }

    private static func split(_ prefix: ObjectKey) -> (folder: ObjectKey, name: ObjectKey) {
        let folder = prefix.endsWithSlash ? prefix : WebDAVRoot.parent(prefix)
        return (folder, prefix.dropping(folder.byteCount))
    }

    /// - Parameter itself: the folder, where it has been seen; nil: it is the one that is asked for.
    /// - Returns: false when the page is full and there is more.
    private func visit(
        _ folder: ObjectKey, itself: WebDAVEntry?, _ walk: inout Walk
    ) async throws(VFSError) -> Bool {
        if !folder.isEmpty, WebDAVRoot.parent(folder).byteCount > WebDAVRoot.maxKeyBytes {
            throw VFSError(.malformedResponse, "folders without end")
        }
        guard let children = try await client.children(of: folder) else { return true }
        let weight = children.weight
        walk.held += weight
        defer { walk.held -= weight }
        guard walk.held <= mostHeld else {
            throw VFSError(.tooLarge, "the folders from “\(walk.request.prefix)” down hold more than memory does")
        }
        // Who asks for everything below may mean to move or remove it.
        if children.nameless > 0, !walk.request.delimited {
            throw VFSError(
                .malformedResponse,
                "“\(folder)” holds names that are no UTF-8 or have a slash, \(children.nameless) of them")
        }
        if !folder.isEmpty, folder.hasPrefix(walk.request.prefix), !walk.isPast(folder) {
            if walk.isFull { return false }
            let info =
                itself?.info()
                ?? ObjectInfo(
                    key: folder, size: 0, etag: WebDAVEntry.folderTag, stored: Timestamp(seconds: 0),
                    metadata: ObjectMetadata())
            walk.page.objects.append(info)
            walk.last = folder
        }
        for (index, entry) in children.entries.enumerated() {
            await LongWork.pause(after: index + 1)
            let key = entry.ordered
            guard key.hasPrefix(walk.request.prefix), !dav.isOurs(key) else { continue }
            if entry.isFolder, !walk.request.delimited {
                if walk.isPastAll(in: key) { continue }
                if walk.isFull { return false }
                guard try await visit(key, itself: entry, &walk) else { return false }
                continue
            }
            if walk.isPast(key) { continue }
            if walk.isClosed { return false }
            walk.last = key
            if entry.isFolder {
                walk.page.commonPrefixes.append(key)
            } else {
                dav.noteTag(entry)
                walk.page.objects.append(entry.info())
            }
        }
        return true
    }
}
