public import CloudMountHTTP
public import CloudMountVFS
import Synchronization

/// Why the body of a good answer is not taken.
public enum ReadRefusal: Error, Equatable {
    /// Another version than the one asked for.
    case stale
    /// All of the object instead of a part.
    case ignoresRange
    /// Other bytes, or bytes of which the answer does not say which they are.
    case malformed
}

/// Decides by the head of an answer to a ranged GET whether its body is what was asked for.
public final class ReadJudge: Sendable {
    private let request: ReadRequest
    private let version: @Sendable (HTTPHeaders) -> ETag?
    private let seen = Mutex<ReadRefusal?>(nil)

    /// - Parameter version: finds the version that the store names in its answer.
    public init(_ request: ReadRequest, version: @escaping @Sendable (HTTPHeaders) -> ETag?) {
        self.request = request
        self.version = version
    }

    /// Why a good answer was refused, once one was.
    public var refusal: ReadRefusal? { seen.withLock { $0 } }

    public func accepts(_ head: HTTPResponseHead) -> Bool {
        guard head.status == 200 || head.status == 206 else { return false }
        switch verdict(head) {
        case .success: return true
        case .failure(let refusal):
            seen.withLock { $0 = refusal }
            return false
        }
    }

    /// - Returns: the size of the whole object, and its version.
    public func verdict(_ head: HTTPResponseHead) -> Result<(size: Int, etag: ETag), ReadRefusal> {
        guard head.status == 200 || head.status == 206, let etag = version(head.headers),
            let length = head.headers["content-length"].flatMap({ Int($0) }), length >= 0
        else { return .failure(.malformed) }
        if let version = request.version, version != etag { return .failure(.stale) }
        let extent = request.extent ?? Extent(0, .max)
        if let range = head.headers["content-range"] {
            // Poor servers send the right range under status 200; the field counts, not the status.
            guard let (sent, size) = Self.contentRange(range), sent.lowerBound == extent.lowerBound,
                sent.upperBound == min(extent.upperBound, size), sent.count == length
            else { return .failure(.malformed) }
            return .success((size, etag))
        }
        guard head.status == 200 else { return .failure(.malformed) }
        // Nothing is all that an empty object has, wherever the range begins.
        guard extent.lowerBound == 0 || length == 0, length <= extent.upperBound else { return .failure(.ignoresRange) }
        return .success((length, etag))
    }

    /// `bytes 0-9/100`
    private static func contentRange(_ text: String) -> (Extent, size: Int)? {
        guard text.hasPrefix("bytes ") else { return nil }
        let parts = text.dropFirst(6).split(whereSeparator: { $0 == "-" || $0 == "/" })
        guard parts.count == 3, let first = Int(parts[0]), let last = Int(parts[1]), let size = Int(parts[2]),
            first >= 0, last >= first, size > last
        else { return nil }
        return (Extent(first, last + 1), size)
    }
}
