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

    /// What an error says of it.
    func wire(_ route: S3Route) -> VFSError.Wire {
        VFSError.Wire(operation: operation, key: key?.string, endpoint: route.authority)
    }

    mutating func xml(_ body: [UInt8]) {
        self.body = BytesSource(body)
        field("content-type", "application/xml")
    }

    /// Appends the escaped query as it goes out and is signed: sorted by name.
    func appendQuery(to bytes: inout [UInt8]) {
        let start = bytes.count
        for parameter in query.sorted(by: { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }) {
            if bytes.count > start { bytes.append(UInt8(ascii: "&")) }
            PercentEncoding.append(parameter.name, keepSlash: false, to: &bytes)
            bytes.append(UInt8(ascii: "="))
            PercentEncoding.append(parameter.value, keepSlash: false, to: &bytes)
        }
    }
}

/// Where requests go and how they are signed at the moment. A class, for every request takes one along.
final class S3Route: Sendable {
    let endpoint: S3Endpoint
    let region: String
    /// The store's clock minus ours, in seconds.
    let clockOffset: Int
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

    /// Escaped, behind what `bytes` holds.
    func appendPath(_ key: ObjectKey?, to bytes: inout [UInt8]) {
        bytes.put(bucketPath)
        if let key {
            bytes.append(UInt8(ascii: "/"))
            PercentEncoding.append(key.string, keepSlash: true, to: &bytes)
        } else if bucketPath.isEmpty {
            bytes.append(UInt8(ascii: "/"))
        }
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
        var url: [UInt8] = []
        url.reserveCapacity(256)
        url.put(route.url)
        let start = url.count
        route.appendPath(key, to: &url)
        let path = start..<url.count
        if !query.isEmpty {
            url.append(UInt8(ascii: "?"))
            appendQuery(to: &url)
        }
        var headers = HTTPHeaders()
        for field in fields { headers.append(field.name, field.value) }
        if let signer {
            let own = fields.filter { Self.isSigned($0.name) }
            var signed = [S3Signer.Field(name: "host", value: route.authority)]
            signed.reserveCapacity(4 + own.count)
            func add(_ name: String, _ value: String) {
                signed.append(S3Signer.Field(name: name, value: value))
                headers.append(name, value)
            }
            add("x-amz-content-sha256", payloadHash)
            add("x-amz-date", time)
            if let token = signer.credentials.sessionToken { add("x-amz-security-token", token) }
            if !own.isEmpty {
                signed += own
                signed.sort(by: S3Signer.Field.precedes)
            }
            let value = signer.authorization(
                method: method.rawValue, path: url[path], query: url[path.upperBound...].dropFirst(),
                headers: signed, payloadHash: payloadHash, time: time)
            value.withUnsafeBufferPointer { headers.append("authorization", $0) }
        }
        var options = options
        options.maxBodyBytes = maxBodyBytes
        if let worksOn {
            options.stallBytesPerSecond = 0
            options.allowWork(on: worksOn)
        }
        return HTTPRequest(
            method, String(decoding: url, as: UTF8.self), headers: headers, body: body, options: options)
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
