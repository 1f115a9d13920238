/// The bytes of an upload: local, of a known count, and readable as often as a retry needs.
public protocol ByteSource: Sendable {
    /// Bytes in all.
    var count: Int { get }

    /// Fills `buffer` from `offset` on.
    ///
    /// May block on local disk or memory, never on the network. May be called from any thread, also by several at once,
    /// and again for the same offset.
    /// - Returns: the number of bytes written, less than `buffer.count` only at the end.
    /// - Throws: `io` when the bytes cannot be read any more; the upload then fails and nothing short is stored.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int

    /// As `read`, of bytes that are there at once; never waits for a disk. Called on threads that many transfers share.
    /// - Returns: at least 1 and at most `buffer.count`, as many as are there; nil when there are none: `read` tells more.
    func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int?
}

extension ByteSource {
    public func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? { nil }
}

/// The receiver of a download. Bytes come in order, on the transfer thread, each once.
public protocol ByteSink: AnyObject, Sendable {
    /// Takes the next bytes. Must return soon and must not block; `bytes` is dead after the call.
    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict

    /// Called once before the first byte: `resume` may be called from any thread to end a pause.
    func attach(resume: @escaping @Sendable () -> Void)
}

extension ByteSink {
    public func attach(resume: @escaping @Sendable () -> Void) {}
}

public enum ByteSinkVerdict: Sendable {
    /// The bytes were taken.
    case proceed
    /// The bytes were not taken: hold the transfer and give the same ones again after `resume`.
    case pause
    /// No more is wanted: the operation ends with `cancelled`.
    case stop
}

/// A source over bytes in memory.
public struct BytesSource: ByteSource {
    public let bytes: [UInt8]

    public init(_ bytes: [UInt8]) { self.bytes = bytes }
    public init(_ text: String) { self.bytes = Array(text.utf8) }

    public var count: Int { bytes.count }

    public func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        guard offset >= 0, offset < bytes.count else { return 0 }
        let count = min(buffer.count, bytes.count - offset)
        bytes.withUnsafeBytes { source in
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + count]))
        }
        return count
    }

    public func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        guard let count = try? read(at: offset, into: buffer), count > 0 else { return nil }
        return count
    }
}
