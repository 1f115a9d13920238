import CloudMountVFS
import Synchronization
import Testing

/// What a case works with: the provider, and a place in the bucket of its own.
struct Bench: Sendable {
    let provider: any ObjectProvider
    let subject: Subject
    let prefix: String

    init(_ provider: any ObjectProvider, _ subject: Subject, prefix: String) {
        self.provider = provider
        self.subject = subject
        self.prefix = prefix
    }

    var capabilities: Capabilities { provider.capabilities }

    /// A key of this case.
    func key(_ name: String) -> ObjectKey { ObjectKey(prefix + name) }

    @discardableResult
    func put(
        _ name: String, _ bytes: [UInt8] = [], _ metadata: ObjectMetadata = ObjectMetadata(),
        if precondition: Precondition = .none
    ) async throws(VFSError) -> ObjectInfo {
        let request = PutRequest(key: key(name), metadata: metadata, precondition: precondition)
        return try await provider.put(request, from: BytesSource(bytes))
    }

    func head(_ name: String) async throws(VFSError) -> ObjectInfo { try await provider.head(key(name)) }

    /// The bytes of one read, which must be as many as were promised.
    func read(
        _ name: String, _ extent: Extent? = nil, version: ETag? = nil
    ) async throws(VFSError) -> (info: ObjectInfo, bytes: [UInt8]) {
        let sink = CollectingSink()
        let request = ReadRequest(key: key(name), extent: extent, version: version)
        let info = try await provider.read(request, into: sink)
        return (info, sink.bytes)
    }

    func delete(_ names: [String]) async throws {
        #expect(try await delete(names.map { DeleteRequest(key($0)) }).isEmpty)
    }

    /// In as many calls as it takes.
    /// - Returns: what the store refused.
    func delete(_ objects: [DeleteRequest]) async throws -> [DeleteFailure] {
        var failures: [DeleteFailure] = []
        for start in stride(from: 0, to: objects.count, by: capabilities.maxDeleteKeys) {
            let end = min(objects.count, start + capabilities.maxDeleteKeys)
            failures += try await provider.delete(Array(objects[start..<end]))
        }
        return failures
    }

    /// All pages of a listing, and how many there were.
    func list(
        _ name: String = "", delimited: Bool = false, limit: Int? = nil
    ) async throws -> (objects: [ObjectInfo], prefixes: [String], pages: Int) {
        var objects: [ObjectInfo] = []
        var prefixes: [String] = []
        var pages = 0
        var request = ListRequest(prefix: key(name), delimited: delimited, limit: limit)
        repeat {
            let page = try await provider.list(request)
            // Real folders stay when what was in them goes, and are in every listing of everything.
            objects += capabilities.realFolders ? page.objects.filter { !$0.key.endsWithSlash } : page.objects
            prefixes += page.commonPrefixes.map { bare($0) }
            pages += 1
            try #require(page.continuation == nil || page.continuation != request.continuation, "a page twice")
            if let limit { #expect(page.objects.count + page.commonPrefixes.count <= limit) }
            request.continuation = page.continuation
        } while request.continuation != nil
        return (objects, prefixes, pages)
    }

    /// Takes away what the case has left, and the folder that its keys were in once that is empty.
    func empty(_ place: String) async throws {
        var left: [ObjectKey] = []
        var request = ListRequest(prefix: key(""), delimited: false)
        repeat {
            let page = try await provider.list(request)
            left += page.objects.map(\.key)
            request.continuation = page.continuation
        } while request.continuation != nil
        // A folder goes after what is in it.
        let folders = left.filter(\.endsWithSlash).sorted { $0.byteCount > $1.byteCount }
        for keys in [left.filter { !$0.endsWithSlash }] + folders.map({ [$0] }) {
            _ = try await delete(keys.map { DeleteRequest($0) })
        }
        if capabilities.realFolders { _ = try await delete([DeleteRequest(ObjectKey(place))]) }
    }

    /// Names of this case in listing order.
    func names(_ name: String = "", delimited: Bool = false, limit: Int? = nil) async throws -> [String] {
        try await list(name, delimited: delimited, limit: limit).objects.map { bare($0.key) }
    }

    func bare(_ key: ObjectKey) -> String {
        key.hasPrefix(ObjectKey(prefix)) ? key.dropping(prefix.utf8.count).string : "(foreign) \(key)"
    }

    /// Runs `body` for each number, a few at a time.
    func concurrently(_ count: Int, width: Int = 32, _ body: @escaping @Sendable (Int) async throws -> Void)
        async throws
    {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<count {
                if number >= width { try await group.next() }
                group.addTask { try await body(number) }
            }
            try await group.waitForAll()
        }
    }

    /// Expects `body` to fail with `code`, and with the advice that belongs to it.
    func refuses(
        _ codes: VFSError.Code..., advice: VFSError.RetryAdvice? = .never,
        sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Void
    ) async {
        do {
            try await body()
            Issue.record("succeeds, where \(codes[0]) was due", sourceLocation: sourceLocation)
        } catch let error as VFSError {
            #expect(codes.contains(error.code), "\(error)", sourceLocation: sourceLocation)
            if let advice { #expect(error.retry == advice, "\(error)", sourceLocation: sourceLocation) }
            #expect(!error.message.isEmpty, sourceLocation: sourceLocation)
        } catch {
            Issue.record("throws \(error), which is no VFSError", sourceLocation: sourceLocation)
        }
    }
}

/// Bytes that differ from position to position and from seed to seed.
func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        for index in 0..<count {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            buffer[index] = UInt8(truncatingIfNeeded: state >> 56)
        }
        filled = count
    }
}

/// Compares bytes without printing them.
func same(_ left: [UInt8], _ right: [UInt8]) -> Bool { left == right }

/// Compares names as bytes, which `String` does not.
func sameNames(_ left: [String], _ right: [String]) -> Bool {
    left.map { Array($0.utf8) } == right.map { Array($0.utf8) }
}

/// Keeps everything.
final class CollectingSink: ByteSink {
    private let collected = Mutex<[UInt8]>([])
    var bytes: [UInt8] { collected.withLock { $0 } }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        collected.withLock { $0.append(contentsOf: bytes) }
        return .proceed
    }
}
