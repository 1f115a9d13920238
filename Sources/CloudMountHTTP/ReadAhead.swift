import CloudMountPlatform
import CloudMountVFS

/// A stretch of a request's body, read where it may block: on a thread of the blocking pool.
final class ReadAhead: ByteSource, @unchecked Sendable {
    // SAFETY: the pool's thread alone touches `bytes` and `outcome` until it pushes the value to the transfer queue, whose
    // lock publishes them; from then on they never change. `isReading` is the transfer thread's alone.

    /// Bytes of one stretch: several of what libcurl takes at once, for each costs a way to another thread and back.
    static let stretch = 512 << 10

    /// Where in the body it begins.
    let offset: Int
    let count: Int
    private let bytes: UnsafeMutableRawBufferPointer
    private(set) var outcome: Result<Void, HTTPError>
    var isReading = true

    init(offset: Int, count: Int) {
        self.offset = offset
        self.count = count
        bytes = .allocate(byteCount: max(1, count), alignment: 64)
        outcome = .success(())
    }

    deinit { bytes.deallocate() }

    var end: Int { offset + count }

    /// Reads all of it. Blocks.
    func fill(from source: any ByteSource) {
        var done = 0
        while done < count {
            let more: Int
            do {
                more = try source.read(
                    at: offset + done, into: UnsafeMutableRawBufferPointer(rebasing: bytes[done..<count]))
            } catch {
                outcome = .failure(
                    HTTPError(.sourceFailed, "the bytes to send cannot be read: \(error.message)"))
                return
            }
            guard more > 0, more <= count - done else {
                outcome = .failure(
                    HTTPError(.sourceFailed, "the bytes to send ended at \(offset + done) of \(source.count)"))
                return
            }
            done += more
        }
    }

    /// - Parameter offset: of the stretch, not of the body.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        let length = max(0, min(buffer.count, count - offset))
        if length > 0 {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length]))
        }
        return length
    }

    func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        let length = read(at: offset, into: buffer)
        return length > 0 ? length : nil
    }
}
