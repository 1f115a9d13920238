import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS

/// Sends requests to one reel, and reads what answers say.
struct TapeClient: Sendable {
    static let metadataField = "Tape-Metadata"
    static let etag: @Sendable (HTTPHeaders) -> ETag? = { $0["etag"].flatMap { ETag(header: $0) } }

    let library: WebURL
    let reel: String
    let token: String?

    static func escaped(_ key: ObjectKey) -> String { PercentEncoding.encode(key.string, keepSlash: false) }

    /// Below the reel.
    func path(_ key: ObjectKey) -> String { "/objects/\(Self.escaped(key))" }

    /// - Returns: an answer of status 200 to 299.
    func send(
        _ operation: String, _ method: HTTPMethod, _ path: String, _ key: ObjectKey? = nil,
        headers: HTTPHeaders = HTTPHeaders(), body: (any ByteSource)? = nil, into target: HTTPBodyTarget = .memory
    ) async throws(VFSError) -> HTTPResponse {
        var headers = headers
        if let token { headers.append("Authorization", "Bearer \(token)") }
        let url = "\(library.text)/reels/\(PercentEncoding.encode(reel, keepSlash: false))\(path)"
        let request = HTTPRequest(method, url, headers: headers, body: body)
        return try await HTTPEngine.shared.send(request, into: target, wire: wire(operation, key, nil)) {
            response, wire in
            var wire = wire
            wire.status = response.status
            let verdict =
                response.status == 404 && response.headers["tape-library"] == nil
                // A proxy's page, while the library is away, is not its word that there is no such object.
                ? .notOfStore : HTTPVerdict(status: response.status, retryAfter: response.headers.retryAfter)
            return verdict.error(saying: String(decoding: response.body.prefix(500), as: UTF8.self), wire: wire)
        }
    }

    func wire(_ operation: String, _ key: ObjectKey?, _ response: HTTPResponse?) -> VFSError.Wire {
        VFSError.Wire(
            operation: operation, key: key?.string, endpoint: library.authority, status: response?.status ?? 0)
    }

    func object(_ key: ObjectKey, size: Int, _ response: HTTPResponse) throws(VFSError) -> ObjectInfo {
        guard let etag = Self.etag(response.headers) else {
            throw VFSError(
                .malformedResponse, "an object without a version", retry: .backoff, wire: wire("Object", key, response))
        }
        return Self.info(key, size: size, etag: etag, response.headers)
    }

    static func info(_ key: ObjectKey, size: Int, etag: ETag, _ headers: HTTPHeaders) -> ObjectInfo {
        ObjectInfo(
            key: key, size: size, etag: etag,
            stored: headers["last-modified"].flatMap(WireDate.http) ?? SystemClock.now(),
            metadata: TapeMetadata.read(headers[metadataField]))
    }
}

/// An object as a listing has it.
enum TapeObject {
    /// - Returns: nil when the bytes are no listing.
    static func page(_ bytes: [UInt8]) -> ListPage? {
        var page = ListPage()
        var isWhole = false
        let read: Void? = JSONReader.read(bytes) { reader throws(JSONError) in
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "objects":
                    try reader.array { reader throws(JSONError) in page.objects.append(try object(&reader)) }
                case "prefixes":
                    try reader.array { reader throws(JSONError) in
                        page.commonPrefixes.append(ObjectKey(try reader.string()))
                    }
                case "next":
                    page.continuation = try reader.optionalString()
                    isWhole = true
                default: try reader.skip()
                }
            }
        }
        return read != nil && isWhole ? page : nil
    }

    private static func object(_ reader: inout JSONReader) throws(JSONError) -> ObjectInfo {
        var (key, tag, size, stored) = ("", "", 0, 0)
        try reader.object { reader, name throws(JSONError) in
            switch name {
            case "key": key = try reader.string()
            case "tag": tag = try reader.string()
            case "size": size = try reader.integer()
            case "stored": stored = try reader.integer()
            default: try reader.skip()
            }
        }
        if key.isEmpty || tag.isEmpty { throw JSONError() }
        return ObjectInfo(key: ObjectKey(key), size: size, etag: ETag(tag), stored: Timestamp(seconds: stored))
    }
}

/// Metadata as one header: JSON, escaped.
enum TapeMetadata {
    static func text(_ metadata: ObjectMetadata, limit: Capabilities) throws(VFSError) -> String {
        let count = metadata.user.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
        guard count <= limit.maxMetadataBytes else {
            throw VFSError(.tooLarge, "more metadata than a tape's label has room for")
        }
        guard metadata.nonce.map(ObjectMetadata.isNonce) ?? true else {
            throw VFSError(.invalidArgument, "the write's nonce is none")
        }
        var text = JSONObject()
        text.add("type", metadata.contentType)
        text.add("modified", metadata.modified?.decimalSeconds)
        text.add("nonce", metadata.nonce)
        for (name, fields) in [("user", metadata.user), ("headers", metadata.headers)] {
            var object = JSONObject()
            for (field, value) in fields { object.add(field, value) }
            text.add(name, object)
        }
        return PercentEncoding.encode(text.bytes, keepSlash: false)
    }

    static func read(_ text: String?) -> ObjectMetadata {
        let bytes = text.flatMap { PercentEncoding.decodeBytes($0, plusIsSpace: false) } ?? []
        let metadata = JSONReader.read(bytes) { reader throws(JSONError) in
            var metadata = ObjectMetadata()
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "type": metadata.contentType = try reader.string()
                case "modified": metadata.modified = Timestamp(decimalSeconds: try reader.string())
                case "nonce": metadata.nonce = try reader.string()
                case "user": metadata.user = try reader.strings()
                case "headers": metadata.headers = try reader.strings()
                default: try reader.skip()
                }
            }
            return metadata
        }
        return metadata ?? ObjectMetadata()
    }
}
