import CloudMountHTTP
import CloudMountVFS

/// One request before it knows its host, its time and its signature.
struct S3Request: Sendable {
    /// S3's own name of it, such as `GetObject`.
    var operation: String
    var method: HTTPMethod
    /// Nil: the bucket itself.
    var key: ObjectKey?
    /// Values not yet escaped; a parameter without a value has an empty one.
    var query: [(name: String, value: String)] = []
    /// Names in lower case.
    var fields: [S3Signer.Field] = []
    var body: (any ByteSource)?
    /// Longest body that is collected in memory.
    var maxBodyBytes = 8 << 20
    /// The store works through so many bytes before it answers, and may send white space meanwhile.
    var worksOn: Int?

    init(_ operation: String, _ method: HTTPMethod, _ key: ObjectKey? = nil) {
        self.operation = operation
        self.method = method
        self.key = key
    }

    mutating func field(_ name: String, _ value: String) { fields.append(S3Signer.Field(name: name, value: value)) }
    mutating func parameter(_ name: String, _ value: String = "") { query.append((name, value)) }

    mutating func xml(_ body: [UInt8]) {
        self.body = BytesSource(body)
        field("content-type", "application/xml")
    }

    /// The escaped query as it goes out and is signed: sorted by name.
    var canonicalQuery: String {
        guard !query.isEmpty else { return "" }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(128)
        for parameter in query.sorted(by: { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }) {
            if !bytes.isEmpty { bytes.append(UInt8(ascii: "&")) }
            bytes += PercentEncoding.encode(parameter.name, keepSlash: false).utf8
            bytes.append(UInt8(ascii: "="))
            bytes += PercentEncoding.encode(parameter.value, keepSlash: false).utf8
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Where requests go and how they are signed at the moment.
struct S3Route: Sendable, Equatable {
    var endpoint: S3Endpoint
    var region: String
    /// The store's clock minus ours, in seconds.
    var clockOffset = 0
    let authority: String
    let bucketPath: String
    let url: String

    init(endpoint: S3Endpoint, region: String, clockOffset: Int = 0) {
        self.endpoint = endpoint
        self.region = region
        self.clockOffset = clockOffset
        authority = endpoint.authority
        bucketPath = endpoint.bucketPath
        url = endpoint.url
    }

    /// Escaped.
    func path(_ key: ObjectKey?) -> String {
        guard let key else { return bucketPath.isEmpty ? "/" : bucketPath }
        return "\(bucketPath)/\(PercentEncoding.encode(key.string, keepSlash: true))"
    }
}

extension S3Request {
    /// The request as it goes out.
    /// - Parameters:
    ///   - signer: nil sends it unsigned.
    ///   - time: `yyyymmddThhmmssZ`.
    func http(
        route: S3Route, signer: S3Signer?, payloadHash: String, time: String, options: HTTPOptions
    ) -> HTTPRequest {
        let path = route.path(key)
        let query = canonicalQuery
        var headers = HTTPHeaders()
        for field in fields { headers.append(field.name, field.value) }
        if let signer {
            var signed = fields.filter { Self.isSigned($0.name) }
            func add(_ name: String, _ value: String) {
                signed.append(S3Signer.Field(name: name, value: value))
                headers.append(name, value)
            }
            signed.append(S3Signer.Field(name: "host", value: route.authority))
            add("x-amz-content-sha256", payloadHash)
            add("x-amz-date", time)
            if let token = signer.credentials.sessionToken { add("x-amz-security-token", token) }
            headers.append(
                "authorization",
                signer.authorization(
                    method: method.rawValue, path: path, query: query, headers: signed, payloadHash: payloadHash,
                    time: time))
        }
        var options = options
        options.maxBodyBytes = maxBodyBytes
        if let worksOn {
            options.stallBytesPerSecond = 0
            options.allowWork(on: worksOn)
        }
        let url = query.isEmpty ? "\(route.url)\(path)" : "\(route.url)\(path)?\(query)"
        return HTTPRequest(method, url, headers: headers, body: body, options: options)
    }

    /// What a proxy may rewrite (range and conditions included) is left out of the signature.
    private static func isSigned(_ name: String) -> Bool {
        let name = name.utf8
        return name.starts(with: "x-amz-".utf8) || name.elementsEqual("content-type".utf8)
            || name.elementsEqual("content-md5".utf8)
    }
}

extension S3Client {
    /// A 404 without a known code that answers a request for the bucket.
    func missingMeansBucket<Value>(_ body: () async throws(VFSError) -> Value) async throws(VFSError) -> Value {
        do throws(VFSError) {
            return try await body()
        } catch {
            guard error.code == .notFound else { throw error }
            throw VFSError(.bucketNotFound, "there is no such bucket", wire: error.wire)
        }
    }

    /// Requester-pays buckets want it on every request.
    func addPayer(_ request: inout S3Request) {
        if options.requesterPays { request.field("x-amz-request-payer", "requester") }
    }
}
