/// The transport of the process: one thread drives one libcurl multi handle for all providers and mounts.
public final class HTTPEngine: Sendable {
    public static let shared = HTTPEngine()

    /// Sends `request` and waits for the whole answer, of any status.
    ///
    /// A kept-alive connection that turns out dead before the first byte of an answer is replaced and the request sent
    /// again, once, without the caller knowing. When the calling task is cancelled the transfer stops at once.
    public func perform(
        _ request: HTTPRequest, body target: HTTPBodyTarget = .memory
    ) async throws(HTTPError) -> HTTPResponse {
        throw HTTPError(.connect, "")
    }
}
