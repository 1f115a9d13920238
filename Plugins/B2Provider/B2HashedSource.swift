import CloudMountCrypto
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Bytes followed by the forty digits of their SHA-1, which is taken while they are sent (`hex_digits_at_end`): nothing
/// is read twice, as long as nothing is sent twice.
final class B2HashedSource: ByteSource {
    static let digitCount = 40

    private struct State {
        var hasher = SHA1()
        /// Bytes in `hasher`.
        var hashed = 0
        var digits: [UInt8]?
    }

    private let source: any ByteSource
    private let state = Mutex(State())
    let count: Int

    init(_ source: any ByteSource) {
        self.source = source
        count = source.count + Self.digitCount
    }

    /// The digits, once all bytes have been read.
    var sha1: String? { state.withLock { $0.digits.map { String(decoding: $0, as: UTF8.self) } } }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        let body = source.count
        guard offset < body else {
            let digits = try digits()
            let start = offset - body
            guard start < digits.count, buffer.count > 0 else { return 0 }
            let wanted = min(buffer.count, digits.count - start)
            buffer.copyBytes(from: digits[start..<start + wanted])
            return wanted
        }
        let room = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(buffer.count, body - offset)])
        let count = try source.read(at: offset, into: room)
        guard count > 0 else { return 0 }
        hash(UnsafeRawBufferPointer(rebasing: room[..<count]), at: offset)
        return count
    }

    func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        guard offset < source.count else {
            // The digits are there when nothing has to be read for them.
            guard state.withLock({ $0.hashed == source.count }) else { return nil }
            guard let count = try? read(at: offset, into: buffer), count > 0 else { return nil }
            return count
        }
        let room = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(buffer.count, source.count - offset)])
        guard let count = source.readNow(at: offset, into: room) else { return nil }
        hash(UnsafeRawBufferPointer(rebasing: room[..<count]), at: offset)
        return count
    }

    private func hash(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        state.withLock { state in
            if offset == 0 { state = State() }
            // What is read out of turn is hashed when its turn comes.
            guard offset == state.hashed else { return }
            state.hasher.update(bytes)
            state.hashed += bytes.count
        }
    }

    /// The digits; reads what has not come by yet.
    private func digits() throws(VFSError) -> [UInt8] {
        var state = state.withLock { $0 }
        if let digits = state.digits { return digits }
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(1, min(256 << 10, source.count - state.hashed)), alignment: 64)
        defer { buffer.deallocate() }
        while state.hashed < source.count {
            let room = UnsafeMutableRawBufferPointer(
                rebasing: buffer[..<min(buffer.count, source.count - state.hashed)])
            let count = try source.read(at: state.hashed, into: room)
            guard count > 0 else { throw VFSError(.io, "the bytes to upload are fewer than announced") }
            state.hasher.update(UnsafeRawBufferPointer(rebasing: room[..<count]))
            state.hashed += count
        }
        var digits: [UInt8] = []
        Hex.append(state.hasher.finish(), to: &digits)
        state.digits = digits
        let finished = state
        self.state.withLock { $0 = finished }
        return digits
    }
}
