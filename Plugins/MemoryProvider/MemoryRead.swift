public import CloudMountVFS
import Synchronization

extension MemoryProvider {
    /// Bytes given to the sink at once, so that cancellation and pauses take hold between them.
    private static let slice = 256 << 10

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        let old = request.version.flatMap { version in
            capabilities.readsOldVersions ? bucket.withLock { $0.version(request.key, version) } : nil
        }
        guard let object = old ?? bucket.withLock({ $0.current(request.key) }) else {
            // An object that was deleted after it was opened is another state of the world than the one asked for.
            if request.version != nil, capabilities.pinnedRead { throw MemoryErrors.stale(request.key) }
            throw MemoryErrors.notFound(request.key)
        }
        if capabilities.pinnedRead, let version = request.version, version != object.info.etag {
            throw MemoryErrors.stale(request.key)
        }
        let whole = Extent(0, object.bytes.count)
        let extent = request.extent.map(whole.intersection) ?? whole
        let feed = SinkFeed(sink)
        var position = extent.lowerBound
        while position < extent.upperBound {
            if Task.isCancelled { throw .cancelled }
            let end = min(position + Self.slice, extent.upperBound)
            let verdict = object.bytes.withUnsafeBytes { bytes in
                sink.receive(UnsafeRawBufferPointer(rebasing: bytes[position..<end]))
            }
            switch verdict {
            case .proceed: position = end
            case .pause: try await feed.resumed()
            case .stop: throw .cancelled
            }
        }
        return object.info
    }
}
