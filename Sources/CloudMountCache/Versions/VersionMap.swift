import CloudMountPlatform
import CloudMountVFS
import Glibc

/// How a version lies on the disk. One of up to a chunk is one file: its bytes, then a trailer. A larger one is a sparse file of its
/// bytes alone, and beside it the map: a header, and an entry for each chunk.
///
/// All numbers are little-endian. An entry of zeros is a chunk that is not there.
enum VersionMap {
    /// Bytes that are there or not as a whole.
    static let chunk = 1 << 20

    /// What the disk says of one chunk.
    struct Entry: Equatable, Sendable {
        var checksum: UInt32
        /// The process that has written the chunk, or has found it whole; never 0.
        var run: UInt32
        /// When it was last used, by the store's count of uses; not on the disk.
        var use: UInt64 = 0

        static func == (a: Entry, b: Entry) -> Bool { a.checksum == b.checksum && a.run == b.run }
    }

    static let headerCount = 24
    static let entryCount = 8
    private static let magic: [UInt8] = Array("cmvers01".utf8)

    static func isSmall(_ size: Int) -> Bool { size <= chunk }
    static func chunks(_ size: Int) -> Int { (size + chunk - 1) / chunk }
    static func extent(_ index: Int, of size: Int) -> Extent { Extent(index * chunk, min(size, (index + 1) * chunk)) }

    /// The map's header; with the entry, also the trailer of a small version.
    static func header(_ size: Int, _ entry: Entry? = nil) -> [UInt8] {
        magic + bytes(UInt64(size)) + encode(entry)
    }

    static func encode(_ entry: Entry?) -> [UInt8] {
        guard let entry else { return [UInt8](repeating: 0, count: entryCount) }
        return bytes(UInt64(entry.checksum) << 32 | UInt64(entry.run))
    }

    /// The size that a header tells.
    static func size(_ header: some Collection<UInt8>) -> Int? {
        guard header.count == headerCount, header.prefix(8).elementsEqual(magic) else { return nil }
        return Int(exactly: word(header.dropFirst(8).prefix(8))).flatMap { $0 <= ObjectInfo.sizeLimit ? $0 : nil }
    }

    /// - Returns: the entry of a trailer; nil when it is not the header of a version of this size.
    static func decode(_ header: some Collection<UInt8>, size: Int) -> Entry?? {
        guard self.size(header) == size else { return nil }
        return .some(entry(header.dropFirst(16)))
    }

    static func entry(_ bytes: some Collection<UInt8>) -> Entry? {
        let word = word(bytes)
        let entry = Entry(checksum: UInt32(truncatingIfNeeded: word >> 32), run: UInt32(truncatingIfNeeded: word))
        return entry.run == 0 ? nil : entry
    }

    /// Where the entry of a chunk is.
    static func offset(_ index: Int) -> Int { headerCount + index * entryCount }

    private static func bytes(_ word: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64($0 * 8)) }
    }

    private static func word(_ bytes: some Collection<UInt8>) -> UInt64 {
        bytes.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
