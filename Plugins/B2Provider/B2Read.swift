import CloudMountCrypto
import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Reads of files: the bytes asked for of the version asked for, held against the file's SHA-1 where all of them come by.
struct B2Reader: Sendable {
    private static let byID = "b2_download_file_by_id"

    let client: B2Client
    let files: B2Files
    private let suspects = B2Suspects()

    init(client: B2Client, files: B2Files) {
        self.client = client
        self.files = files
    }

    /// The file by its id where a version is asked for, else by its name; of the range asked for, or nothing. A version
    /// that has been replaced or hidden is read all the same, for as long as B2 has it.
    func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
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
        let operation = name == nil ? Self.byID : B2Files.byName
        if let id = request.version?.value, let extent = request.extent, !extent.isEmpty,
            suspects.isPart(extent, of: id)
        {
            throw mismatch(operation, request.key, retry: .never)
        }
        let path = name.map(client.path) ?? Self.path(id: request.version?.value ?? "")
        let read = RangedRead(
            request, changed: "the version that was opened has been deleted, or is another one", etag: B2Files.etag)
        let checked = B2CheckedSink(sink)
        return try await read.run(into: checked, willAccept: { checked.expect($0) }) { response in
            client.wire(operation, request.key, response)
        } send: { target throws(VFSError) in
            do throws(VFSError) {
                return try await client.download(
                    operation, .get, key: request.key, path: path, range: read.range, into: target)
            } catch {
                if let size = checked.failedSize {
                    if let id = request.version?.value { suspects.add(id, size: size) }
                    // Bytes that were passed on cannot be taken back, and a retry would only go on behind them.
                    throw mismatch(operation, request.key, retry: checked.hasDelivered ? .never : .backoff)
                }
                throw name == nil && error.wire?.status == 400 ? absentID(error) : error
            }
        } head: { () throws(VFSError) in
            guard let version = request.version else { return try await files.head(request.key) }
            do throws(VFSError) {
                let file = try await files.info(version.value, request.key)
                guard file.action == .upload else { throw VFSError(.notFound, "there is no such version") }
                return file.object(request.key)
            } catch {
                throw absentID(error)
            }
        } describe: { size, etag, headers in
            B2Files.info(request.key, size: size, etag: etag, headers)
        }
    }

    /// Of an id that is none any more B2 says that it is no argument.
    private func absentID(_ error: VFSError) -> VFSError {
        error.code == .invalidArgument ? VFSError(.notFound, error.message, wire: error.wire) : error
    }

    private func mismatch(_ operation: String, _ key: ObjectKey, retry: VFSError.RetryAdvice) -> VFSError {
        client.malformed(
            "the bytes that came are not those that were stored: their SHA-1 differs", operation, key, nil,
            code: .corrupted, retry: retry)
    }

    private static func path(id: String) -> String {
        "/b2api/v4/b2_download_file_by_id?fileId=\(PercentEncoding.encode(id, keepSlash: false))"
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
        var hasher = SHA1()
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
                state.hasher.update(bytes)
                state.hashed += bytes.count
                return .proceed
            }
            state.hasher.update(bytes)
            guard Hex.string(state.hasher.finish()) == sha1 else {
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
