import CloudMountCrypto
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

/// Files of tokens that the tools of AWS share below `~/.aws`.
enum CachedToken {
    /// The name of a token's file, without its ending.
    static func sha1(_ name: String) -> String { Hex.string(SHA1.digest(Array(name.utf8))) }

    /// As the tools write it: `2026-11-27T10:00:00Z`.
    static func time(_ seconds: Int) -> String {
        let text = WireDate.basic(seconds)
        func part(_ start: Int, _ count: Int) -> Substring { text.dropFirst(start).prefix(count) }
        return "\(part(0, 4))-\(part(4, 2))-\(part(6, 2))T\(part(9, 2)):\(part(11, 2)):\(part(13, 2))Z"
    }

    /// Puts a file in the place of another one, whole or not at all, readable by its owner alone.
    /// - Returns: false when that cannot be done.
    static func write(_ bytes: [UInt8], to path: String) -> Bool {
        let made = "\(path).\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        let descriptor = Descriptor(owning: open(made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600))
        guard descriptor.raw >= 0 else { return false }
        var done = 0
        while done < bytes.count {
            let count = bytes[done...].withUnsafeBytes { Glibc.write(descriptor.raw, $0.baseAddress, $0.count) }
            guard count > 0 else { break }
            done += count
        }
        guard done == bytes.count, fsync(descriptor.raw) == 0, rename(made, path) == 0 else {
            unlink(made)
            return false
        }
        return true
    }
}

/// The tokens in such files. Who refreshes one does so alone, for what refreshes it serves once; and one that cannot be written down is
/// kept until the file changes.
final class CachedTokens: Sendable {
    static let shared = CachedTokens()

    private struct State {
        var busy: Set<String> = []
        /// By file: what belongs into it, and what is in it.
        var unwritten: [String: (token: [UInt8], file: [UInt8])] = [:]
    }
    private let state = Mutex(State())
    private let waiters = Waiters()

    /// - Throws: `cancelled` when the task is while it waits for its turn.
    func alone<Value>(with path: String, _ body: () async throws(VFSError) -> Value) async throws(VFSError) -> Value {
        while !state.withLock({ $0.busy.insert(path).inserted }) {
            await waiters.wait(unless: { state.withLock { !$0.busy.contains(path) } })
            if Task.isCancelled { throw .cancelled }
        }
        defer {
            state.withLock { _ = $0.busy.remove(path) }
            waiters.resume()
        }
        return try await body()
    }

    /// Nil when there is no such file.
    func read(_ path: String) async throws(VFSError) -> [UInt8]? {
        let bytes = try await BlockingPool.credentialFiles.run { () throws(VFSError) -> [UInt8]? in
            guard let file = try WatchedFile(path).read() else { return nil }
            if let fault = file.fault { throw .credentials("the login of the AWS CLI is not used: \(fault)") }
            return file.bytes
        }
        guard let bytes, let kept = state.withLock({ $0.unwritten[path] }), kept.file == bytes else { return bytes }
        return kept.token
    }

    func write(_ token: [UInt8], to path: String) async {
        let unwritten = await BlockingPool.credentialFiles.run { () throws(Never) in
            let file = (try? WatchedFile(path).read()?.bytes) ?? []
            return CachedToken.write(token, to: path) ? nil : file
        }
        state.withLock { $0.unwritten[path] = unwritten.map { (token, $0) } }
    }
}
