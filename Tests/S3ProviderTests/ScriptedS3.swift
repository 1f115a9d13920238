import CloudMountPlatform
import CloudMountVFS
import Synchronization
import TestServers

@testable import S3Provider

extension ScriptedAnswer {
    static func xml(_ body: String, status: Int = 200, headers: [(String, String)] = []) -> ScriptedAnswer {
        ScriptedAnswer(status: status, headers: headers, body: Array(body.utf8))
    }

    static func error(
        _ status: Int, _ code: String, _ more: String = "", message: String = "Because.",
        headers: [(String, String)] = []
    ) -> ScriptedAnswer {
        xml(
            "<?xml version=\"1.0\"?><Error><Code>\(code)</Code><Message>\(message)</Message>\(more)"
                + "<RequestId>R1</RequestId></Error>", status: status, headers: headers)
    }
}

/// A clock that stands still until it is set.
final class TestClock: Sendable {
    private let time: Mutex<Timestamp>

    init(_ seconds: Int = 1_795_426_200) { time = Mutex(Timestamp(seconds: seconds)) }

    var now: @Sendable () -> Timestamp { { self.time.withLock { $0 } } }

    func advance(_ seconds: Int) {
        time.withLock { $0 = Timestamp(seconds: $0.seconds + seconds, nanoseconds: $0.nanoseconds) }
    }
}

/// Collects what it receives.
final class CollectingSink: ByteSink {
    private let collected = Mutex<[UInt8]>([])

    var text: String { String(decoding: collected.withLock { $0 }, as: UTF8.self) }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        collected.withLock { $0.append(contentsOf: bytes) }
        return .proceed
    }
}

/// A provider of a scripted server, with keys of its own and a clock that stands still.
func provider(
    _ server: ScriptedServer, _ options: [String: OptionValue] = [:], profile: String? = nil, bucket: String = "bucket",
    prefix: String = "", copyLimit: Int = 5 << 30, copyPartSize: Int = 512 << 20,
    source: (any S3CredentialSource)? = nil, clock: TestClock = TestClock(), memory: (any ProviderMemory)? = nil
) throws -> S3Provider {
    var values = OptionValues(options)
    values["endpoint"] = .string("http://127.0.0.1:\(server.port)")
    if let profile { values["endpoint_profile"] = .string(profile) }
    let context = ProviderContext(mountName: "test", bucket: bucket, prefix: prefix, options: values)
    let source =
        source ?? StaticCredentials(credentials: S3Credentials(accessKeyID: "AKID", secretAccessKey: "SECRET"))
    let client = try S3Client(
        S3Options(context), credentials: S3CredentialStore(source, now: clock.now), now: clock.now)
    return S3Provider(client, memory: memory, copyLimit: copyLimit, copyPartSize: copyPartSize)
}

/// A profile in which everything is known and nothing is probed, with the bucket in the path.
let known = ["endpoint_profile": OptionValue.string("aws"), "path_style": .boolean(true)]

/// As `head` tells it: nothing of it is unknown.
func info(
    _ key: ObjectKey, size: Int = 10, etag: String = "e1", storageClass: String? = "STANDARD",
    encryption: String? = "AES256"
) -> ObjectInfo {
    ObjectInfo(
        key: key, size: size, etag: ETag(etag), stored: Timestamp(seconds: 0), storageClass: storageClass,
        encryption: encryption)
}
