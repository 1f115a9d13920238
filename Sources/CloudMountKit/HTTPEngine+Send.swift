public import CloudMountHTTP
public import CloudMountVFS

extension HTTPEngine {
    /// Sends a request; what is no answer, and an answer that says no, are errors.
    /// - Parameters:
    ///   - wire: what the error says of the request.
    ///   - refusal: the error of an answer whose status is not 200 to 299.
    /// - Returns: an answer of status 200 to 299.
    public func send(
        _ request: HTTPRequest, into target: HTTPBodyTarget = .memory, wire: VFSError.Wire,
        refusal: (HTTPResponse, VFSError.Wire) -> VFSError = { response, wire in
            var wire = wire
            wire.status = response.status
            let verdict = HTTPVerdict(status: response.status, retryAfter: response.headers.retryAfter)
            return verdict.error(saying: nil, wire: wire)
        }
    ) async throws(VFSError) -> HTTPResponse {
        let response = try await answer(request, into: target, wire: wire)
        guard 200..<300 ~= response.status else { throw refusal(response, wire) }
        return response
    }

    /// Sends a request; only what is no answer is an error.
    public func answer(
        _ request: HTTPRequest, into target: HTTPBodyTarget = .memory, wire: VFSError.Wire
    ) async throws(VFSError) -> HTTPResponse {
        do throws(HTTPError) {
            return try await perform(request, body: target)
        } catch {
            throw VFSError(error, wire: wire)
        }
    }
}
