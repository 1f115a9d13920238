public import CloudMountHTTP
public import CloudMountVFS

/// `ObjectProvider.read` over a GET with `Range`: bytes reach the sink only from an answer whose status, range, length and
/// version are what was asked for, and every refusal gets the meaning that the core knows.
public struct RangedRead: Sendable {
    public let request: ReadRequest
    private let judge: ReadJudge
    private let changed: String

    /// - Parameters:
    ///   - etag: finds the version that an answer's headers name.
    ///   - changed: what is said when the version that was asked for is gone.
    public init(
        _ request: ReadRequest, changed: String = "the object has changed since it was opened",
        etag: @escaping @Sendable (HTTPHeaders) -> ETag?
    ) {
        self.request = request
        self.changed = changed
        judge = ReadJudge(request, version: etag)
    }

    /// The value of `Range`, such as `bytes=0-9`; nil for the whole object.
    public var range: String? { request.extent.map(Self.range) }

    /// - Parameter extent: of one byte at least.
    public static func range(_ extent: Extent) -> String { "bytes=\(extent.lowerBound)-\(extent.upperBound - 1)" }

    /// - Parameters:
    ///   - sink: gets the bytes.
    ///   - willAccept: sees the head of an answer that is taken, before its first byte.
    ///   - wire: what an error says of the request, with or without an answer.
    ///   - send: sends the request, with `range` and with the version in `If-Match` where the store knows that; gives
    ///     an answer of status 200 to 299, or the error that another one means, with the status in its `wire`.
    ///   - head: the object that was asked for; in an extent without bytes it is all that there is to say.
    ///   - describe: the object, by its size, its version and the headers of the answer.
    /// - Throws: `stale` for 412, and for 404 or another version when one was asked for; `notSupported` when the store
    ///   sends all where a part was wanted; what `send` throws.
    public func run(
        into sink: any ByteSink, willAccept: @escaping @Sendable (HTTPResponseHead) -> Void = { _ in },
        wire: (HTTPResponse?) -> VFSError.Wire,
        send: (HTTPBodyTarget) async throws(VFSError) -> HTTPResponse,
        head: () async throws(VFSError) -> ObjectInfo,
        describe: (_ size: Int, _ etag: ETag, _ headers: HTTPHeaders) -> ObjectInfo
    ) async throws(VFSError) -> ObjectInfo {
        if request.extent?.isEmpty ?? false { return try await nothing(nil, head) }
        let judge = judge
        let target = HTTPBodyTarget.sink(
            sink,
            accepts: { head in
                guard judge.accepts(head) else { return false }
                willAccept(head)
                return true
            })
        let response: HTTPResponse
        do throws(VFSError) {
            response = try await send(target)
        } catch {
            if let refusal = judge.refusal { throw refused(refusal, wire(nil)) }
            switch (error.wire?.status, error.code) {
            case (416, _): return try await nothing(error, head)
            case (412, _): throw stale(error.wire)
            case (_, .notFound) where request.version != nil: throw stale(error.wire)
            default: throw error
            }
        }
        switch judge.verdict(response.head) {
        case .success(let object): return describe(object.size, object.etag, response.headers)
        case .failure(let refusal): throw refused(refusal, wire(response))
        }
    }

    /// An extent that holds no byte of the object: what there is to say is the object itself.
    private func nothing(
        _ refusal: VFSError?, _ head: () async throws(VFSError) -> ObjectInfo
    ) async throws(VFSError) -> ObjectInfo {
        let info: ObjectInfo
        do throws(VFSError) {
            info = try await head()
        } catch {
            guard error.code == .notFound, request.version != nil else { throw error }
            throw stale(error.wire)
        }
        if let version = request.version, version != info.etag { throw stale(refusal?.wire) }
        if let refusal, info.size > request.extent?.lowerBound ?? 0 {
            // It has grown between the two requests, or the store is wrong about its range.
            throw VFSError(
                .malformedResponse, "a range within the object was refused", retry: .backoff, wire: refusal.wire)
        }
        return info
    }

    private func stale(_ wire: VFSError.Wire?) -> VFSError { VFSError(.stale, changed, wire: wire) }

    private func refused(_ refusal: ReadRefusal, _ wire: VFSError.Wire) -> VFSError {
        switch refusal {
        case .stale: stale(wire)
        case .ignoresRange:
            VFSError(.notSupported, "the store ignores ranges and sent the whole object", wire: wire)
        case .malformed: VFSError(.malformedResponse, "bytes that were not asked for", retry: .backoff, wire: wire)
        }
    }
}
