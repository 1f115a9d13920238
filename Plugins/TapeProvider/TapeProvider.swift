import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
public import CloudMountVFS

/// A reel of an imagined tape library that speaks HTTP and JSON: the example of a provider over HTTP. Its README has the wire.
public final class TapeProvider: ObjectProvider {
    private let client: TapeClient

    init(_ client: TapeClient) { self.client = client }

    public static let descriptor = ProviderDescriptor(
        name: "tape", summary: "An imagined tape library; the example of a provider", bucketMeaning: "name of a reel",
        options: [OptionDescriptor("url", .url, "where the library is", required: true)],
        credentials: [OptionDescriptor("token", .string, "what the library knows you by", secret: true)],
        check: { context in
            guard let url = WebURL(context.options.string("url") ?? "") else {
                return [OptionProblem(option: "url", message: "is not http(s)://host[:port][/path]")]
            }
            let hasToken = context.credentials.string("token") != nil
            return hasToken && !url.isTLS && !url.isLoopback
                ? [OptionProblem(option: "url", message: "would send the token unencrypted")] : []
        },
        endpoint: { WebURL($0.options.string("url") ?? "")?.origin ?? $0.mountName },
        make: { context throws(VFSError) in
            guard let url = WebURL(context.options.string("url") ?? "") else {
                throw VFSError(.invalidArgument, "the library's url is none")
            }
            return TapeProvider(
                TapeClient(library: url, reel: context.bucket, token: context.credentials.string("token")))
        })

    public var executor: (any TaskExecutor)? { HTTPEngine.shared }

    public let capabilities: Capabilities = {
        var capabilities = Capabilities()
        capabilities.maxPutSize = 1 << 30
        capabilities.maxObjectSize = 1 << 30
        capabilities.conditionalCreate = true
        capabilities.conditionalReplace = true
        capabilities.conditionalDelete = true
        capabilities.pinnedRead = true
        capabilities.sortedListing = true
        return capabilities
    }()

    public func prepare(writable: Bool) async throws(VFSError) {
        do throws(VFSError) {
            _ = try await client.send("FindReel", .get, "")
        } catch {
            switch error.wire?.status {
            case 404: throw VFSError(.bucketNotFound, "the library has no such reel", wire: error.wire)
            case 401: throw VFSError(.credentialsInvalid, "the library refuses the token", wire: error.wire)
            default: throw error
            }
        }
    }

    public func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        let count = max(1, min(request.limit ?? capabilities.maxListKeys, capabilities.maxListKeys))
        var query = "/keys?prefix=\(TapeClient.escaped(request.prefix))&limit=\(count)"
        if request.delimited { query += "&delimiter=%2F" }
        if let after = request.continuation { query += "&after=\(TapeClient.escaped(ObjectKey(after)))" }
        let response = try await client.send("ListKeys", .get, query)
        // What does not say where it ends is no listing, and least of all an empty one.
        guard let page = TapeObject.page(response.body) else {
            throw VFSError(
                .malformedResponse, "a listing that cannot be read", retry: .backoff,
                wire: client.wire("ListKeys", request.prefix, response))
        }
        return page
    }

    public func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        let response = try await client.send("LookAtObject", .head, client.path(key), key)
        guard let size = response.headers["content-length"].flatMap({ Int($0) }) else {
            throw VFSError(
                .malformedResponse, "an object without a length", retry: .backoff,
                wire: client.wire("LookAtObject", key, response))
        }
        return try client.object(key, size: size, response)
    }

    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        let (client, operation) = (client, "ReadObject")
        let read = RangedRead(request, etag: TapeClient.etag)
        return try await read.run(into: sink) {
            client.wire(operation, request.key, $0)
        } send: {
            target throws(VFSError) in
            var headers = HTTPHeaders()
            if let range = read.range { headers.append("Range", range) }
            if let version = request.version { headers.append("If-Match", version.quoted) }
            return try await client.send(
                operation, .get, client.path(request.key), request.key, headers: headers, into: target)
        } head: { () throws(VFSError) in
            try await self.head(request.key)
        } describe: { size, etag, headers in
            TapeClient.info(request.key, size: size, etag: etag, headers)
        }
    }

    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        let key = request.key
        guard !key.isEmpty else { throw VFSError(.invalidName, "an object must have a key") }
        guard key.byteCount <= capabilities.maxKeyBytes else {
            throw VFSError(.nameTooLong, "a key has at most \(capabilities.maxKeyBytes) bytes")
        }
        guard source.count <= capabilities.maxPutSize else {
            throw VFSError(.tooLarge, "a tape holds objects of 1 GiB at most")
        }
        var headers = HTTPHeaders()
        headers.append(TapeClient.metadataField, try TapeMetadata.text(request.metadata, limit: capabilities))
        switch request.precondition {
        case .none: break
        case .absent: headers.append("If-None-Match", "*")
        case .match(let version): headers.append("If-Match", version.quoted)
        }
        let response = try await client.send(
            "WriteObject", .put, client.path(key), key, headers: headers, body: source)
        return try client.object(key, size: source.count, response)
    }

    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        guard objects.count <= 1 else { throw VFSError(.invalidArgument, "one object at a time") }
        guard let object = objects.first else { return [] }
        var headers = HTTPHeaders()
        if let version = object.version { headers.append("If-Match", version.quoted) }
        do throws(VFSError) {
            _ = try await client.send("EraseObject", .delete, client.path(object.key), object.key, headers: headers)
        } catch {
            switch error.code {
            case .notFound: break
            case .preconditionFailed: return [DeleteFailure(key: object.key, error: error)]
            default: throw error
            }
        }
        return []
    }
}
