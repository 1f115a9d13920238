import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS

/// One call of B2's JSON interface.
struct B2Call: Sendable {
    /// B2's own name of it, such as `b2_list_file_names`.
    var operation: String
    /// What it is about, for the log.
    var key: ObjectKey?
    var body = JSONObject()
    /// Adds the account's id to the body.
    var namesAccount = false
    /// What it counts as on the bill.
    var units = 1
    /// Longest answer.
    var maxBodyBytes = 1 << 20
    /// Of a list of files with all their metadata.
    static let longAnswer = 16 << 20
    /// Bytes that B2 works through before it answers.
    var worksOn = 0

    init(_ operation: String, _ key: ObjectKey? = nil) {
        self.operation = operation
        self.key = key
    }
}

extension B2Call {
    /// b2_delete_file_version.
    static func deletion(_ file: B2File, _ key: ObjectKey) -> B2Call {
        var call = B2Call("b2_delete_file_version", key)
        call.body.add("fileName", file.name)
        call.body.add("fileId", file.id)
        return call
    }
}

/// Sends requests for one mount, and replaces a dead token: once per request, through the session that all mounts of
/// the key share.
final class B2Client: Sendable {
    static let userAgent = "CloudMount"

    let options: B2Options
    let encryption: B2Encryption
    let billing = B2Billing()
    let pageSizes = B2PageSizes()
    private let session: B2Session
    private let engine: HTTPEngine

    init(_ options: B2Options, credentials: B2Credentials, session: B2Session? = nil, engine: HTTPEngine = .shared) {
        self.options = options
        self.engine = engine
        self.session =
            session
            ?? B2Session.shared(
                B2Session.Identity(
                    realm: options.realm, keyID: credentials.keyID, key: credentials.key, caFile: options.caFile,
                    testMode: options.testMode, allowsHTTP: options.allowsHTTP))
        switch (options.encryptionName, credentials.customerKey) {
        case ("SSE-B2", _): encryption = .managed
        case ("SSE-C", let key?): encryption = .customer(key)
        default: encryption = .bucket
        }
    }

    func authorisation() async throws(VFSError) -> B2Authorisation {
        try await session.authorisation(counting: billing)
    }

    // MARK: Calls

    /// - Returns: an answer of status 200 to 299.
    func send(_ call: B2Call) async throws(VFSError) -> HTTPResponse {
        try await authorised(call.operation, call.key, units: call.units) { authorisation in
            var body = call.body
            if call.namesAccount { body.add("accountId", authorisation.accountID) }
            var headers = HTTPHeaders()
            headers.append("Authorization", authorisation.token)
            headers.append("Content-Type", "application/json")
            let url = "\(authorisation.apiURL)/b2api/v4/\(call.operation)"
            var request = self.request(.post, url, headers, maxBodyBytes: call.maxBodyBytes)
            request.body = BytesSource(body.bytes)
            request.options.allowWork(on: call.worksOn)
            return request
        }
    }

    /// The answer as `read` makes it of its JSON; `malformedResponse` when that gives nil or cannot be.
    func send<Value: Sendable>(
        _ call: B2Call, _ read: @escaping @Sendable (inout JSONReader) throws(JSONError) -> Value?
    ) async throws(VFSError) -> Value {
        let response = try await send(call)
        guard let value = await LongAnswer.read(response.body.count, { JSONReader.read(response.body, read) ?? nil })
        else {
            throw malformed("an answer that cannot be read", call.operation, call.key, response)
        }
        return value
    }

    /// A request whose good answer says nothing new. It names a file all the same: a portal's page does not, nor an answer to something
    /// else.
    func sendForNothing(_ call: B2Call) async throws(VFSError) {
        _ = try await send(call) { reader throws(JSONError) -> String? in
            var file: String?
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "fileId": file = try reader.string()
                default: try reader.skip()
                }
            }
            return file
        }
    }

    func malformed(
        _ message: String, _ operation: String, _ key: ObjectKey?, _ response: HTTPResponse?,
        code: VFSError.Code = .malformedResponse, retry: VFSError.RetryAdvice = .backoff
    ) -> VFSError {
        VFSError(code, message, retry: retry, wire: wire(operation, key, response))
    }

    /// For the error of an answer, or of none.
    func wire(_ operation: String, _ key: ObjectKey?, _ response: HTTPResponse?) -> VFSError.Wire {
        VFSError.Wire(
            operation: operation, key: key?.string, endpoint: WebURL(options.realm)?.authority ?? options.realm,
            status: response?.status ?? 0)
    }

    /// A request whose object may be gone already, which is as good.
    func sendUnlessAbsent(_ call: B2Call) async throws(VFSError) {
        do throws(VFSError) {
            try await sendForNothing(call)
        } catch {
            guard error.code == .notFound else { throw error }
        }
    }

    // MARK: Downloads

    /// Of a file by its name.
    func path(_ name: String) -> String { "/file/\(options.bucket)/\(B2FileInfo.encode(name))" }

    /// GET or HEAD of a file by id or by name, in the version that `path` says.
    func download(
        _ operation: String, _ method: HTTPMethod, key: ObjectKey, path: String, range: String? = nil,
        into target: HTTPBodyTarget = .memory
    ) async throws(VFSError) -> HTTPResponse {
        try await authorised(operation, key, into: target) { authorisation in
            var headers = HTTPHeaders()
            headers.append("Authorization", authorisation.token)
            if let range { headers.append("Range", range) }
            self.encryption.addKeyHeaders(to: &headers)
            return self.request(method, authorisation.downloadURL + path, headers, maxBodyBytes: 1 << 20)
        }
    }

    // MARK: Uploads

    /// POST of a body to an upload URL, which has a token of its own.
    func upload(
        _ operation: String, to place: B2UploadURLs.Place, key: ObjectKey, headers: HTTPHeaders,
        from source: any ByteSource
    ) async throws(VFSError) -> HTTPResponse {
        var request = request(.post, place.url, headers, maxBodyBytes: 1 << 20)
        request.headers.append("Authorization", place.token)
        request.body = source
        let wire = wire(operation, key, place.url)
        billing.count(operation)
        return try await engine.send(request, wire: wire, refusal: B2Errors.error)
    }

    // MARK: Sending

    private func request(
        _ method: HTTPMethod, _ url: String, _ headers: HTTPHeaders, maxBodyBytes: Int
    ) -> HTTPRequest {
        var headers = headers
        headers.append("User-Agent", Self.userAgent)
        if let testMode = options.testMode { headers.append("X-Bz-Test-Mode", testMode) }
        var transfer = HTTPOptions()
        transfer.caFile = options.caFile
        transfer.maxBodyBytes = maxBodyBytes
        return HTTPRequest(method, url, headers: headers, options: transfer)
    }

    private func wire(_ operation: String, _ key: ObjectKey?, _ url: String) -> VFSError.Wire {
        VFSError.Wire(
            operation: operation, key: key?.string, endpoint: WebURL(answered: url)?.authority ?? options.realm)
    }

    private func authorised(
        _ operation: String, _ key: ObjectKey?, units: Int = 1, into target: HTTPBodyTarget = .memory,
        _ make: @Sendable (B2Authorisation) -> HTTPRequest
    ) async throws(VFSError) -> HTTPResponse {
        var rejected: String?
        while true {
            let authorisation = try await session.authorisation(otherThan: rejected, counting: billing)
            let request = make(authorisation)
            let wire = wire(operation, key, request.url)
            billing.count(operation, units: units)
            let response = try await engine.answer(request, into: target, wire: wire)
            if 200..<300 ~= response.status { return response }
            var error = B2Errors.error(response, wire: wire)
            if response.status == 404, response.body.isEmpty, request.method != .head {
                error = HTTPVerdict.notOfStore.error(saying: nil, wire: error.wire ?? wire)
            }
            if request.method == .head, response.status == 401 || response.status == 403 {
                error = try await explained(request, wire) ?? error
            }
            guard rejected == nil, error.wire?.status == 401, B2Errors.isDeadToken(error.wire?.code) else {
                throw error
            }
            rejected = authorisation.token
        }
    }

    /// The answer to HEAD cannot say whether the token is dead, a cap is reached, or the key may not: asked for a byte of
    /// the file, B2 says it.
    private func explained(_ request: HTTPRequest, _ wire: VFSError.Wire) async throws(VFSError) -> VFSError? {
        var question = request
        question.method = .get
        question.headers.append("Range", "bytes=0-0")
        billing.count(wire.operation)
        let response = try await engine.answer(question, wire: wire)
        return 200..<300 ~= response.status ? nil : B2Errors.error(response, wire: wire)
    }
}
