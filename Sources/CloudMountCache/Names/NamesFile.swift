import CloudMountPlatform
public import CloudMountVFS
import Glibc

/// A file of blocks, each with a checksum, that is read here and there: opening it costs the same whatever its size.
///
/// A block is its CRC-32C and its bytes. At the end of the file: a block that is read first, its length (4 bytes) and a mark of 8. All numbers are
/// little-endian.
public final class NamesFile: Sendable {
    /// Where a block lies.
    public struct Place: Hashable, Sendable {
        public var offset: Int
        /// Bytes, the checksum included.
        public var count: Int

        public init(offset: Int, count: Int) { (self.offset, self.count) = (offset, count) }
    }

    /// Bytes of a block at most: what is read at a time.
    public static let mostOfBlock = 32 << 20
    static let mark: [UInt8] = Array("cmnames1".utf8)
    static let endCount = 12
    static let checksumCount = 4

    private let file: Descriptor
    /// Bytes.
    public let count: Int
    /// Written last.
    public let tail: [UInt8]

    /// Nil when it is no such file, or its end is damaged.
    init?(_ file: Descriptor, count: Int) {
        guard count >= Self.endCount, let end = Self.read(file, count - Self.endCount, Self.endCount),
            end[4...].elementsEqual(Self.mark)
        else { return nil }
        let length = end[..<4].reversed().reduce(0) { $0 << 8 | Int($1) }
        let place = Place(offset: count - Self.endCount - length, count: length)
        guard let tail = Self.block(file, place, of: count - Self.endCount) else { return nil }
        (self.file, self.count, self.tail) = (file, count, tail)
    }

    /// The bytes of a block; nil when there is none, or it is damaged. Blocks.
    public func block(_ place: Place) -> [UInt8]? { Self.block(file, place, of: count) }

    private static func block(_ file: Descriptor, _ place: Place, of count: Int) -> [UInt8]? {
        guard place.offset >= 0, checksumCount...mostOfBlock ~= place.count, place.offset <= count - place.count,
            let bytes = read(file, place.offset, place.count)
        else { return nil }
        let checksum = bytes[..<checksumCount].reversed().reduce(UInt32.zero) {
            $0 << 8 | UInt32(truncatingIfNeeded: $1)
        }
        let content = Array(bytes[checksumCount...])
        return Self.checksum(content) == checksum ? content : nil
    }

    static func checksum(_ bytes: [UInt8]) -> UInt32 {
        var checksum = CRC32C()
        bytes.withUnsafeBytes { checksum.update($0) }
        return checksum.value
    }

    private static func read(_ file: Descriptor, _ offset: Int, _ count: Int) -> [UInt8]? {
        var done = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            while done < count, let start = buffer.baseAddress {
                let got = pread(file.raw, start + done, count - done, offset + done)
                if got < 0, errno == EINTR { continue }
                guard got > 0 else { break }
                done += got
            }
            initialized = done
        }
        return done == count ? bytes : nil
    }
}

/// Writes a `NamesFile`, block after block.
public struct NamesWriter: Sendable {
    private let file: Descriptor
    let path: String
    /// Bytes that the file may have.
    public let limit: Int
    /// Where the next block will lie.
    public private(set) var position = 0
    private var waiting: [UInt8] = []
    private var written = 0
    private static let batch = 1 << 20

    init(_ file: Descriptor, path: String, limit: Int) { (self.file, self.path, self.limit) = (file, path, limit) }

    /// - Throws: `noSpace` when the file would be larger than it may be, or the disk is full; `tooLarge`; `io`.
    public mutating func append(_ block: [UInt8]) throws(VFSError) -> NamesFile.Place {
        let place = NamesFile.Place(offset: position, count: NamesFile.checksumCount + block.count)
        guard place.count <= NamesFile.mostOfBlock else { throw VFSError(.tooLarge, "a block of names is too long") }
        guard position + place.count <= limit else {
            throw VFSError(.noSpace, "what is known of names takes more than \(limit) bytes")
        }
        waiting += Self.bytes(NamesFile.checksum(block))
        waiting += block
        position += place.count
        if waiting.count >= Self.batch { try flush() }
        return place
    }

    mutating func end(_ tail: [UInt8]) throws(VFSError) {
        let place = try append(tail)
        waiting += Self.bytes(UInt32(truncatingIfNeeded: place.count)) + NamesFile.mark
        try flush()
        while fsync(file.raw) != 0 {
            if errno != EINTR { throw localError("\(path) cannot be synced") }
        }
    }

    private mutating func flush() throws(VFSError) {
        let refusal: SystemError? = waiting.withUnsafeBytes { bytes in
            do throws(SystemError) { try file.write(bytes, at: written) } catch { return error }
            return nil
        }
        if let refusal { throw localError("\(path) cannot be written", refusal.code) }
        written += waiting.count
        waiting.removeAll(keepingCapacity: true)
    }

    private static func bytes(_ word: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
    }
}
