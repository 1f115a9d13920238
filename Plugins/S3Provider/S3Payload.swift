import CloudMountCrypto
import CloudMountPlatform
import CloudMountVFS

/// Hashes of what is uploaded.
enum S3Payload {
    static let unsigned = "UNSIGNED-PAYLOAD"
    static let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    /// Up to here a source whose bytes are there is hashed where it stands; any other on threads that may block.
    static let inlineLimit = 128 << 10
    private static let piece = 256 << 10
    /// Hashed between two looks at whether the task was cancelled.
    private static let stretch = 8 << 20

    /// SHA-256 in hexadecimal digits.
    /// - Throws: `io` when the source fails or is shorter than it said.
    /// - Parameter lane: whom it may hold up on those threads.
    static func sha256(_ source: any ByteSource, lane: String = "hash") async throws(VFSError) -> String {
        if source.count == 0 { return empty }
        return Hex.string(try await digest(source, SHA256(), lane: lane))
    }

    /// Base64, as `Content-MD5` wants it.
    static func md5(_ source: any ByteSource, lane: String = "hash") async throws(VFSError) -> String {
        Base64.encode(try await digest(source, MD5(), lane: lane))
    }

    private static func digest<Hash: Hashing>(
        _ source: any ByteSource, _ hash: Hash, lane: String
    ) async throws(VFSError) -> [UInt8] {
        let count = source.count
        var hasher = hash
        if count > inlineLimit || !hashNow(&hasher, source, count) {
            var offset = 0
            while offset < count {
                if Task.isCancelled { throw .cancelled }
                let extent = Extent(offset, min(count, offset + stretch))
                let before = hasher
                hasher = try await BlockingPool.shared.run(lane) { () throws(VFSError) -> Hash in
                    var hasher = before
                    try update(&hasher, source, extent, buffer: piece)
                    return hasher
                }
                offset = extent.upperBound
            }
        }
        return hasher.finish()
    }

    /// False, and nothing hashed, when not all bytes are there at once.
    private static func hashNow<Hash: Hashing>(
        _ hasher: inout Hash, _ source: any ByteSource, _ count: Int
    ) -> Bool {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
        defer { buffer.deallocate() }
        var done = 0
        while done < count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            guard let more = source.readNow(at: done, into: rest) else { return false }
            done += more
        }
        hasher.update(UnsafeRawBufferPointer(buffer))
        return true
    }

    private static func update<Hash: Hashing>(
        _ hasher: inout Hash, _ source: any ByteSource, _ extent: Extent, buffer size: Int
    ) throws(VFSError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(size, extent.count), alignment: 64)
        defer { buffer.deallocate() }
        var offset = extent.lowerBound
        while offset < extent.upperBound {
            let wanted = min(buffer.count, extent.upperBound - offset)
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
            let count = try source.read(at: offset, into: target)
            guard count > 0 else { throw VFSError(.io, "the bytes to upload are fewer than announced") }
            hasher.update(UnsafeRawBufferPointer(rebasing: target[..<count]))
            offset += count
        }
    }

    /// Base64, as `Content-MD5` wants it.
    static func md5(_ bytes: [UInt8]) -> String { Base64.encode(MD5.digest(bytes)) }
}
