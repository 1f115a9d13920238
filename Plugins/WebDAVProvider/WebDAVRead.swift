import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// Looks and reads.
struct WebDAVReader: Sendable {
    let dav: WebDAVFolder

    private var client: WebDAVClient { dav.client }
    private var server: WebDAVServer { dav.server }

    /// PROPFIND of one thing.
    func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        try dav.check(key)
        guard let there = try await client.look(at: key), there.isFolder == key.endsWithSlash else {
            throw WebDAVErrors.notFound(key)
        }
        dav.noteTag(there)
        return there.info()
    }

    private static let mostTries = 4

    /// GET, of the range and the version asked for, or nothing.
    ///
    /// The version is held against the answer's own head, whose bytes follow: servers compare a weak tag, as Apache's are in the first
    /// second, with none in `If-Match` and `If-Range`.
    func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        try dav.check(request.key)
        if request.key.endsWithSlash { return try await head(request.key) }
        if let version = request.version {
            return try await read(request, version, nil, into: sink)
        }
        for attempt in 1... {
            let there = try await head(request.key)
            do throws(VFSError) {
                return try await read(request, there.etag, there, into: sink)
            } catch {
                // Nothing was delivered: it was replaced between the look and the answer.
                guard error.code == .stale, attempt < Self.mostTries else { throw error }
            }
        }
        throw WebDAVErrors.stale(request.key)
    }

    /// - Parameter known: what a look has just shown.
    private func read(
        _ request: ReadRequest, _ version: ETag, _ known: ObjectInfo?, into sink: any ByteSink
    ) async throws(VFSError) -> ObjectInfo {
        let tag = WebDAVVersion(version).tag
        let reading = RangedRead(
            ReadRequest(key: request.key, extent: request.extent, version: ETag(tag)),
            etag: { Self.tag($0, wanted: tag).map { ETag($0) } })
        var wire = WebDAVRequest(.get, client.root.path(request.key), request.key)
        if let range = reading.range, !(request.extent?.isEmpty ?? false) { wire.headers.append("Range", range) }
        let get = wire
        return try await reading.run(
            into: sink,
            wire: { response in
                var wire = self.client.wire(get)
                wire.status = response?.status ?? 0
                return wire
            },
            send: { target throws(VFSError) in try await self.client.send(get, into: target) },
            head: { () async throws(VFSError) in
                var info: ObjectInfo
                if let known { info = known } else { info = try await self.head(request.key) }
                if info.etag == version { info.etag = ETag(tag) }
                return info
            },
            describe: { size, _, headers in
                let stored = headers["last-modified"].flatMap(WireDate.http) ?? Timestamp(seconds: 0)
                return known
                    ?? ObjectInfo(key: request.key, size: size, etag: version, stored: stored, metadata: nil)
            }
        ).with(version)
    }

    /// The tag of the bytes that follow, or what stands for one where the server has none.
    private static func tag(_ headers: HTTPHeaders, wanted: String) -> String? {
        let told = headers["etag"].flatMap(ETag.init(header:))?.value
        if told == wanted { return told }
        let size =
            headers["content-range"].flatMap { $0.split(separator: "/").last }.flatMap { Int($0) }
            ?? headers["content-length"].flatMap { Int($0) }
        guard let size, let time = headers["last-modified"].flatMap(WireDate.http) else { return told }
        let made = WebDAVVersion.tag(modified: time, size: size)
        return made == wanted ? made : told ?? made
    }
}

extension ObjectInfo {
    fileprivate func with(_ version: ETag) -> ObjectInfo {
        var info = self
        info.etag = version
        return info
    }
}
