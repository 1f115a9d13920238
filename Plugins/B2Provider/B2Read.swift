import CloudMountHTTP
import CloudMountPlatform
public import CloudMountVFS
import Crypto
import Synchronization

extension B2Provider {
    /// HEAD of the file by name: class B, where a listing of one entry would be class C, which costs ten times as much.
    ///
    /// The two names that the mark of a folder may have are asked for at the same time.
    public func head(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        let names = B2Names.names(key)
        guard let first = names.first else { throw VFSError(.notFound, "there is no such object") }
        guard names.count > 1 else { return try await head(key, first) }
        async let other = Self.outcome { () async throws(VFSError) in try await self.head(key, names[1]) }
        do throws(VFSError) {
            return try await head(key, first)
        } catch {
            guard error.code == .notFound else { throw error }
            return try await other.get()
        }
    }

    private static func outcome(
        _ work: @Sendable () async throws(VFSError) -> ObjectInfo
    ) async -> Result<ObjectInfo, VFSError> {
        do throws(VFSError) { return .success(try await work()) } catch { return .failure(error) }
    }

    func head(_ key: ObjectKey, _ name: String) async throws(VFSError) -> ObjectInfo {
        let response = try await client.download(Self.byName, .head, key: key, path: path(name))
        guard let size = response.headers["content-length"].flatMap({ Int($0) }), size >= 0,
            let etag = Self.etag(response.headers)
        else { throw client.malformed("a file without length or id", Self.byName, key, response) }
        return Self.info(key, size: size, etag: etag, response.headers)
    }

    /// The file by its id where a version is asked for, else by its name; of the range asked for, or nothing. A version
    /// that has been replaced or hidden is read all the same, for as long as B2 has it.
    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        if request.extent?.isEmpty ?? false { return try await readNothing(request, nil) }
        guard request.version == nil else { return try await read(request, name: nil, into: sink) }
        var absent = VFSError(.notFound, "there is no such object")
        for name in B2Names.names(request.key) {
            do throws(VFSError) {
                return try await read(request, name: name, into: sink)
            } catch {
                guard error.code == .notFound else { throw error }
                absent = error
            }
        }
        throw absent
    }

    /// - Parameter name: nil reads the version asked for.
    private func read(
        _ request: ReadRequest, name: String?, into sink: any ByteSink
    ) async throws(VFSError) -> ObjectInfo {
        let operation = name == nil ? Self.byID : Self.byName
        if let id = request.version?.value, let extent = request.extent, suspects.isPart(extent, of: id) {
            throw mismatch(operation, request.key, retry: .never)
        }
        let path = name.map(path) ?? Self.path(id: request.version?.value ?? "")
        let judge = ReadJudge(request, version: Self.etag)
        let checked = B2CheckedSink(sink)
        let response: HTTPResponse
        do throws(VFSError) {
            response = try await client.download(
                operation, .get, key: request.key, path: path, range: request.extent,
                into: .sink(
                    checked,
                    accepts: { head in
                        guard judge.accepts(head) else { return false }
                        checked.expect(head)
                        return true
                    }))
        } catch {
            if let size = checked.failedSize {
                if let id = request.version?.value { suspects.add(id, size: size) }
                // Bytes that were passed on cannot be taken back, and a retry would only go on behind them.
                throw mismatch(operation, request.key, retry: checked.hasDelivered ? .never : .backoff)
            }
            if let refusal = judge.refusal { throw refused(refusal, operation, request.key, nil) }
            switch (error.wire?.status, error.code) {
            case (416, _): return try await readNothing(request, error)
            case (_, .notFound) where request.version != nil: throw gone(error.wire)
            // An id that is none.
            case (400, .invalidArgument) where request.version != nil: throw gone(error.wire)
            default: throw error
            }
        }
        switch judge.verdict(response.head) {
        case .success(let object):
            return Self.info(request.key, size: object.size, etag: object.etag, response.headers)
        case .failure(let refusal): throw refused(refusal, operation, request.key, response)
        }
    }

    private func mismatch(_ operation: String, _ key: ObjectKey, retry: VFSError.RetryAdvice) -> VFSError {
        client.malformed(
            "the bytes that came are not those that were stored: their SHA-1 differs", operation, key, nil,
            code: .corrupted, retry: retry)
    }

    private func gone(_ wire: VFSError.Wire?) -> VFSError {
        VFSError(.stale, "the version that was opened has been deleted", wire: wire)
    }

    private func refused(
        _ refusal: ReadRefusal, _ operation: String, _ key: ObjectKey, _ response: HTTPResponse?
    ) -> VFSError {
        switch refusal {
        case .stale:
            client.malformed(
                "another version than was asked for", operation, key, response, code: .stale, retry: .never)
        case .ignoresRange:
            client.malformed(
                "the store ignores ranges and sent the whole file", operation, key, response, code: .notSupported,
                retry: .never)
        case .malformed: client.malformed("bytes that were not asked for", operation, key, response)
        }
    }

    /// An extent that holds no byte of the object: what there is to say is the object itself.
    private func readNothing(_ request: ReadRequest, _ refusal: VFSError?) async throws(VFSError) -> ObjectInfo {
        let info: ObjectInfo
        if let version = request.version {
            do throws(VFSError) {
                let file = try await self.info(version.value, request.key)
                guard file.action == .upload else { throw gone(nil) }
                info = file.object(request.key)
            } catch {
                guard error.code == .notFound || error.code == .invalidArgument else { throw error }
                throw gone(error.wire)
            }
        } else {
            info = try await head(request.key)
        }
        if let refusal, info.size > request.extent?.lowerBound ?? 0 {
            // It has grown between the two requests, or the store is wrong about its range.
            throw VFSError(
                .malformedResponse, "a range within the object was refused", retry: .backoff, wire: refusal.wire)
        }
        return info
    }

    // MARK: Paths and headers

    private static let byName = "b2_download_file_by_name"
    private static let byID = "b2_download_file_by_id"

    private func path(_ name: String) -> String { "/file/\(client.options.bucket)/\(B2FileInfo.encode(name))" }

    private static func path(id: String) -> String {
        "/b2api/v4/b2_download_file_by_id?fileId=\(PercentEncoding.encode(id, keepSlash: false))"
    }

    static let etag: @Sendable (HTTPHeaders) -> ETag? = { headers in
        headers["x-bz-file-id"].flatMap { $0.isEmpty ? nil : ETag($0) }
    }

    private static func info(_ key: ObjectKey, size: Int, etag: ETag, _ headers: HTTPHeaders) -> ObjectInfo {
        let uploaded = headers["x-bz-upload-timestamp"].flatMap { Int($0) } ?? 0
        return ObjectInfo(
            key: key, size: size, etag: etag, stored: Timestamp(milliseconds: uploaded),
            encryption: B2Encryption.told(headers), metadata: B2FileInfo.metadata(headers))
    }
}

/// Passes a file on, and holds it against its SHA-1 where the store tells one and all of it comes by.
///
/// Small files, those that a reader from the start on gets in one request, are held back until they are known to be right.
/// Of larger ones the last bytes are, so that a read whose bytes are wrong never ends well.
final class B2CheckedSink: ByteSink {
    /// Files up to this many bytes are held back whole.
    static let heldBack = 1 << 20

    private struct State {
        var sha1: String?
        var size = 0
        var hasher = Insecure.SHA1()
        var hashed = 0
        var held: [UInt8] = []
        var isRight = false
        var hasFailed = false
        var hasDelivered = false
    }

    private let inner: any ByteSink
    private let state = Mutex(State())

    init(_ inner: any ByteSink) { self.inner = inner }

    /// The file's size, when the bytes that came are not those of its SHA-1.
    var failedSize: Int? { state.withLock { $0.hasFailed ? $0.size : nil } }
    /// Some of them were passed on.
    var hasDelivered: Bool { state.withLock { $0.hasDelivered } }

    /// Learns from the head of an answer what is to come.
    func expect(_ head: HTTPResponseHead) {
        let length = head.headers["content-length"].flatMap { Int($0) } ?? 0
        guard length > 0, head.headers["content-range"] == nil || Self.isWhole(head.headers, length) else { return }
        let sha1 =
            B2File.sha1(head.headers["x-bz-content-sha1"])
            ?? B2File.sha1(head.headers["x-bz-info-large_file_sha1"])
        state.withLock { state in
            state = State()
            state.sha1 = sha1
            state.size = length
        }
    }

    private static func isWhole(_ headers: HTTPHeaders, _ length: Int) -> Bool {
        headers["content-range"].map { $0.hasSuffix("/\(length)") } ?? true
    }

    func attach(resume: @escaping @Sendable () -> Void) { inner.attach(resume: resume) }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        state.withLock { state in
            guard let sha1 = state.sha1 else { return deliver(bytes, &state) }
            // The last bytes come again when the receiver has asked for a pause.
            if state.isRight { return deliverAll(bytes, &state) }
            if state.hashed + bytes.count < state.size {
                if state.size <= Self.heldBack {
                    state.held.append(contentsOf: bytes)
                } else {
                    let verdict = deliver(bytes, &state)
                    guard case .proceed = verdict else { return verdict }
                }
                state.hasher.update(bufferPointer: bytes)
                state.hashed += bytes.count
                return .proceed
            }
            state.hasher.update(bufferPointer: bytes)
            guard Hex.string(state.hasher.finalize()) == sha1 else {
                state.hasFailed = true
                return .stop
            }
            state.isRight = true
            return deliverAll(bytes, &state)
        }
    }

    private func deliver(_ bytes: UnsafeRawBufferPointer, _ state: inout State) -> ByteSinkVerdict {
        let verdict = inner.receive(bytes)
        if case .proceed = verdict { state.hasDelivered = true }
        return verdict
    }

    /// What was held back and what has come last.
    private func deliverAll(_ bytes: UnsafeRawBufferPointer, _ state: inout State) -> ByteSinkVerdict {
        if !state.held.isEmpty {
            let verdict = state.held.withUnsafeBytes { inner.receive($0) }
            guard case .proceed = verdict else { return verdict }
            state.held = []
            state.hasDelivered = true
        }
        return deliver(bytes, &state)
    }
}
