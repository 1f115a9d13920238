import CloudMountHTTP
import CloudMountVFS
import Synchronization
import TestServers

@testable import B2Provider

extension ScriptedAnswer {
    static func json(_ text: String, status: Int = 200, headers: [(String, String)] = []) -> ScriptedAnswer {
        ScriptedAnswer(status: status, headers: headers, body: Array(text.utf8))
    }

    static func error(_ status: Int, _ code: String, _ message: String = "Because.") -> ScriptedAnswer {
        json("{\"status\": \(status), \"code\": \"\(code)\", \"message\": \"\(message)\"}", status: status)
    }
}

extension SeenRequest {
    /// B2's name of the operation, or the path of a download or an upload.
    var operation: String {
        path.hasPrefix("/b2api/")
            ? String(path[path.index(after: path.lastIndex(of: "/") ?? path.startIndex)...]) : path
    }
}

/// A scripted server with a login and one bucket, `bucket-one`; everything else is the test's.
final class ScriptedB2: Sendable {
    static let everything = [
        "listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles",
    ]

    let server: ScriptedServer

    /// - Parameters:
    ///   - allowed: the members of v4's `allowed` beside the capabilities.
    ///   - answer: nil leaves the operation to this.
    init(
        capabilities: [String] = everything, allowed: String = "\"buckets\": null, \"namePrefix\": null",
        bucket: String = "\"bucketId\": \"b1\", \"bucketName\": \"bucket-one\"",
        _ answer: @escaping @Sendable (SeenRequest, _ port: String) -> ScriptedAnswer? = { _, _ in nil }
    ) throws {
        let count = Mutexed(0)
        let words = capabilities.map { "\"\($0)\"" }.joined(separator: ",")
        server = try ScriptedServer { request, _ in
            let home = request.headers["host"] ?? ""
            if let answer = answer(request, home) { return answer }
            switch request.operation {
            case "b2_authorize_account":
                let number = count.value.withLock { number in
                    number += 1
                    return number
                }
                return .json(
                    """
                    {"accountId": "acc", "authorizationToken": "token\(number)", "apiInfo": {"storageApi": {
                     "apiUrl": "http://\(home)", "downloadUrl": "http://\(home)", "recommendedPartSize": 100000000,
                     "absoluteMinimumPartSize": 5000000, "allowed": {"capabilities": [\(words)], \(allowed)}}}}
                    """)
            case "b2_list_buckets": return .json("{\"buckets\": [{\(bucket)}]}")
            case "b2_list_unfinished_large_files": return .json("{\"files\": [], \"nextFileId\": null}")
            default: return .error(400, "bad_request", "not scripted: \(request.operation)")
            }
        }
    }

    var seen: [SeenRequest] { server.seen }
    var operations: [String] { server.seen.map(\.operation) }
    /// Without the mount's own steps.
    var work: [String] {
        operations.filter {
            !["b2_authorize_account", "b2_list_buckets", "b2_list_unfinished_large_files"].contains($0)
        }
    }

    var realm: String { "http://127.0.0.1:\(server.port)" }

    func session(interval: UInt64 = B2Session.interval, now: (@Sendable () -> UInt64)? = nil) -> B2Session {
        let identity = B2Session.Identity(realm: realm, keyID: "id", key: "secret")
        guard let now else { return B2Session(identity, interval: interval) }
        return B2Session(identity, interval: interval, now: now)
    }

    func provider(
        _ options: [String: OptionValue] = [:], credentials: [String: OptionValue] = [:], prefix: String = "",
        session: B2Session? = nil, copyLimit: Int = B2Provider.maxPieceSize, copyPartSize: Int = 500_000_000
    ) throws -> B2Provider {
        var values = OptionValues(options)
        values["realm"] = .string(realm)
        var secrets = OptionValues(credentials)
        secrets["key_id"] = .string("id")
        secrets["application_key"] = .string("secret")
        let context = ProviderContext(
            mountName: "test", bucket: "bucket-one", prefix: prefix, options: values, credentials: secrets)
        let client = B2Client(
            B2Options(context), credentials: try B2Credentials(secrets), session: session ?? self.session())
        return B2Provider(client, copyLimit: copyLimit, copyPartSize: copyPartSize)
    }

    func prepared(
        _ options: [String: OptionValue] = [:], credentials: [String: OptionValue] = [:], prefix: String = "",
        session: B2Session? = nil, copyLimit: Int = B2Provider.maxPieceSize, copyPartSize: Int = 500_000_000
    ) async throws -> B2Provider {
        let provider = try provider(
            options, credentials: credentials, prefix: prefix, session: session, copyLimit: copyLimit,
            copyPartSize: copyPartSize)
        try await provider.prepare(writable: true)
        return provider
    }
}

/// A counter that closures share.
final class Mutexed<Value: Sendable>: Sendable {
    let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
}

/// A file as B2's JSON has it.
func file(
    _ name: String, id: String = "f1", action: String = "upload", size: Int = 3, sha1: String = "none",
    info: String = "{}", type: String = "text/plain", uploaded: Int = 1_700_000_000_123
) -> String {
    """
    {"accountId": "acc", "action": "\(action)", "bucketId": "b1", "contentLength": \(size), "contentMd5": null,
     "contentSha1": "\(sha1)", "contentType": "\(type)", "fileId": \(action == "folder" ? "null" : "\"\(id)\""),
     "fileInfo": \(info), "fileName": "\(name)", "uploadTimestamp": \(uploaded)}
    """
}

func info(_ key: ObjectKey, size: Int = 10, id: String = "f1") -> ObjectInfo {
    ObjectInfo(key: key, size: size, etag: ETag(id), stored: Timestamp(seconds: 0), metadata: ObjectMetadata())
}

/// The headers of a download.
func headers(
    _ id: String, sha1: String = "none", _ more: [(String, String)] = []
) -> [(String, String)] {
    [
        ("X-Bz-File-Id", id), ("X-Bz-Content-Sha1", sha1), ("X-Bz-Upload-Timestamp", "1700000000123"),
        ("Content-Type", "text/plain"),
    ] + more
}

/// Collects what it receives.
final class CollectingSink: ByteSink {
    private let collected = Mutex<[UInt8]>([])
    var bytes: [UInt8] { collected.withLock { $0 } }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        collected.withLock { $0.append(contentsOf: bytes) }
        return .proceed
    }
}

/// The error that `body` ends with.
func failure(_ body: () async throws -> Void) async -> VFSError? {
    do { try await body() } catch { return error as? VFSError }
    return nil
}

func head(_ status: Int, _ fields: [(String, String)]) -> HTTPResponseHead {
    var headers = HTTPHeaders()
    for (name, value) in fields { headers.append(name, value) }
    return HTTPResponseHead(status: status, headers: headers)
}
