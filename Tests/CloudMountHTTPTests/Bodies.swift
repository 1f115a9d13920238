import CloudMountHTTP
import CloudMountVFS
import Synchronization
import Testing

/// Keeps what it gets, and does after each receipt what a test says.
final class RecordingSink: ByteSink {
    private struct State {
        var bytes: [UInt8] = []
        var attached = 0
        var calls = 0
        var resume: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())
    private let verdict: @Sendable (_ call: Int, _ taken: Int) -> ByteSinkVerdict

    /// - Parameter verdict: given the number of earlier calls and of the bytes taken so far.
    init(_ verdict: @escaping @Sendable (Int, Int) -> ByteSinkVerdict = { _, _ in .proceed }) { self.verdict = verdict }

    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var calls: Int { state.withLock { $0.calls } }
    var attached: Int { state.withLock { $0.attached } }

    func resume() { state.withLock { $0.resume }?() }

    func attach(resume: @escaping @Sendable () -> Void) {
        state.withLock { state in
            state.attached += 1
            state.resume = resume
        }
    }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        let (call, taken) = state.withLock { ($0.calls, $0.bytes.count) }
        let verdict = verdict(call, taken)
        state.withLock { state in
            state.calls += 1
            if verdict == .proceed { state.bytes.append(contentsOf: bytes) }
        }
        return verdict
    }
}

/// Gives `good` bytes of the `count` that it promises and then fails, or ends when told so.
struct BrokenSource: ByteSource {
    let count: Int
    let good: Int
    let throwsError: Bool

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        guard offset < good else {
            if throwsError { throw VFSError(.io, "the disk is gone") }
            return 0
        }
        let count = min(buffer.count, good - offset)
        for index in 0..<count { buffer[index] = 0x61 }
        return count
    }
}

/// Bytes that differ from place to place, the same for the same seed.
func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        withUnsafeBytes(of: state) { bytes.append(contentsOf: $0) }
    }
    bytes.removeLast(bytes.count - count)
    return bytes
}

/// Runs `body` against a server that follows `script`.
func withServer<Value>(
    _ script: @escaping @Sendable (ScriptedConnection, Int) -> Void,
    _ body: (ScriptedServer) async throws -> Value
) async rethrows -> Value {
    let server = ScriptedServer(script)
    defer { server.stop() }
    return try await body(server)
}

/// The kind of error that a request ends with; nil when it succeeds.
func failure(_ request: HTTPRequest, body: HTTPBodyTarget = .memory) async -> HTTPError? {
    do throws(HTTPError) {
        _ = try await HTTPEngine.shared.perform(request, body: body)
        return nil
    } catch {
        return error
    }
}

func get(_ url: String, patience: Duration = .seconds(20)) -> HTTPRequest {
    var options = HTTPOptions()
    options.stallTimeout = patience
    return HTTPRequest(.get, url, options: options)
}

/// Expects `holds` of the answer.
func expect(
    _ request: HTTPRequest, body: HTTPBodyTarget = .memory, at location: SourceLocation = #_sourceLocation,
    _ holds: (HTTPResponse) -> Bool
) async throws {
    let response = try await HTTPEngine.shared.perform(request, body: body)
    let isHeld = holds(response)
    #expect(isHeld, "\(response.head), \(response.body.count) bytes", sourceLocation: location)
}

/// Whether both hold the same bytes; a failed expectation does not print them.
func same(_ left: [UInt8], _ right: [UInt8]) -> Bool { left == right }

/// Waits for what another thread is about to bring about; a minute at most.
func until(at location: SourceLocation = #_sourceLocation, _ condition: () -> Bool) async throws {
    for _ in 0..<12_000 {
        if condition() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    try #require(condition(), sourceLocation: location)
}
