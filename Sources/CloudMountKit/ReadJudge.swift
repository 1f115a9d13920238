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
    /// The last good answer: its verdict is asked for twice, when the body begins and when it has ended.
    private let last = Mutex<(head: HTTPResponseHead, verdict: Verdict)?>(nil)

    /// The size of the whole object, and its version.
    public typealias Verdict = Result<(size: Int, etag: ETag), ReadRefusal>

    /// - Parameter version: finds the version that the store names in its answer.
    public init(_ request: ReadRequest, version: @escaping @Sendable (HTTPHeaders) -> ETag?) {
        self.request = request
        self.version = version
    }

    /// Why a good answer was refused, once one was.
    public var refusal: ReadRefusal? {
        if case .failure(let refusal)? = last.withLock({ $0?.verdict }) { refusal } else { nil }
    }

    public func accepts(_ head: HTTPResponseHead) -> Bool {
        guard head.status == 200 || head.status == 206 else { return false }
        let verdict = judged(head)
        last.withLock { $0 = (head, verdict) }
        if case .success = verdict { return true } else { return false }
    }

    public func verdict(_ head: HTTPResponseHead) -> Verdict {
        if let last = last.withLock({ $0 }), last.head.status == head.status, last.head.headers == head.headers {
            return last.verdict
        }
        return judged(head)
    }

    private func judged(_ head: HTTPResponseHead) -> Verdict {
        guard head.status == 200 || head.status == 206, let etag = version(head.headers),
            let length = head.headers.number("content-length")
        else { return .failure(.malformed) }
        if let version = request.version, version != etag { return .failure(.stale) }
        let extent = request.extent ?? Extent(0, .max)
        if let range = head.headers.value(of: "content-range", Self.contentRange) {
            // Poor servers send the right range under status 200; the field counts, not the status.
            guard let (sent, size) = range, sent.lowerBound == extent.lowerBound,
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
    private static func contentRange(_ text: UnsafeBufferPointer<UInt8>) -> (Extent, size: Int)? {
        guard text.starts(with: "bytes ".utf8) else { return nil }
        var rest = text.dropFirst(6)
        guard let first = HTTPHeaders.number(&rest), rest.popFirst() == UInt8(ascii: "-"),
            let last = HTTPHeaders.number(&rest), rest.popFirst() == UInt8(ascii: "/"),
            let size = HTTPHeaders.number(&rest), rest.isEmpty, last >= first, size > last
        else { return nil }
        return (Extent(first, last + 1), size)
    }
}
